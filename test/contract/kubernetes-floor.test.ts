import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findJob } from '../../api/jobs/jobs-store.ts';
import { deleteResource } from '../../api/resources/resources-store.ts';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import type { ProviderTarget, ScalingProvider } from '../../worker/providers/scaling-provider.ts';
import { restoreFloors } from '../../worker/upkeep/restore-floors.ts';
import { startAwsSimulator } from '../simulators/aws/server.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from '../simulators/kubernetes/server.ts';
import { openExecutionRig } from '../support/execution-rig.ts';
import { forFile } from '../support/for-file.ts';
import { operatorAgent, startKubernetesRig } from './kubernetes-rig.ts';
import { pointAwsSdkTo } from './point-aws-sdk.ts';
import { pointKubernetesClientTo } from './point-kubernetes-client.ts';
import { describeScalingProvider, failureOf } from './scaling-provider.contract.ts';

const signal = new AbortController().signal;
const writing = 'patch horizontalpodautoscalers';

function floorTarget(name: string, scope: string | null = null): ProviderTarget {
  return { provider: 'kubernetes', scope, name: `deployment:default/${name}`, actuation: 'floor' };
}

/** The last the ledger knows of an autoscaler's floor. */
function floorOf(simulator: KubernetesSimulator, name: string): number | undefined {
  return simulator.ledger.writes().findLast((entry) => entry.name === `${name}-hpa`)?.to ?? undefined;
}

/** What a person with kubectl does to the autoscaler of `web`. */
async function operate(simulator: KubernetesSimulator, method: string, spec?: object): Promise<void> {
  const folder = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers';
  const answer = await fetch(`${simulator.url}${folder}/web-hpa`, {
    method,
    headers: { 'content-type': 'application/merge-patch+json', 'user-agent': operatorAgent },
    ...(spec === undefined ? {} : { body: JSON.stringify({ spec }) }),
  });
  expect(answer.status).toBe(200);
}

function create(simulator: KubernetesSimulator, name: string, minReplicas: number): void {
  simulator.createDeployment({ name, replicas: minReplicas });
  simulator.createHpa({ name: `${name}-hpa`, target: { name }, minReplicas, maxReplicas: 9 });
}

const startRig = () =>
  startKubernetesRig({
    actions: { read: 'get deployments', write: writing },
    named: floorTarget,
    create,
    sizeOf: floorOf,
    async change(simulator, { size, recreate, remove }) {
      if (size !== undefined) await operate(simulator, 'PATCH', { minReplicas: size });
      if (recreate === true || remove === true) await operate(simulator, 'DELETE');
      if (recreate === true)
        simulator.createHpa({ name: 'web-hpa', target: { name: 'web' }, minReplicas: 3, maxReplicas: 9 });
    },
  });

describeScalingProvider('the floor of a Kubernetes autoscaler', startRig);

describe('the floor of a Kubernetes autoscaler in particular', () => {
  let simulator: KubernetesSimulator;
  let provider: Kubernetes;
  let forget: () => Promise<void>;

  beforeEach(async () => {
    simulator = await startKubernetesSimulator({ timeScale: 0, startDelayMs: 1_000 });
    forget = await pointKubernetesClientTo({ here: simulator });
    provider = new Kubernetes({ settleMs: 15_000 });
    simulator.createDeployment({ name: 'web', replicas: 4, requests: { cpu: '500m', memory: '1Gi' } });
  });
  afterEach(() => Promise.all([simulator.close(), forget()]));
  const read = () => provider.describe(floorTarget('web'), signal);
  const hpa = (more: object = {}) =>
    simulator.createHpa({
      name: 'web-hpa',
      target: { name: 'web' },
      minReplicas: 2,
      maxReplicas: 9,
      ...more,
    });
  const set = async (instances: number) =>
    provider.setCapacity(floorTarget('web'), instances, await read(), { intentAtMs: Date.now(), signal });

  it("is the autoscaler's minimum, between 1 and its maximum, with its own fence", async () => {
    const { metadata } = hpa();
    expect(await read()).toEqual({
      desired: 2,
      ready: 4,
      min: 1,
      max: 9,
      blocks: [],
      fence: { autoscaler: 'web-hpa', uid: metadata.uid, resourceVersion: metadata.resourceVersion },
      instanceType: null,
      cpuRequest: '0.5',
      memoryRequest: '1',
    });
  });

  it('raises the workload through its autoscaler, and leaves the rest of that one as it was', async () => {
    const before = hpa();
    await set(6);
    simulator.clock.advance(16_000);
    expect(simulator.workload('default', 'web')?.replicas).toBe(6);
    const url = `${simulator.url}/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web-hpa`;
    const after = (await (await fetch(url)).json()) as typeof before;
    expect(after.spec).toEqual({ ...(before.spec as object), minReplicas: 6 });
    expect(simulator.ledger.requests().filter(({ action }) => action.startsWith('update'))).toEqual([]);
  });

  it('loses against whoever changed the autoscaler after it was read, or made another one', async () => {
    hpa();
    const expected = await read();
    await operate(simulator, 'PATCH', { maxReplicas: 20 });
    const write = () =>
      provider.setCapacity(floorTarget('web'), 6, expected, { intentAtMs: Date.now(), signal });
    expect(await failureOf(write())).toMatchObject({ fault: 'conflict' });
    await operate(simulator, 'DELETE');
    hpa();
    expect(await failureOf(write())).toMatchObject({ fault: 'conflict' });
    expect(floorOf(simulator, 'web')).toBe(2);
  });

  it("never goes above the autoscaler's maximum, and asks nobody to try", async () => {
    hpa({ maxReplicas: 5 });
    expect(await failureOf(set(6))).toMatchObject({ fault: 'permanent', code: 'out_of_bounds' });
    expect(simulator.ledger.requests().filter(({ action }) => action === writing)).toEqual([]);
    await set(5);
    expect(floorOf(simulator, 'web')).toBe(5);
  });

  it('writes nothing with the fence of the workload itself', async () => {
    hpa();
    const desired = await provider.describe({ ...floorTarget('web'), actuation: 'desired' }, signal);
    const write = provider.setCapacity(floorTarget('web'), 6, desired, { intentAtMs: Date.now(), signal });
    expect(await failureOf(write)).toMatchObject({ fault: 'pre_send', code: 'fence_missing' });
  });

  it.each<[string, string, () => void]>([
    ['there is no autoscaler', 'no_autoscaler', () => {}],
    [
      'there are several',
      'several_autoscalers',
      () => {
        hpa();
        hpa({ name: 'second' });
      },
    ],
    [
      'it is KEDA’s',
      'managed_by_keda',
      () => void simulator.createScaledObject({ name: 'web', target: { name: 'web' }, withHpa: true }),
    ],
    [
      'it sleeps',
      'autoscaler_asleep',
      () => {
        hpa();
        simulator.changeExternally('default', 'web', { replicas: 0 });
      },
    ],
  ])('is blocked when %s, and says what to do', async (_what, code, prepare) => {
    prepare();
    const { blocks } = await read();
    expect(blocks.map((block) => block.code)).toEqual([code]);
    expect(blocks[0]?.message).toMatch(/: .+\.$/);
  });
});

const rig = forFile(await openExecutionRig());

describe('carrying out a decision with actuation floor', () => {
  async function execute(
    provider: ScalingProvider,
    from: number,
    target: number,
    values: Record<string, unknown>,
  ) {
    const { jobId } = await rig.prepare(from, target, { actuation: 'floor', ...values });
    await rig.execute(provider, jobId, { onUnclassified: (error) => expect.fail(String(error)) });
    return await findJob(rig.pool, jobId);
  }

  const resource = {
    name: 'deployment:default/web',
    resource_type: 'kubernetes',
    cloud_provider: 'kubernetes',
    region: null,
  };

  it('raises the floor of the autoscaler, which desired refuses to touch', async () => {
    const simulator = await startKubernetesSimulator({ timeScale: 0 });
    const forget = await pointKubernetesClientTo({ here: simulator });
    simulator.createDeployment({ name: 'web', replicas: 4 });
    simulator.createHpa({ name: 'web-hpa', target: { name: 'web' }, minReplicas: 2, maxReplicas: 5 });
    const provider = new Kubernetes({ settleMs: 15_000 });
    const job = await execute(provider, 2, 4, resource);
    expect(job).toMatchObject({
      status: 'completed',
      result: { event: { action: 'ScaleUp', previous_instances: 2, new_instances: 4, success: true } },
    });
    expect(floorOf(simulator, 'web')).toBe(4);
    await rig.pool.query(`delete from attempts`);
    await rig.pool.query(`update resources set name = name || '-old', last_effect_at = '-infinity'`);
    const tooHigh = await execute(provider, 4, 6, resource);
    expect(tooHigh?.error).toMatchObject({ code: 'out_of_bounds', context: { min: 1, max: 5 } });
    await rig.pool.query(`update resources set name = name || '-older'`);
    const refused = await execute(provider, 4, 5, { ...resource, actuation: 'desired' });
    expect(refused?.error).toMatchObject({ code: 'managed_by_hpa' });
    expect(simulator.ledger.requests().filter(({ action }) => action === writing)).toHaveLength(1);
    await Promise.all([simulator.close(), forget()]);
  });

  it('raises the MinSize of an Auto Scaling group, and gives it back with the resource', async () => {
    const simulator = await startAwsSimulator({
      timeScale: 0,
      groups: [{ name: 'web', min: 1, max: 9, desired: 3 }],
    });
    pointAwsSdkTo(simulator.endpoint);
    const provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 330_000 });
    expect(await execute(provider, 1, 4, { name: 'web' })).toMatchObject({ status: 'completed' });
    expect(simulator.group('web')).toMatchObject({ min: 4 });
    await forgetResources();
    expect(await restore(provider)).toEqual({ ended: 1, failed: 0 });
    expect(simulator.group('web')).toMatchObject({ min: 1 });
    await provider.close();
    await simulator.close();
  });

  describe('is a lease, which', () => {
    let simulator: KubernetesSimulator;
    let forget: () => Promise<void>;
    let provider: Kubernetes;
    beforeEach(async () => {
      simulator = await startKubernetesSimulator({ timeScale: 0 });
      forget = await pointKubernetesClientTo({ here: simulator });
      create(simulator, 'web', 2);
      provider = new Kubernetes({ settleMs: 15_000 });
      await rig.pool.query('delete from floor_leases');
      await rig.pool.query(`update resources set name = id::text`);
      expect(await execute(provider, 2, 4, resource)).toMatchObject({ status: 'completed' });
    });
    afterEach(async () => {
      await Promise.all([simulator.close(), forget()]);
    });

    it.each<[string, () => Promise<unknown>]>([
      ['its resource is deleted', () => forgetResources()],
      ['its actuation is changed', () => rig.pool.query(`update resources set actuation = 'desired'`)],
      [
        'nobody has decided for an hour',
        async () => {
          await rig.pool.query(`update scaling_decisions set created_at = now() - interval '2 hours'`);
          await rig.pool.query('update floor_leases set expires_at = now()');
        },
      ],
    ])('gives the old value back once %s', async (_, end) => {
      expect(await restore(provider)).toEqual({ ended: 0, failed: 0 });
      await end();
      expect(await restore(provider)).toEqual({ ended: 1, failed: 0 });
      expect(floorOf(simulator, 'web')).toBe(2);
      expect(await outcomes()).toEqual(['floor_restoring', 'floor_restored']);
      expect(await restore(provider)).toEqual({ ended: 0, failed: 0 });
    });

    it('keeps what somebody else has set since', async () => {
      await operate(simulator, 'PATCH', { minReplicas: 3 });
      await forgetResources();
      expect(await restore(provider)).toEqual({ ended: 1, failed: 0 });
      expect(floorOf(simulator, 'web')).toBe(3);
      expect(await outcomes()).toEqual(['floor_kept']);
    });

    it('ends with its autoscaler', async () => {
      await operate(simulator, 'DELETE');
      await forgetResources();
      expect(await restore(provider)).toEqual({ ended: 1, failed: 0 });
      expect(await outcomes()).toEqual(['floor_gone']);
    });

    it('is tried again when the cloud is away, and waits for stops and freezes', async () => {
      await forgetResources();
      await rig.pool.query(
        `insert into controls (scope, stopped, reason, actor) values ('global', true, 'drill', 'test')`,
      );
      expect(await restore(provider)).toEqual({ ended: 0, failed: 0 });
      await rig.pool.query('delete from controls');
      expect(await restoreFloors({ ...deps(provider), stopped: true })).toEqual({ ended: 0, failed: 0 });
      simulator.faults.add({ action: 'list horizontalpodautoscalers', count: 1, effect: { kind: 'reset' } });
      expect(await restore(provider)).toEqual({ ended: 0, failed: 1 });
      await rig.pool.query('update floor_leases set claimed_until = null');
      expect(await restore(provider)).toEqual({ ended: 1, failed: 0 });
      expect(floorOf(simulator, 'web')).toBe(2);
    });
  });

  const deps = (provider: ScalingProvider) => ({
    pool: rig.pool,
    providers: new Map([[provider.name, provider]]),
    workerId: 'worker-1',
    signal,
    stopped: false,
  });
  const restore = (provider: ScalingProvider) => restoreFloors(deps(provider));
  /** As the API does it; their history stays. */
  async function forgetResources(): Promise<void> {
    const { rows } = await rig.pool.query<{ id: string }>('select id from resources');
    for (const { id } of rows) await deleteResource(rig.pool, id, null);
  }
  async function outcomes(): Promise<string[]> {
    const { rows } = await rig.pool.query<{ outcome: string }>(
      `select outcome from scaling_events where outcome like 'floor%'
        and resource_id = (select resource_id from scaling_events order by seq desc limit 1) order by seq`,
    );
    return rows.map(({ outcome }) => outcome);
  }
});
