import {
  AppsV1Api,
  AutoscalingV2Api,
  CustomObjectsApi,
  KubeConfig,
  Observable,
  PatchStrategy,
  type RequestContext,
  type ResponseContext,
  type V1Scale,
} from '@kubernetes/client-node';
import { kubernetesNamePattern } from '../../shared/domain/resource.ts';
import { withDeadline } from '../resilience/deadline.ts';
import { type AdvisoryRead, advisory, advisoryShare } from './advisory-read.ts';
import { type CallLimits, callLimits } from './call-limits.ts';
import { mapConcurrently } from './concurrent-map.ts';
import { classifyKubernetesError } from './kubernetes-errors.ts';
import { floorOf } from './kubernetes-floor.ts';
import { autoscalersOf, hasScaledObject, ownerBlocks, type WorkloadName } from './kubernetes-owners.ts';
import { requestedBy } from './kubernetes-requests.ts';
import { ProviderError } from './provider-error.ts';
import { requestNotSent } from './request-not-sent.ts';
import type { Actuation, Block, CapacityState, ProviderTarget, ScalingProvider } from './scaling-provider.ts';

/** Each is three small requests; a cluster of a thousand workloads is read within seconds. */
const describesAtOnce = 8;

interface Clients {
  readonly apps: AppsV1Api;
  readonly autoscaling: AutoscalingV2Api;
  readonly custom: CustomObjectsApi;
}

/**
 * Deployments and StatefulSets through their scale subresource, or through the floor of their autoscaler. The cluster
 * is a kubeconfig context, or where we run.
 */
export class Kubernetes implements ScalingProvider {
  readonly name = 'kubernetes' as const;
  readonly settleMs: number;
  readonly #clients = new Map<string, Clients>();
  readonly #limits: CallLimits;

  constructor(options: { readonly settleMs: number; readonly limits?: CallLimits }) {
    this.#limits = options.limits ?? callLimits;
    this.settleMs = options.settleMs;
  }

  async describe(target: ProviderTarget, signal: AbortSignal): Promise<CapacityState> {
    const workload = workloadOf(target.name);
    const clients = this.#client(target.scope);
    try {
      return await withDeadline(signal, this.#limits.readMs, (limited) =>
        this.#stateOf(clients, workload, target.actuation ?? 'desired', limited),
      );
    } catch (error) {
      throw classifyKubernetesError(error, 'read');
    }
  }

  async describeMany(
    targets: readonly ProviderTarget[],
    signal: AbortSignal,
  ): Promise<(CapacityState | Error)[]> {
    const results: (CapacityState | Error)[] = [];
    let late: unknown;
    const contexts = new Set(targets.map(({ scope }) => scope));
    const describeContext = async (context: string | null, limited: AbortSignal): Promise<void> => {
      const mine = [...targets.entries()].filter(([, { scope }]) => scope === context);
      await mapConcurrently(mine, describesAtOnce, async ([index, target]) => {
        results[index] = await this.describe(target, limited).catch((error: ProviderError) => error);
      });
    };
    // A cluster that does not answer must not keep the others waiting.
    await withDeadline(signal, this.#limits.manyMs, (limited) =>
      Promise.all([...contexts].map((context) => describeContext(context, limited))),
    ).catch((error: unknown) => {
      late = error;
    });
    return targets.map((_, index) => results[index] ?? classifyKubernetesError(late, 'read'));
  }

  async setCapacity(
    target: ProviderTarget,
    instances: number,
    expected: CapacityState,
    options: { readonly intentAtMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    if (options.signal.aborted) throw requestNotSent();
    const workload = workloadOf(target.name);
    const clients = this.#client(target.scope);
    const floor = target.actuation === 'floor';
    if (floor && expected.max !== null && instances > expected.max)
      throw floorAboveMaximum(instances, expected.max);
    try {
      const written = await withDeadline(options.signal, this.#limits.writeMs, (limited) =>
        floor
          ? this.#writeFloor(
              clients,
              workload,
              instances,
              expected.fence,
              callOptions(limited, PatchStrategy.MergePatch),
            )
          : this.#writeReplicas(clients, workload, instances, expected.fence, callOptions(limited)),
      );
      if (written !== instances)
        throw new Error(`the answer speaks of ${written ?? 'no'} replicas, not of ${instances}`);
    } catch (error) {
      throw classifyKubernetesError(error, 'write');
    }
  }

  async close(): Promise<void> {
    this.#clients.clear();
  }

  async #stateOf(
    clients: Clients,
    workload: WorkloadName,
    actuation: Actuation,
    signal: AbortSignal,
  ): Promise<CapacityState> {
    const options = callOptions(signal);
    const key = { namespace: workload.namespace, name: workload.name };
    const [object, autoscalers, scaledObject] = await Promise.all([
      workload.kind === 'deployment'
        ? clients.apps.readNamespacedDeployment(key, options)
        : clients.apps.readNamespacedStatefulSet(key, options),
      actuation === 'floor'
        ? autoscalersOf(clients.autoscaling, workload, options).then((answer) => ({ answer }))
        : this.#advisory(
            (limited) => autoscalersOf(clients.autoscaling, workload, limited),
            autoscalersRead,
            signal,
          ),
      actuation === 'floor'
        ? { answer: false }
        : this.#advisory(
            (limited) => hasScaledObject(clients.custom, workload, limited),
            scaledObjectsRead,
            signal,
          ),
    ]);
    const { uid, resourceVersion, generation, deletionTimestamp } = object.metadata ?? {};
    if (uid === undefined || resourceVersion === undefined)
      throw new Error('the answer is no Kubernetes object: look for a proxy in between');
    const state: CapacityState = {
      desired: object.spec?.replicas ?? 1,
      ready: object.status?.readyReplicas ?? 0,
      min: 0,
      max: null,
      blocks: deletionTimestamp === undefined ? [] : [beingDeleted],
      fence: { uid, resourceVersion, ...(generation === undefined ? {} : { generation }) },
      instanceType: null,
      cpuRequest: requestedBy(object.spec?.template?.spec, 'cpu'),
      memoryRequest: requestedBy(object.spec?.template?.spec, 'memory'),
    };
    const owners = 'gap' in autoscalers ? [] : autoscalers.answer;
    if (actuation === 'floor') return floorOf(state, owners);
    const scaled = 'gap' in scaledObject ? false : scaledObject.answer;
    const gaps = [autoscalers, scaledObject].flatMap((found) => ('gap' in found ? [found.gap] : []));
    return { ...state, blocks: [...state.blocks, ...ownerBlocks(owners, scaled), ...gaps] };
  }

  #advisory<T>(
    read: (options: CallOptions) => Promise<T>,
    about: Omit<AdvisoryRead, 'limitMs'>,
    signal: AbortSignal,
  ): ReturnType<typeof advisory<T>> {
    return advisory(
      (limited) => read(callOptions(limited)),
      { ...about, limitMs: this.#limits.readMs * advisoryShare },
      signal,
      (error) => classifyKubernetesError(error, 'read'),
    );
  }

  async #writeReplicas(
    { apps }: Clients,
    workload: WorkloadName,
    replicas: number,
    fence: CapacityState['fence'],
    options: CallOptions,
  ): Promise<number | undefined> {
    const { uid, resourceVersion } = fence;
    if (uid === undefined || resourceVersion === undefined) throw fenceMissing();
    const body: V1Scale = {
      apiVersion: 'autoscaling/v1',
      kind: 'Scale',
      // The API server refuses the write when either has changed since the read.
      metadata: { name: workload.name, namespace: workload.namespace, uid, resourceVersion },
      spec: { replicas },
    };
    const request = { namespace: workload.namespace, name: workload.name, body };
    const written =
      workload.kind === 'deployment'
        ? await apps.replaceNamespacedDeploymentScale(request, options)
        : await apps.replaceNamespacedStatefulSetScale(request, options);
    return written.spec?.replicas;
  }

  /**
   * A merge patch, not a PUT: the whole object would have to be read and sent back, and what this client's version does
   * not know of it would be lost. The resourceVersion alone fences it: no other object ever has the same.
   */
  async #writeFloor(
    { autoscaling }: Clients,
    workload: WorkloadName,
    minReplicas: number,
    fence: CapacityState['fence'],
    options: CallOptions,
  ): Promise<number | undefined> {
    const { autoscaler, resourceVersion } = fence;
    if (autoscaler === undefined || resourceVersion === undefined) throw fenceMissing();
    const body = { metadata: { resourceVersion }, spec: { minReplicas } };
    const request = { namespace: workload.namespace, name: autoscaler, body };
    const written = await autoscaling.patchNamespacedHorizontalPodAutoscaler(request, options);
    return written.spec?.minReplicas;
  }

  #client(context: string | null): Clients {
    const known = this.#clients.get(context ?? '');
    if (known !== undefined) return known;
    const config = new KubeConfig();
    try {
      config.loadFromDefault();
      if (context !== null) {
        if (config.getContextObject(context) === null)
          throw new Error(`the kubeconfig has no context ${JSON.stringify(context)}`);
        config.setCurrentContext(context);
      }
      const clients = {
        apps: config.makeApiClient(AppsV1Api),
        autoscaling: config.makeApiClient(AutoscalingV2Api),
        custom: config.makeApiClient(CustomObjectsApi),
      };
      this.#clients.set(context ?? '', clients);
      return clients;
    } catch (error) {
      throw new ProviderError(
        'identity',
        'kubernetes_not_configured',
        `This worker cannot reach the cluster ${context ?? '(default)'}: set KUBECONFIG or run it in the cluster. (${(error as Error).message})`,
        { cause: error },
      );
    }
  }
}

type CallOptions = NonNullable<Parameters<AppsV1Api['readNamespacedDeployment']>[1]>;

const autoscalersRead = {
  question: 'whether a HorizontalPodAutoscaler controls this workload',
  permission: 'list horizontalpodautoscalers in autoscaling',
};
const scaledObjectsRead = {
  question: 'whether a KEDA ScaledObject controls this workload',
  permission: 'list scaledobjects in keda.sh',
};

const beingDeleted: Block = {
  code: 'workload_deleting',
  direction: 'both',
  message: 'The workload is being deleted: remove the resource.',
};

/** client-node takes no signal, and no content type for a patch: a middleware puts them into each request. */
function callOptions(signal: AbortSignal, contentType?: string): CallOptions {
  return {
    middleware: [
      {
        pre: (context: RequestContext) => {
          context.setSignal(signal);
          if (contentType !== undefined) context.setHeaderParam('Content-Type', contentType);
          return new Observable(Promise.resolve(context));
        },
        post: (response: ResponseContext) => new Observable(Promise.resolve(response)),
      },
    ],
    middlewareMergeStrategy: 'append',
  };
}

function fenceMissing(): ProviderError {
  return new ProviderError(
    'pre_send',
    'fence_missing',
    'The workload was read without uid and resourceVersion, so no safe write is possible: it is read again.',
  );
}

function floorAboveMaximum(floor: number, max: number): ProviderError {
  return new ProviderError(
    'permanent',
    'out_of_bounds',
    `A floor of ${floor} is above the autoscaler's maxReplicas of ${max}: raise maxReplicas or decide again.`,
    { context: { max, target: floor } },
  );
}

function workloadOf(name: string): WorkloadName {
  const match = kubernetesNamePattern.exec(name);
  if (match === null) {
    throw new ProviderError(
      'permanent',
      'target_name',
      `${JSON.stringify(name)} is not deployment:namespace/name or statefulset:namespace/name.`,
    );
  }
  return { kind: match[1] as WorkloadName['kind'], namespace: match[2] as string, name: match[3] as string };
}
