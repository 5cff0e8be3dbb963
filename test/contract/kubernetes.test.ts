import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startKubernetesRig } from './kubernetes-rig.ts';
import { type ContractRig, describeScalingProvider, failureOf } from './scaling-provider.contract.ts';

type Kind = 'Deployment' | 'StatefulSet';

function startRig(kind: Kind): Promise<ContractRig> {
  const plural = kind === 'Deployment' ? 'deployments' : 'statefulsets';
  return startKubernetesRig({
    actions: { read: `get ${plural}`, write: `update ${plural}/scale` },
    named: (name, scope = null) => ({
      provider: 'kubernetes',
      scope,
      name: `${kind.toLowerCase()}:default/${name}`,
    }),
    create: (simulator, name, replicas) =>
      kind === 'Deployment'
        ? simulator.createDeployment({ name, replicas })
        : simulator.createStatefulSet({ name, replicas }),
    sizeOf: (simulator, name) => simulator.workload('default', name, kind)?.replicas,
    change: (simulator, { size: replicas, ...change }) =>
      simulator.changeExternally(
        'default',
        'web',
        { ...change, ...(replicas !== undefined && { replicas }) },
        kind,
      ),
  });
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
