import type { V2HorizontalPodAutoscaler } from '@kubernetes/client-node';
import { belongsToKeda } from './kubernetes-owners.ts';
import type { Block, CapacityState } from './scaling-provider.ts';

/**
 * A workload seen from its autoscaler's floor: the number we set is `minReplicas`, the autoscaler may run more.
 * @param workload the same workload seen from its replicas, without what its owners block.
 */
export function floorOf(
  workload: CapacityState,
  autoscalers: readonly V2HorizontalPodAutoscaler[],
): CapacityState {
  const [autoscaler] = autoscalers;
  const { name, uid, resourceVersion } = autoscaler?.metadata ?? {};
  if (autoscaler === undefined || name === undefined || uid === undefined || resourceVersion === undefined)
    return { ...workload, fence: {}, blocks: [...workload.blocks, noAutoscaler] };
  return {
    ...workload,
    desired: autoscaler.spec?.minReplicas ?? 1,
    min: 1,
    max: autoscaler.spec?.maxReplicas ?? null,
    blocks: [...workload.blocks, ...blocksOf(workload.desired, autoscalers)],
    fence: { uid, resourceVersion, autoscaler: name },
  };
}

const noAutoscaler: Block = {
  code: 'no_autoscaler',
  direction: 'both',
  message:
    "Actuation floor raises an autoscaler's minReplicas, but no HorizontalPodAutoscaler controls this workload: create one, or set the resource's actuation to desired.",
};

function* blocksOf(replicas: number, autoscalers: readonly V2HorizontalPodAutoscaler[]): Generator<Block> {
  if (autoscalers.length > 1) {
    const names = autoscalers.map(({ metadata }) => JSON.stringify(metadata?.name)).join(', ');
    yield {
      code: 'several_autoscalers',
      direction: 'both',
      message: `Several HorizontalPodAutoscalers control this workload (${names}), so none of them scales it: delete all but one.`,
    };
  }
  if (autoscalers.some(belongsToKeda)) {
    yield {
      code: 'managed_by_keda',
      direction: 'both',
      message:
        "The autoscaler belongs to a KEDA ScaledObject, which would undo a change of its minReplicas: replace it with an autoscaler of your own, or set the ScaledObject's minReplicaCount by hand.",
    };
  }
  if (replicas === 0) {
    yield {
      code: 'autoscaler_asleep',
      direction: 'up',
      message: 'The workload has 0 replicas, which switches its autoscaler off: scale it to 1 first.',
    };
  }
}
