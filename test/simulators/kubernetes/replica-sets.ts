import { REPLICA_SETS } from './api-resources.ts';
import type { EventRecorder } from './cluster-events.ts';
import { asObject, deepEqual, type KubernetesObject, numberAt, ownerReference } from './json.ts';
import type { ObjectStore } from './object-store.ts';
import { isReady } from './table.ts';
import { desiredReplicas } from './workload-status.ts';

export const HASH_LABEL = 'pod-template-hash';
export const REVISION_ANNOTATION = 'deployment.kubernetes.io/revision';

/** The ReplicaSets between a Deployment and its pods, one per template. */
export interface ReplicaSets {
  /** The current template's, made or resized to what the Deployment wants. */
  ensure(deployment: KubernetesObject, hash: string): KubernetesObject;
  /** Writes every status, shrinks old sets with their pods, and drops them when the last pod is gone. */
  report(deployment: KubernetesObject, hash: string, active: readonly KubernetesObject[]): void;
  removeAll(deployment: KubernetesObject): void;
  /** What the Deployment's revision annotation says while this set is the current one. */
  revisionOf(namespace: string, name: string): string;
}

export function createReplicaSets(store: ObjectStore, record: EventRecorder): ReplicaSets {
  /** By the Deployment's uid, so that nobody has to search all sets. */
  const names = new Map<string, Set<string>>();

  function ownedBy({ metadata }: KubernetesObject): readonly KubernetesObject[] {
    const own = [...(names.get(metadata.uid) ?? [])];
    return own
      .map((name) => store.get(REPLICA_SETS, metadata.namespace ?? null, name))
      .filter((each) => each !== undefined);
  }

  function add(deployment: KubernetesObject, replicaSet: KubernetesObject): KubernetesObject {
    const { uid } = deployment.metadata;
    names.set(uid, (names.get(uid) ?? new Set()).add(replicaSet.metadata.name));
    return store.put(REPLICA_SETS, replicaSet);
  }

  function remove(deployment: KubernetesObject, { metadata }: KubernetesObject): void {
    names.get(deployment.metadata.uid)?.delete(metadata.name);
    store.remove(REPLICA_SETS, metadata.namespace ?? null, metadata.name);
  }

  function recordScaling(deployment: KubernetesObject, name: string, from: number, to: number): void {
    const message = `Scaled ${to < from ? 'down' : 'up'} replica set ${name} from ${from} to ${to}`;
    const component = 'deployment-controller';
    record({ about: deployment, type: 'Normal', reason: 'ScalingReplicaSet', message, component });
  }

  function resize(replicaSet: KubernetesObject, replicas: number): KubernetesObject {
    if (numberAt(replicaSet, 'spec.replicas') === replicas) return replicaSet;
    const generation = (replicaSet.metadata.generation ?? 0) + 1;
    return store.put(REPLICA_SETS, {
      ...replicaSet,
      metadata: { ...replicaSet.metadata, generation },
      spec: { ...asObject(replicaSet.spec), replicas },
    });
  }

  function reportOne(replicaSet: KubernetesObject, pods: readonly KubernetesObject[]): void {
    const ready = pods.filter(isReady).length;
    const status = {
      replicas: pods.length,
      fullyLabeledReplicas: pods.length,
      ...(ready === 0 ? {} : { readyReplicas: ready, availableReplicas: ready }),
      observedGeneration: replicaSet.metadata.generation ?? 1,
    };
    if (!deepEqual(replicaSet.status, status)) store.put(REPLICA_SETS, { ...replicaSet, status });
  }

  return {
    ensure(deployment, hash) {
      const { namespace = 'default', name } = deployment.metadata;
      const replicas = desiredReplicas(deployment);
      const found = store.get(REPLICA_SETS, namespace, `${name}-${hash}`);
      const before = numberAt(found, 'spec.replicas');
      if (before !== replicas) recordScaling(deployment, `${name}-${hash}`, before, replicas);
      return found === undefined
        ? add(deployment, newReplicaSet(deployment, hash, store))
        : resize(found, replicas);
    },
    revisionOf: (namespace, name) =>
      store.get(REPLICA_SETS, namespace, name)?.metadata.annotations?.[REVISION_ANNOTATION] ?? '1',
    report(deployment, hash, active) {
      for (const replicaSet of ownedBy(deployment)) {
        const own = replicaSet.metadata.labels?.[HASH_LABEL];
        const pods = active.filter((pod) => pod.metadata.labels?.[HASH_LABEL] === own);
        if (own === hash) reportOne(replicaSet, pods);
        else if (pods.length > 0) reportOne(resize(replicaSet, pods.length), pods);
        // A real Deployment keeps ten empty ones to roll back to; we have no rollback.
        else remove(deployment, replicaSet);
      }
    },
    removeAll(deployment) {
      for (const replicaSet of ownedBy(deployment)) remove(deployment, replicaSet);
      names.delete(deployment.metadata.uid);
    },
  };
}

function newReplicaSet(deployment: KubernetesObject, hash: string, store: ObjectStore): KubernetesObject {
  const { namespace = 'default', name, annotations } = deployment.metadata;
  const template = asObject(asObject(deployment.spec).template);
  const labels = { ...asObject(asObject(template.metadata).labels), [HASH_LABEL]: hash } as Readonly<
    Record<string, string>
  >;
  const revision = String(Number(annotations?.[REVISION_ANNOTATION] ?? 0) + 1);
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${name}-${hash}`,
      namespace,
      uid: store.newUid(),
      resourceVersion: '',
      generation: 1,
      creationTimestamp: store.timestamp(),
      labels,
      annotations: { [REVISION_ANNOTATION]: revision },
      ownerReferences: [ownerReference(deployment)],
    },
    spec: {
      replicas: desiredReplicas(deployment),
      selector: { matchLabels: labels },
      template: { ...template, metadata: { ...asObject(template.metadata), labels } },
    },
    status: { replicas: 0 },
  };
}
