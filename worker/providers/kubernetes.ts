import {
  AppsV1Api,
  AutoscalingV2Api,
  CustomObjectsApi,
  KubeConfig,
  Observable,
  type RequestContext,
  type ResponseContext,
  type V1Container,
  type V1Scale,
} from '@kubernetes/client-node';
import { Decimal } from 'decimal.js';
import { kubernetesNamePattern } from '../../shared/domain/resource.ts';
import { ProviderError } from '../../shared/errors.ts';
import { classifyKubernetesError } from './kubernetes-errors.ts';
import type { Block, CapacityState, ProviderTarget, ScalingProvider } from './scaling-provider.ts';

const readTimeoutMs = 3_000;
const writeTimeoutMs = 10_000;

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

  constructor(options: { readonly settleMs: number }) {
    this.settleMs = options.settleMs;
  }

  async describe(target: ProviderTarget, signal: AbortSignal): Promise<CapacityState> {
    const workload = workloadOf(target.name);
    const clients = this.#client(target.scope);
    const options = within(signal, readTimeoutMs);
    const key = { namespace: workload.namespace, name: workload.name };
    try {
      const object =
        workload.kind === 'deployment'
          ? await clients.apps.readNamespacedDeployment(key, options)
          : await clients.apps.readNamespacedStatefulSet(key, options);
      const containers = object.spec?.template?.spec?.containers ?? [];
      return {
        desired: object.spec?.replicas ?? 1,
        ready: object.status?.readyReplicas ?? 0,
        min: 0,
        max: null,
        blocks: await this.#owners(clients, workload, options),
        fence: {
          ...(object.metadata?.uid === undefined ? {} : { uid: object.metadata.uid }),
          ...(object.metadata?.resourceVersion === undefined
            ? {}
            : { resourceVersion: object.metadata.resourceVersion }),
        },
        instanceType: null,
        cpuRequest: sumOfRequests(containers, 'cpu', cpuQuantity),
        memoryRequest: sumOfRequests(containers, 'memory', memoryQuantity),
      };
    } catch (error) {
      throw classifyKubernetesError(error, 'read');
    }
  }

  async describeMany(
    targets: readonly ProviderTarget[],
    signal: AbortSignal,
  ): Promise<(CapacityState | Error)[]> {
    const results: (CapacityState | Error)[] = [];
    for (const target of targets) {
      results.push(
        await this.describe(target, signal).catch((error: unknown) =>
          error instanceof Error ? error : new Error(String(error)),
        ),
      );
    }
    return results;
  }

  async setCapacity(
    target: ProviderTarget,
    instances: number,
    expected: CapacityState,
    options: { readonly intentAtMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
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
    const call = within(options.signal, writeTimeoutMs);
    try {
      if (workload.kind === 'deployment') await apps.replaceNamespacedDeploymentScale(request, call);
      else await apps.replaceNamespacedStatefulSetScale(request, call);
    } catch (error) {
      throw classifyKubernetesError(error, 'write');
    }
  }

  async close(): Promise<void> {
    this.#clients.clear();
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
        message: `The ${keda ? 'KEDA ScaledObject' : 'HorizontalPodAutoscaler'} ${JSON.stringify(hpa.metadata?.name)} controls this workload and would undo the change: delete or pause it first.`,
      });
    }
    if (blocks.length === 0 && (await this.#hasScaledObject(clients, workload, kind, options))) {
      blocks.push({
        code: 'managed_by_keda',
        direction: 'both',
        message:
          'A KEDA ScaledObject controls this workload and would undo the change: delete or pause it first.',
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
      const items =
        (list as { items?: { spec?: { scaleTargetRef?: { kind?: string; name?: string } } }[] }).items ?? [];
      return items.some(
        ({ spec }) =>
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

/** client-node has no time-outs of its own: a signal goes into each request by a middleware. */
function within(signal: AbortSignal, timeoutMs: number): CallOptions {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  return {
    middleware: [
      {
        pre: (context: RequestContext) => {
          context.setSignal(limited);
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

/** Null when no container requests any: then a price from requests would be a guess. */
function sumOfRequests(
  containers: readonly V1Container[],
  resource: string,
  parse: (text: string) => Decimal,
): string | null {
  const requests = containers.flatMap((container) => container.resources?.requests?.[resource] ?? []);
  if (requests.length === 0) return null;
  return requests.reduce((sum, text) => sum.plus(parse(text)), new Decimal(0)).toFixed();
}

/** `500m` → 0.5 vCPU. */
export function cpuQuantity(text: string): Decimal {
  return text.endsWith('m') ? new Decimal(text.slice(0, -1)).div(1_000) : new Decimal(text);
}

const bytesPer: Readonly<Record<string, Decimal>> = {
  '': new Decimal(1),
  k: new Decimal(1e3),
  M: new Decimal(1e6),
  G: new Decimal(1e9),
  T: new Decimal(1e12),
  Ki: new Decimal(2).pow(10),
  Mi: new Decimal(2).pow(20),
  Gi: new Decimal(2).pow(30),
  Ti: new Decimal(2).pow(40),
  m: new Decimal('0.001'),
};

/** A Kubernetes memory quantity in GiB: `512Mi` → 0.5. */
export function memoryQuantity(text: string): Decimal {
  const match = /^([0-9.]+(?:[eE][+-]?[0-9]+)?)([a-zA-Z]*)$/.exec(text);
  const unit = match === null ? undefined : bytesPer[match[2] as string];
  if (match === null || unit === undefined)
    throw new ProviderError('permanent', 'quantity', `${JSON.stringify(text)} is not a memory quantity.`);
  return new Decimal(match[1] as string).times(unit).div(bytesPer.Gi as Decimal);
}
