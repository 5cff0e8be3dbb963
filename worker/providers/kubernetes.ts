import {
  AppsV1Api,
  AutoscalingV2Api,
  CustomObjectsApi,
  KubeConfig,
  Observable,
  type RequestContext,
  type ResponseContext,
  type V1Scale,
} from '@kubernetes/client-node';
import { kubernetesNamePattern } from '../../shared/domain/resource.ts';
import { ProviderError } from '../../shared/errors.ts';
import { withDeadline } from '../resilience/deadline.ts';
import { type CallLimits, callLimits } from './call-limits.ts';
import { classifyKubernetesError } from './kubernetes-errors.ts';
import { requestedBy } from './kubernetes-requests.ts';
import { notSent } from './never-sent.ts';
import type { Block, CapacityState, ProviderTarget, ScalingProvider } from './scaling-provider.ts';
import { sideBySide } from './side-by-side.ts';

/** Each is three small requests; a cluster of a thousand workloads is read within seconds. */
const describesAtOnce = 8;

interface Clients {
  readonly apps: AppsV1Api;
  readonly autoscaling: AutoscalingV2Api;
  readonly custom: CustomObjectsApi;
}

interface Workload {
  readonly kind: 'deployment' | 'statefulset';
  readonly namespace: string;
  readonly name: string;
}

/** Deployments and StatefulSets through their scale subresource. The cluster is a kubeconfig context, or where we run. */
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
        this.#stateOf(clients, workload, callOptions(limited)),
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
      await sideBySide(mine, describesAtOnce, async ([index, target]) => {
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
    if (options.signal.aborted) throw notSent();
    const workload = workloadOf(target.name);
    const { apps } = this.#client(target.scope);
    const { uid, resourceVersion } = expected.fence;
    if (uid === undefined || resourceVersion === undefined) {
      throw new ProviderError(
        'pre_send',
        'fence_missing',
        'The workload was read without uid and resourceVersion, so no safe write is possible.',
      );
    }
    const body: V1Scale = {
      apiVersion: 'autoscaling/v1',
      kind: 'Scale',
      // The API server refuses the write when either has changed since the read.
      metadata: { name: workload.name, namespace: workload.namespace, uid, resourceVersion },
      spec: { replicas: instances },
    };
    const request = { namespace: workload.namespace, name: workload.name, body };
    try {
      const written = await withDeadline(options.signal, this.#limits.writeMs, (limited) =>
        workload.kind === 'deployment'
          ? apps.replaceNamespacedDeploymentScale(request, callOptions(limited))
          : apps.replaceNamespacedStatefulSetScale(request, callOptions(limited)),
      );
      if (written.spec?.replicas !== instances)
        throw new Error(
          `the answer speaks of ${written.spec?.replicas ?? 'no'} replicas, not of ${instances}`,
        );
    } catch (error) {
      throw classifyKubernetesError(error, 'write');
    }
  }

  async close(): Promise<void> {
    this.#clients.clear();
  }

  async #stateOf(clients: Clients, workload: Workload, options: CallOptions): Promise<CapacityState> {
    const key = { namespace: workload.namespace, name: workload.name };
    const [object, owners] = await Promise.all([
      workload.kind === 'deployment'
        ? clients.apps.readNamespacedDeployment(key, options)
        : clients.apps.readNamespacedStatefulSet(key, options),
      this.#owners(clients, workload, options),
    ]);
    const { uid, resourceVersion, deletionTimestamp } = object.metadata ?? {};
    if (uid === undefined || resourceVersion === undefined)
      throw new Error('the answer is no Kubernetes object: look for a proxy in between');
    return {
      desired: object.spec?.replicas ?? 1,
      ready: object.status?.readyReplicas ?? 0,
      min: 0,
      max: null,
      blocks: deletionTimestamp === undefined ? owners : [beingDeleted, ...owners],
      fence: { uid, resourceVersion },
      instanceType: null,
      cpuRequest: requestedBy(object.spec?.template?.spec, 'cpu'),
      memoryRequest: requestedBy(object.spec?.template?.spec, 'memory'),
    };
  }

  /** Another controller on the same number would undo us within seconds. */
  async #owners(clients: Clients, workload: Workload, options: CallOptions): Promise<Block[]> {
    const kind = workload.kind === 'deployment' ? 'Deployment' : 'StatefulSet';
    const blocks: Block[] = [];
    const hpas = await clients.autoscaling.listNamespacedHorizontalPodAutoscaler(
      { namespace: workload.namespace },
      options,
    );
    for (const hpa of hpas.items) {
      const target = hpa.spec?.scaleTargetRef;
      if (target?.kind !== kind || target.name !== workload.name) continue;
      const keda = hpa.metadata?.ownerReferences?.some((owner) => owner.kind === 'ScaledObject') === true;
      blocks.push({
        code: keda ? 'managed_by_keda' : 'managed_by_hpa',
        direction: 'both',
        message: keda
          ? `A KEDA ScaledObject controls this workload through the HorizontalPodAutoscaler ${JSON.stringify(hpa.metadata?.name)} and would undo the change: delete it, or pause it with the annotation autoscaling.keda.sh/paused: "true".`
          : `The HorizontalPodAutoscaler ${JSON.stringify(hpa.metadata?.name)} controls this workload and would undo the change: delete it first.`,
      });
    }
    if (blocks.length === 0 && (await this.#hasScaledObject(clients, workload, kind, options))) {
      blocks.push({
        code: 'managed_by_keda',
        direction: 'both',
        message:
          'A KEDA ScaledObject controls this workload and would undo the change: delete it, or pause it with the annotation autoscaling.keda.sh/paused: "true".',
      });
    }
    return blocks;
  }

  /** KEDA may not be installed (404), or not be ours to read (403): then only its HPA can show it. */
  async #hasScaledObject(
    clients: Clients,
    workload: Workload,
    kind: string,
    options: CallOptions,
  ): Promise<boolean> {
    try {
      const list: unknown = await clients.custom.listNamespacedCustomObject(
        { group: 'keda.sh', version: 'v1alpha1', namespace: workload.namespace, plural: 'scaledobjects' },
        options,
      );
      const { items } = list as { items: readonly ScaledObject[] };
      return items.some(
        ({ metadata, spec }) =>
          !isPaused(metadata?.annotations ?? {}) &&
          (spec?.scaleTargetRef?.kind ?? 'Deployment') === kind &&
          spec?.scaleTargetRef?.name === workload.name,
      );
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (code === 404 || code === 403) return false;
      throw error;
    }
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

interface ScaledObject {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: { readonly scaleTargetRef?: { readonly kind?: string; readonly name?: string } };
}

/** A ScaledObject paused at a number of replicas is not paused for us: KEDA keeps that number. */
function isPaused(annotations: Readonly<Record<string, string>>): boolean {
  return (
    annotations['autoscaling.keda.sh/paused'] === 'true' &&
    annotations['autoscaling.keda.sh/paused-replicas'] === undefined
  );
}

const beingDeleted: Block = {
  code: 'workload_deleting',
  direction: 'both',
  message: 'The workload is being deleted: remove the resource.',
};

/** client-node takes no signal: a middleware puts it into each request. */
function callOptions(signal: AbortSignal): CallOptions {
  return {
    middleware: [
      {
        pre: (context: RequestContext) => {
          context.setSignal(signal);
          return new Observable(Promise.resolve(context));
        },
        post: (response: ResponseContext) => new Observable(Promise.resolve(response)),
      },
    ],
    middlewareMergeStrategy: 'append',
  };
}

function workloadOf(name: string): Workload {
  const match = kubernetesNamePattern.exec(name);
  if (match === null) {
    throw new ProviderError(
      'permanent',
      'target_name',
      `${JSON.stringify(name)} is not deployment:namespace/name or statefulset:namespace/name.`,
    );
  }
  return { kind: match[1] as Workload['kind'], namespace: match[2] as string, name: match[3] as string };
}
