import { type ApiResource, DEPLOYMENTS } from './api-resources.ts';
import {
  asArray,
  asObject,
  type Json,
  type JsonObject,
  type KubernetesObject,
  numberAt,
  stringAt,
} from './json.ts';

export interface PodCounts {
  readonly desired: number;
  /** Not counting those on their way out. */
  readonly total: number;
  readonly ready: number;
  /** Of the current template. */
  readonly updated: number;
}

/** The status a controller reports, zeroes left out as Go's encoder does. */
export function statusOf(
  resource: ApiResource,
  workload: KubernetesObject,
  counts: PodCounts,
  revision: { readonly hash: string; readonly time: string },
): JsonObject {
  const { desired, total, ready, updated } = counts;
  const common = {
    observedGeneration: workload.metadata.generation ?? 1,
    ...nonZero({ readyReplicas: ready, availableReplicas: ready, updatedReplicas: updated }),
  };
  if (resource === DEPLOYMENTS) {
    return {
      ...common,
      ...nonZero({ replicas: total, unavailableReplicas: Math.max(0, Math.max(desired, total) - ready) }),
      conditions: deploymentConditions(workload, counts, revision),
    };
  }
  const name = `${workload.metadata.name}-${revision.hash}`;
  return {
    ...common,
    replicas: total,
    ...nonZero({ currentReplicas: updated }),
    currentRevision: name,
    updateRevision: name,
    collisionCount: 0,
  };
}

function nonZero(counts: Readonly<Record<string, number>>): JsonObject {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0));
}

function deploymentConditions(
  workload: KubernetesObject,
  { desired, ready, updated }: PodCounts,
  { hash, time }: { readonly hash: string; readonly time: string },
): readonly JsonObject[] {
  const before = asArray(asObject(workload.status).conditions);
  const replicaSet = `${workload.metadata.name}-${hash}`;
  const unavailable = Math.floor(desired / 4);
  const isAvailable = ready >= desired - unavailable;
  const isComplete = updated >= desired && ready >= desired;
  return [
    transition(before, time, {
      type: 'Available',
      status: isAvailable ? 'True' : 'False',
      reason: isAvailable ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
      message: `Deployment ${isAvailable ? 'has' : 'does not have'} minimum availability.`,
    }),
    transition(before, time, {
      type: 'Progressing',
      status: 'True',
      reason: isComplete ? 'NewReplicaSetAvailable' : 'ReplicaSetUpdated',
      message: `ReplicaSet "${replicaSet}" ${isComplete ? 'has successfully progressed' : 'is progressing'}.`,
    }),
  ];
}

interface Condition extends JsonObject {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
}

/** A condition's transition time moves only when its status does. */
export function transition(before: readonly Json[], time: string, condition: Condition): JsonObject {
  const old = asObject(before.find((each) => stringAt(each, 'type') === condition.type));
  const same = old.status === condition.status;
  const settled = same && old.reason === condition.reason;
  return {
    ...condition,
    lastTransitionTime: same ? stringAt(old, 'lastTransitionTime', time) : time,
    ...('message' in condition && condition.type === 'Progressing'
      ? { lastUpdateTime: settled ? stringAt(old, 'lastUpdateTime', time) : time }
      : {}),
  };
}

export function desiredReplicas(workload: KubernetesObject): number {
  return numberAt(workload, 'spec.replicas', 1);
}
