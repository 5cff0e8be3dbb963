import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { deleteResource } from '../../api/resources/resources-store.ts';
import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import type { ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import { restoreFloors } from '../../worker/upkeep/restore-floors.ts';
import { kubernetesRole } from '../docs/cloud-permissions.ts';
import { type ExecutionRig, openExecutionRig } from '../support/execution-rig.ts';
import { type KubeApiserver, startKubeApiserver } from './kube-apiserver.ts';

const signal = new AbortController().signal;
const apps = '/apis/apps/v1/namespaces/shop';
const roles = '/apis/rbac.authorization.k8s.io/v1/namespaces/shop/roles';
const hpas = '/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers';
const role = parse(kubernetesRole) as { rules: readonly { apiGroups: string[]; resources: string[] }[] };

const cluster: KubeApiserver | null = await startKubeApiserver().catch((error: Error) => {
  console.log(`test:real: not started: kube-apiserver (${error.message})`);
  return null;
});

const workload = (kind: string, name: string, replicas: number) => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name, namespace: 'shop' },
  spec: {
    replicas,
    ...(kind === 'StatefulSet' ? { serviceName: name } : {}),
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        containers: [{ name: 'c', image: 'x', resources: { requests: { cpu: '500m', memory: '1Gi' } } }],
      },
    },
  },
});

describe.skipIf(cluster === null)('on a real kube-apiserver, with the documented Role alone', () => {
  const api = cluster as KubeApiserver;
  let provider: Kubernetes;
  let rig: ExecutionRig;
  const named = (name: string, actuation?: 'floor'): ProviderTarget => ({
    provider: 'kubernetes',
    scope: null,
    name,
    ...(actuation === undefined ? {} : { actuation }),
  });
  const describeIt = (name: string, actuation?: 'floor') => provider.describe(named(name, actuation), signal);
  const replicasOf = async (name: string) =>
    ((await api.admin('GET', `${apps}/deployments/${name}`)) as { spec: { replicas: number } }).spec.replicas;
  const minimumOf = async () =>
    ((await api.admin('GET', `${hpas}/web`)) as { spec: { minReplicas: number } }).spec.minReplicas;
  const prepare = (from: number, target: number, name: string, actuation = 'desired') =>
    rig.prepare(from, target, {
      name,
      resource_type: 'kubernetes',
      cloud_provider: 'kubernetes',
      region: null,
      actuation,
    });

  beforeAll(async () => {
    await api.admin('POST', '/api/v1/namespaces', {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'shop' },
    });
    await api.admin('POST', roles, role);
    await api.admin('POST', `${roles.replace(/roles$/, 'rolebindings')}`, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'scaler-worker', namespace: 'shop' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'scaler-worker' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'scaler-worker' }],
    });
    await api.admin('POST', `${apps}/deployments`, workload('Deployment', 'checkout', 3));
    await api.admin('POST', `${apps}/statefulsets`, workload('StatefulSet', 'db', 2));
    await api.admin('POST', `${apps}/deployments`, workload('Deployment', 'web', 3));
    await api.admin('POST', hpas, {
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'web', namespace: 'shop' },
      spec: {
        minReplicas: 2,
        maxReplicas: 10,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
      },
    });
    process.env.KUBECONFIG = api.kubeconfig;
    provider = new Kubernetes({ settleMs: 15_000 });
    rig = await openExecutionRig();
  });
  afterAll(async () => {
    await rig?.close();
    await provider?.close();
    await cluster?.close();
  });

  it('reads workloads without KEDA, and their requests', async () => {
    expect(await describeIt('deployment:shop/checkout')).toMatchObject({
      desired: 3,
      blocks: [],
      cpuRequest: '0.5',
      memoryRequest: '1',
    });
    expect(await describeIt('statefulset:shop/db')).toMatchObject({ desired: 2, blocks: [] });
    await expect(describeIt('deployment:shop/nobody')).rejects.toMatchObject({ code: 'target_not_found' });
  });

  it('sets replicas, and loses against whoever wrote in between', async () => {
    const state = await describeIt('deployment:shop/checkout');
    const write = { intentAtMs: Date.now(), signal };
    await provider.setCapacity(named('deployment:shop/checkout'), 5, state, write);
    expect(await replicasOf('checkout')).toBe(5);
    const late = provider.setCapacity(named('deployment:shop/checkout'), 4, state, write);
    await expect(late).rejects.toMatchObject({ fault: 'conflict' });
    expect(await replicasOf('checkout')).toBe(5);
  });

  it.each([
    ['keda.sh', 'scaledobjects'],
    ['autoscaling', 'horizontalpodautoscalers'],
  ])('without the right to list %s %s scales out, and in not, naming the right', async (group, resource) => {
    const rules = role.rules.filter(
      ({ apiGroups, resources }) => !(apiGroups.includes(group) && resources.includes(resource)),
    );
    await api.admin('PATCH', `${roles}/scaler-worker`, { rules });
    const { blocks } = await describeIt('deployment:shop/checkout');
    await api.admin('PATCH', `${roles}/scaler-worker`, { rules: role.rules });
    expect(blocks).toMatchObject([{ code: 'advisory_read_failed', direction: 'down' }]);
    expect(blocks[0]?.message).toContain(`list ${resource} in ${group}`);
  });

  it('refuses what an autoscaler owns, raises its floor instead, and gives it back with the resource', async () => {
    expect((await describeIt('deployment:shop/web')).blocks).toMatchObject([
      { code: 'managed_by_hpa', message: expect.stringContaining('set actuation to floor') },
    ]);
    const { jobId, resourceId } = await prepare(2, 4, 'deployment:shop/web', 'floor');
    expect(await rig.execute(provider, jobId)).toMatchObject({ completion: { outcome: 'succeeded' } });
    expect(await minimumOf()).toBe(4);
    await deleteResource(rig.pool, resourceId, null);
    const restored = await restoreFloors({
      pool: rig.pool,
      providers: new Map([['kubernetes', provider]]),
      workerId: 'worker-1',
      signal,
      stopped: false,
    });
    expect(restored).toEqual({ ended: 1, failed: 0 });
    expect(await minimumOf()).toBe(2);
  });

  it('carries out after an outage what was accepted before it', async () => {
    const from = await replicasOf('checkout');
    const { jobId } = await prepare(from, from + 1, 'deployment:shop/checkout');
    await api.kill();
    for (let run = 0; run < 6; run++)
      expect(await rig.execute(provider, jobId)).toMatchObject({ kind: 'postpone', refund: true });
    await api.start();
    await rig.pool.query('update circuits set open_until = now()');
    expect(await rig.execute(provider, jobId)).toMatchObject({ completion: { outcome: 'succeeded' } });
    expect(await replicasOf('checkout')).toBe(from + 1);
  });
});
