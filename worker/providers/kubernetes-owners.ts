import type { AutoscalingV2Api, CustomObjectsApi, V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import type { Block } from './scaling-provider.ts';

export interface WorkloadName {
  readonly kind: 'deployment' | 'statefulset';
  readonly namespace: string;
  readonly name: string;
}

type CallOptions = Parameters<CustomObjectsApi['listNamespacedCustomObject']>[1];

interface ScaledObject {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
  readonly spec?: { readonly scaleTargetRef?: { readonly kind?: string; readonly name?: string } };
}

const kindNames = { deployment: 'Deployment', statefulset: 'StatefulSet' } as const;
const pauseAdvice = 'delete it, or pause it with the annotation autoscaling.keda.sh/paused: "true"';

/** The autoscalers whose target is this workload. */
export async function autoscalersOf(
  api: AutoscalingV2Api,
  workload: WorkloadName,
  options: CallOptions,
): Promise<V2HorizontalPodAutoscaler[]> {
  const { items } = await api.listNamespacedHorizontalPodAutoscaler(
    { namespace: workload.namespace },
    options,
  );
  return items.filter(({ spec }) => {
    const target = spec?.scaleTargetRef;
    return target?.kind === kindNames[workload.kind] && target.name === workload.name;
  });
}

/**
 * Whether a ScaledObject is at work on it. Where KEDA is not installed (404) there is none.
 */
export async function hasScaledObject(
  api: CustomObjectsApi,
  workload: WorkloadName,
  options: CallOptions,
): Promise<boolean> {
  try {
    const list: unknown = await api.listNamespacedCustomObject(
      { group: 'keda.sh', version: 'v1alpha1', namespace: workload.namespace, plural: 'scaledobjects' },
      options,
    );
    const { items } = list as { items: readonly ScaledObject[] };
    return items.some(
      ({ metadata, spec }) =>
        !isPaused(metadata?.annotations ?? {}) &&
        (spec?.scaleTargetRef?.kind ?? 'Deployment') === kindNames[workload.kind] &&
        spec?.scaleTargetRef?.name === workload.name,
    );
  } catch (error) {
    if ((error as { code?: unknown }).code === 404) return false;
    throw error;
  }
}

/** Another controller on the same number would undo us within seconds. */
export function ownerBlocks(
  autoscalers: readonly V2HorizontalPodAutoscaler[],
  scaledObject: boolean,
): Block[] {
  const blocks = autoscalers.map((autoscaler): Block => {
    const name = JSON.stringify(autoscaler.metadata?.name);
    return belongsToKeda(autoscaler)
      ? kedaBlock(`A KEDA ScaledObject controls this workload through the HorizontalPodAutoscaler ${name}`)
      : {
          code: 'managed_by_hpa',
          direction: 'both',
          message: `The HorizontalPodAutoscaler ${name} controls this workload and would undo the change: delete it first, or set actuation to floor, which raises its minReplicas.`,
        };
  });
  if (blocks.length > 0 || !scaledObject) return blocks;
  return [kedaBlock('A KEDA ScaledObject controls this workload')];
}

export function belongsToKeda(autoscaler: V2HorizontalPodAutoscaler): boolean {
  return autoscaler.metadata?.ownerReferences?.some(({ kind }) => kind === 'ScaledObject') === true;
}

function kedaBlock(what: string): Block {
  return {
    code: 'managed_by_keda',
    direction: 'both',
    message: `${what} and would undo the change: ${pauseAdvice}.`,
  };
}

/** A ScaledObject paused at a number of replicas is not paused for us: KEDA keeps that number. */
function isPaused(annotations: Readonly<Record<string, string>>): boolean {
  return (
    annotations['autoscaling.keda.sh/paused'] === 'true' &&
    annotations['autoscaling.keda.sh/paused-replicas'] === undefined
  );
}
