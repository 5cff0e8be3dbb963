import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import type { ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import type { TransportEffect } from '../simulators/core/fault-script.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from '../simulators/kubernetes/server.ts';
import { watchClientSockets } from './client-sockets.ts';
import { pointKubernetesClientTo } from './point-kubernetes-client.ts';
import {
  type ContractRig,
  describeScalingProvider,
  failureOf,
  testLimits,
} from './scaling-provider.contract.ts';

type Kind = 'Deployment' | 'StatefulSet';

async function startRig(kind: Kind): Promise<ContractRig> {
  const here = await startKubernetesSimulator({ timeScale: 0, startJitter: 0 });
  const there = await startKubernetesSimulator({ timeScale: 0 });
  const forget = await pointKubernetesClientTo({ here, there });
  const create = (simulator: KubernetesSimulator, name: string, replicas: number) =>
    kind === 'Deployment'
      ? simulator.createDeployment({ name, replicas })
      : simulator.createStatefulSet({ name, replicas });
  create(here, 'web', 3);
  create(there, 'web', 5);
  const plural = kind === 'Deployment' ? 'deployments' : 'statefulsets';
  const actions = { read: `get ${plural}`, write: `update ${plural}/scale` } as const;
  const named = (name: string, scope: string | null = null): ProviderTarget => ({
    provider: 'kubernetes',
    scope,
    name: `${kind.toLowerCase()}:default/${name}`,
  });
  const sockets = watchClientSockets([here.port, there.port]);
  const error = (status: number, code: string): TransportEffect => ({ kind: 'error', status, code });
  return {
    provider: new Kubernetes({ settleMs: 15_000, limits: testLimits }),
    target: named('web'),
    elsewhere: named('web', 'there'),
    missing: named('nobody'),
    answers: {
      conflict: error(409, 'Conflict'),
      denied: error(403, 'Forbidden'),
      unauthenticated: error(401, 'Unauthorized'),
      rejected: error(422, 'Invalid'),
    },
    add(name, replicas) {
      create(here, name, replicas);
      return named(name);
    },
    onNext: (verb, effect, count = 1) => here.faults.add({ action: actions[verb], count, effect }),
    size: ({ name, scope }) =>
      (scope === null ? here : there).workload('default', name.split('/')[1] ?? '', kind)?.replicas,
    requests: (verb) => here.ledger.requests().filter(({ action }) => action === actions[verb]).length,
    applied: () =>
      here.ledger
        .writes()
        .filter(({ requestId }) => requestId !== null)
        .map(({ to }) => to),
    somebodyElse: ({ size, ...change }) =>
      here.changeExternally(
        'default',
        'web',
        { ...change, ...(size === undefined ? {} : { replicas: size }) },
        kind,
      ),
    openSockets: () => sockets.open(),
    async close() {
      sockets.stop();
      await Promise.all([here.close(), there.close(), forget()]);
    },
  };
}

describeScalingProvider('Kubernetes Deployment', () => startRig('Deployment'));
describeScalingProvider('Kubernetes StatefulSet', () => startRig('StatefulSet'));

describe('Kubernetes in particular', () => {
  let rig: ContractRig;
  const signal = new AbortController().signal;
  beforeEach(async () => {
    rig = await startRig('Deployment');
  });
  afterEach(() => rig.close());
  const set = (instances: number, expected: Parameters<ContractRig['provider']['setCapacity']>[2]) =>
    rig.provider.setCapacity(rig.target, instances, expected, { intentAtMs: Date.now(), signal });

  it('loses against whoever changed the workload after it was read', async () => {
    const expected = await rig.provider.describe(rig.target, signal);
    await rig.somebodyElse({ size: 4 });
    expect(await failureOf(set(5, expected))).toMatchObject({ fault: 'conflict', retry: 'backoff' });
    expect([rig.size(rig.target), rig.applied()]).toEqual([4, []]);
  });

  it('does not scale another workload of the same name', async () => {
    const expected = await rig.provider.describe(rig.target, signal);
    await rig.somebodyElse({ recreate: true });
    expect(await failureOf(set(5, expected))).toMatchObject({ fault: 'conflict' });
    expect(rig.size(rig.target)).toBe(3);
  });

  it('knows another workload by its uid alone', async () => {
    const { fence: old } = await rig.provider.describe(rig.target, signal);
    await rig.somebodyElse({ recreate: true });
    const expected = await rig.provider.describe(rig.target, signal);
    const mixed = { ...expected, fence: { ...expected.fence, uid: old.uid as string } };
    expect(await failureOf(set(5, mixed))).toMatchObject({ fault: 'conflict' });
    expect(rig.size(rig.target)).toBe(3);
  });

  it('writes nothing without the fence', async () => {
    const expected = await rig.provider.describe(rig.target, signal);
    expect(await failureOf(set(5, { ...expected, fence: {} }))).toMatchObject({ code: 'fence_missing' });
    expect(rig.requests('write')).toBe(0);
  });

  it.each([
    ['a name of no kind', { name: 'web' }, 'target_name'],
    ['an unknown kind', { name: 'job:default/web' }, 'target_name'],
    ['a path in the name', { name: 'deployment:default/../../secrets' }, 'target_name'],
    ['an unknown context', { scope: 'nowhere' }, 'kubernetes_not_configured'],
  ])('refuses %s before it asks anybody', async (_what, change, code) => {
    const target = { ...rig.target, ...change };
    expect((await failureOf(rig.provider.describe(target, signal))).code).toBe(code);
    expect(await rig.provider.describeMany([target, rig.target], signal)).toMatchObject([
      { code },
      { desired: 3 },
    ]);
  });
});
