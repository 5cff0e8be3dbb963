import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import { type KubernetesClients, kubernetesClients } from '../simulators/kubernetes/clients.ts';
import {
  type KubernetesSimulator,
  type KubernetesSimulatorOptions,
  startKubernetesSimulator,
} from '../simulators/kubernetes/server.ts';
import { pointKubernetesClientTo } from './point-kubernetes-client.ts';

const signal = new AbortController().signal;
const web = { namespace: 'default', name: 'web' };
let simulator: KubernetesSimulator;
let operator: KubernetesClients;
let provider: Kubernetes;
let forget: () => Promise<void>;

async function start(options: KubernetesSimulatorOptions = {}): Promise<void> {
  await simulator?.close();
  simulator = await startKubernetesSimulator({ timeScale: 0, ...options });
  simulator.createDeployment({ name: 'web', replicas: 3, requests: { cpu: '500m', memory: '512Mi' } });
  operator = kubernetesClients(simulator.kubeconfig);
  forget = await pointKubernetesClientTo({ here: simulator });
  provider = new Kubernetes({ settleMs: 15_000 });
}
beforeEach(() => start());
afterEach(() => Promise.all([simulator.close(), forget()]));

const read = (name = 'deployment:default/web') =>
  provider.describe({ provider: 'kubernetes', scope: null, name }, signal);

function scaledObject(annotations: Record<string, string>) {
  return operator.custom.createNamespacedCustomObject({
    group: 'keda.sh',
    version: 'v1alpha1',
    namespace: 'default',
    plural: 'scaledobjects',
    body: {
      apiVersion: 'keda.sh/v1alpha1',
      kind: 'ScaledObject',
      metadata: { name: 'web', annotations },
      spec: { scaleTargetRef: { name: 'web' }, triggers: [] },
    },
  });
}

describe('what blocks a workload', () => {
  it('is an autoscaler of its own', async () => {
    simulator.createHpa({ name: 'web-hpa', target: { name: 'web' }, maxReplicas: 9 });
    expect((await read()).blocks).toEqual([
      {
        code: 'managed_by_hpa',
        direction: 'both',
        message:
          'The HorizontalPodAutoscaler "web-hpa" controls this workload and would undo the change: delete it first, or set actuation to floor, which raises its minReplicas.',
      },
    ]);
  });

  it('is not the autoscaler of another workload, of another kind or in another namespace', async () => {
    simulator.createHpa({ name: 'a', target: { name: 'api' }, maxReplicas: 9 });
    simulator.createHpa({ name: 'b', target: { kind: 'StatefulSet', name: 'web' }, maxReplicas: 9 });
    simulator.createHpa({ name: 'c', namespace: 'other', target: { name: 'web' }, maxReplicas: 9 });
    simulator.createScaledObject({ name: 'd', target: { name: 'api' } });
    expect((await read()).blocks).toEqual([]);
  });

  it.each([true, false])('is KEDA, whether its autoscaler is there (%s) or not', async (withHpa) => {
    simulator.createScaledObject({ name: 'web-keda', target: { name: 'web' }, withHpa });
    const { blocks } = await read();
    expect(blocks).toMatchObject([{ code: 'managed_by_keda', direction: 'both' }]);
    expect(blocks[0]?.message).toContain('pause it with the annotation autoscaling.keda.sh/paused: "true"');
  });

  it.each<[string, Record<string, string>, boolean]>([
    ['paused', { 'autoscaling.keda.sh/paused': 'true' }, false],
    ['not paused any more', { 'autoscaling.keda.sh/paused': 'false' }, true],
    [
      'paused at a number, which KEDA keeps',
      { 'autoscaling.keda.sh/paused': 'true', 'autoscaling.keda.sh/paused-replicas': '2' },
      true,
    ],
  ])('is KEDA %s', async (_what, annotations, blocks) => {
    await scaledObject(annotations);
    expect((await read()).blocks).toHaveLength(blocks ? 1 : 0);
  });

  it('is nothing where KEDA is not installed', async () => {
    await start({ keda: false });
    expect((await read()).blocks).toEqual([]);
  });

  it.each([
    ['list horizontalpodautoscalers', 'list horizontalpodautoscalers in autoscaling'],
    ['list scaledobjects', 'list scaledobjects in keda.sh'],
  ])('is scaling in alone, without the right to %s, which is named', async (action, permission) => {
    simulator.faults.add({ action, effect: { kind: 'error', status: 403, code: 'Forbidden' } });
    const { blocks } = await read();
    expect(blocks).toMatchObject([{ code: 'advisory_read_failed', direction: 'down' }]);
    expect(blocks[0]?.message).toMatch(/nothing is scaled in: .*Role lacks this permission/);
    expect(blocks[0]?.message).toContain(`It takes the permission ${permission}.`);
  });

  it.each([
    ['a page that is no answer', { kind: 'html', status: 200 }],
    ['a server error', { kind: 'error', status: 500, code: 'InternalError' }],
  ] as const)('is scaling in after %s to an advisory read', async (_, effect) => {
    for (const action of ['list horizontalpodautoscalers', 'list scaledobjects']) {
      simulator.faults.add({ action, effect, count: 1 });
      expect((await read()).blocks).toMatchObject([{ code: 'advisory_read_failed', direction: 'down' }]);
    }
  });

  it('is everything where the floor itself cannot be read', async () => {
    simulator.faults.add({
      action: 'list horizontalpodautoscalers',
      effect: { kind: 'error', status: 403, code: 'Forbidden' },
    });
    const target = {
      provider: 'kubernetes',
      scope: null,
      name: 'deployment:default/web',
      actuation: 'floor',
    } as const;
    await expect(provider.describe(target, signal)).rejects.toMatchObject({ code: 'kubernetes_denied' });
  });

  it('is not a paused rollout: a paused Deployment scales all the same', async () => {
    await operator.apps.patchNamespacedDeployment(
      { ...web, body: { spec: { paused: true } } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
    const state = await read();
    expect(state.blocks).toEqual([]);
    await provider.setCapacity(
      { provider: 'kubernetes', scope: null, name: 'deployment:default/web' },
      4,
      state,
      { intentAtMs: Date.now(), signal },
    );
    simulator.clock.advance(60_000);
    expect(await read()).toMatchObject({ desired: 4, ready: 4 });
  });
});

describe('what a workload is', () => {
  it('has no bounds of its own, a fence, and what a pod requests', async () => {
    const { metadata } = await operator.apps.readNamespacedDeployment(web);
    expect(await read()).toEqual({
      desired: 3,
      ready: 3,
      min: 0,
      max: null,
      blocks: [],
      fence: {
        uid: metadata?.uid,
        resourceVersion: metadata?.resourceVersion,
        generation: metadata?.generation,
      },
      instanceType: null,
      cpuRequest: '0.5',
      memoryRequest: '0.5',
    });
  });

  it('counts a change of its size, also one that is undone, but not of its status', async () => {
    const scale = (replicas: number) =>
      operator.apps.patchNamespacedDeploymentScale(
        { ...web, body: { spec: { replicas } } },
        setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
      );
    const { fence: before } = await read();
    await scale(5);
    await scale(3);
    const { fence: undone } = await read();
    expect(undone.generation).toBe((before.generation ?? 0) + 2);
    simulator.clock.advance(60_000);
    const { fence: stirred } = await read();
    expect(stirred.generation).toBe(undone.generation);
    expect(stirred.resourceVersion).not.toBe(undone.resourceVersion);
  });

  it('sums the requests over its containers', async () => {
    await operator.apps.patchNamespacedDeployment(
      {
        ...web,
        body: {
          spec: {
            template: {
              spec: {
                containers: [
                  { name: 'proxy', image: 'p', resources: { requests: { cpu: '1', memory: '1Gi' } } },
                ],
              },
            },
          },
        },
      },
      setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
    );
    expect(await read()).toMatchObject({ cpuRequest: '1.5', memoryRequest: '1.5' });
  });

  it('may request nothing, or what nobody can read, and is read all the same', async () => {
    simulator.createDeployment({ name: 'bare' });
    simulator.createDeployment({ name: 'odd', requests: { cpu: '1k' } });
    expect(await read('deployment:default/bare')).toMatchObject({ cpuRequest: null, memoryRequest: null });
    expect(await read('deployment:default/odd')).toMatchObject({ cpuRequest: '1000' });
  });

  it('counts as ready the pods that are, not those that start', async () => {
    simulator.changeExternally('default', 'web', { replicas: 5 });
    expect(await read()).toMatchObject({ desired: 5, ready: 3 });
    simulator.clock.advance(60_000);
    expect(await read()).toMatchObject({ desired: 5, ready: 5 });
  });

  it('may be a StatefulSet of the same name, with its own autoscaler', async () => {
    simulator.createStatefulSet({ name: 'web', replicas: 2, requests: { cpu: '2' } });
    simulator.createHpa({ name: 'of-the-set', target: { kind: 'StatefulSet', name: 'web' }, maxReplicas: 4 });
    expect(await read('statefulset:default/web')).toMatchObject({
      desired: 2,
      cpuRequest: '2',
      blocks: [{ code: 'managed_by_hpa' }],
    });
    expect((await read()).blocks).toEqual([]);
  });

  it('may be scaled to nothing', async () => {
    simulator.changeExternally('default', 'web', { replicas: 0 });
    expect(await read()).toMatchObject({ desired: 0 });
  });

  it('is asked for with three requests side by side', async () => {
    await read();
    const actions = simulator.ledger.requests().map(({ action }) => action);
    expect(actions.sort()).toEqual([
      'get deployments',
      'list horizontalpodautoscalers',
      'list scaledobjects',
    ]);
  });
});
