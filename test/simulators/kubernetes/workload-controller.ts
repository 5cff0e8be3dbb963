import { createHash } from 'node:crypto';
import type { VirtualClock } from '../core/virtual-clock.ts';
import { type ApiResource, DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS } from './api-resources.ts';
import type { EventRecorder } from './cluster-events.ts';
import {
  asArray,
  asObject,
  deepEqual,
  type JsonObject,
  type KubernetesObject,
  numberAt,
  stringAt,
  valueAt,
} from './json.ts';
import type { ObjectStore } from './object-store.ts';
import { type PodLifecycle, START_DELAY_ANNOTATION } from './pods.ts';
import { isReady } from './table.ts';
import { desiredReplicas, type PodCounts, statusOf } from './workload-status.ts';

const HASH_LABEL = 'pod-template-hash';
const REVISION_LABEL = 'controller-revision-hash';
const REVISION_ANNOTATION = 'deployment.kubernetes.io/revision';

export interface WorkloadController {
  /** Seeding: the pods are there and ready, and the status says so, before anybody looks. */
  settle(resource: ApiResource, workload: KubernetesObject): void;
  close(): void;
}

/** Makes pods follow `spec.replicas` of Deployments and StatefulSets, and `status` follow the pods. */
export function createWorkloadController(options: {
  readonly store: ObjectStore;
  readonly clock: VirtualClock;
  readonly pods: PodLifecycle;
  readonly record: EventRecorder;
  /** From a change to the controller acting on it, virtual ms. */
  readonly reactionMs: number;
}): WorkloadController {
  const { store, clock, pods, record, reactionMs } = options;
  /** Pod names by the uid of their workload. */
  const podsOf = new Map<string, Set<string>>();
  const due = new Set<string>();
  const settling = new Set<string>();

  const subscriptions = [DEPLOYMENTS, STATEFUL_SETS].map((resource) =>
    store.subscribe(resource, ({ type, object, previous }) => {
      if (type === 'DELETED') clock.at(clock.now() + reactionMs, () => collectGarbage(object));
      else if (previous?.metadata.generation !== object.metadata.generation) wake(resource, object);
    }),
  );
  subscriptions.push(
    store.subscribe(PODS, ({ type, object, previous }) => {
      const workload = workloadOf(object);
      if (workload === undefined) return;
      const names = podsOf.get(workload.uid);
      if (type === 'DELETED') names?.delete(object.metadata.name);
      const leaving = (pod: KubernetesObject | undefined): boolean =>
        pod?.metadata.deletionTimestamp !== undefined;
      const moved = type === 'DELETED' || isReady(object) !== (previous !== undefined && isReady(previous));
      if (!moved && leaving(object) === leaving(previous)) return;
      const found = store.get(workload.resource, object.metadata.namespace ?? null, workload.name);
      if (found !== undefined) wake(workload.resource, found);
    }),
  );

  /** Many changes before the controller acts are one reconciliation. */
  function wake(resource: ApiResource, workload: KubernetesObject): void {
    const { uid, name, namespace = null } = workload.metadata;
    if (due.has(uid) || settling.has(uid)) return;
    due.add(uid);
    clock.at(clock.now() + reactionMs, () => {
      due.delete(uid);
      const current = store.get(resource, namespace, name);
      if (current?.metadata.uid === uid) reconcile(resource, current, false);
    });
  }

  function ownPods(workload: KubernetesObject): KubernetesObject[] {
    const names = podsOf.get(workload.metadata.uid) ?? new Set();
    const found = [...names].map((name) => store.get(PODS, workload.metadata.namespace ?? null, name));
    return found.filter((pod) => pod !== undefined);
  }

  function reconcile(resource: ApiResource, workload: KubernetesObject, alreadyReady: boolean): void {
    const hash = templateHash(workload);
    if (resource === DEPLOYMENTS) reconcileDeployment(workload, hash, alreadyReady);
    else reconcileStatefulSet(workload, hash, alreadyReady);
    report(resource, workload, hash);
  }

  function reconcileDeployment(workload: KubernetesObject, hash: string, alreadyReady: boolean): void {
    const desired = desiredReplicas(workload);
    const replicaSet = ensureReplicaSet(workload, hash);
    const active = ownPods(workload).filter(isActive);
    const [current, old] = partition(active, (pod) => pod.metadata.labels?.[HASH_LABEL] === hash);
    for (let missing = desired - current.length; missing > 0; missing -= 1) {
      createPod(workload, replicaSet, hash, `${replicaSet.metadata.name}-${suffix()}`, alreadyReady);
    }
    // The newest and those not yet ready go first, as the real controller ranks them.
    const byWorth = [...current]
      .reverse()
      .sort((left, right) => Number(isReady(left)) - Number(isReady(right)));
    for (const pod of byWorth.slice(0, Math.max(0, current.length - desired))) pods.terminate(pod);
    const stillNeeded = Math.max(0, desired - current.filter(isReady).length);
    for (const pod of old.slice(0, Math.max(0, old.length - stillNeeded))) pods.terminate(pod);
  }

  function reconcileStatefulSet(workload: KubernetesObject, hash: string, alreadyReady: boolean): void {
    const desired = desiredReplicas(workload);
    const ordered =
      stringAt(workload, 'spec.podManagementPolicy', 'OrderedReady') === 'OrderedReady' && !alreadyReady;
    const all = new Map(ownPods(workload).map((pod) => [ordinalOf(pod), pod]));
    for (let ordinal = 0; ordinal < desired; ordinal += 1) {
      const pod = all.get(ordinal);
      if (pod === undefined) {
        createPod(workload, workload, hash, `${workload.metadata.name}-${ordinal}`, alreadyReady);
      }
      if (ordered && (pod === undefined || !isActive(pod) || !isReady(pod))) return;
    }
    const surplus = [...all.values()]
      .filter((pod) => ordinalOf(pod) >= desired)
      .sort((left, right) => ordinalOf(right) - ordinalOf(left));
    for (const pod of ordered ? surplus.slice(0, 1) : surplus) pods.terminate(pod);
    const outdated = [...all.values()].filter((pod) => pod.metadata.labels?.[REVISION_LABEL] !== hash);
    const [highest] = outdated.sort((left, right) => ordinalOf(right) - ordinalOf(left));
    if (surplus.length === 0 && highest !== undefined) pods.terminate(highest);
  }

  function createPod(
    workload: KubernetesObject,
    owner: KubernetesObject,
    hash: string,
    name: string,
    alreadyReady: boolean,
  ): void {
    const { uid, namespace = 'default', annotations } = workload.metadata;
    const names = podsOf.get(uid) ?? new Set();
    podsOf.set(uid, names.add(name));
    const template = asObject(asObject(workload.spec).template);
    const labels = asObject(asObject(template.metadata).labels) as Readonly<Record<string, string>>;
    const own = { [workload.kind === 'Deployment' ? HASH_LABEL : REVISION_LABEL]: hash };
    const startDelay = annotations?.[START_DELAY_ANNOTATION];
    pods.create({
      name,
      namespace,
      owner,
      template,
      labels: { ...labels, ...own },
      startDelay,
      alreadyReady,
    });
  }

  function ensureReplicaSet(workload: KubernetesObject, hash: string): KubernetesObject {
    const { namespace = 'default', name, uid } = workload.metadata;
    const replicas = desiredReplicas(workload);
    const found = store.get(REPLICA_SETS, namespace, `${name}-${hash}`);
    const before = found === undefined ? 0 : numberAt(found, 'spec.replicas');
    if (found !== undefined && before === replicas) return found;
    const [verb, change] = replicas < before ? ['down', 'Scaled down'] : ['up', 'Scaled up'];
    if (found === undefined || verb !== undefined) {
      const message = `${change} replica set ${name}-${hash} from ${before} to ${replicas}`;
      record({
        about: workload,
        type: 'Normal',
        reason: 'ScalingReplicaSet',
        message,
        component: 'deployment-controller',
      });
    }
    if (found !== undefined) {
      return store.put(REPLICA_SETS, { ...found, spec: { ...asObject(found.spec), replicas } });
    }
    const template = asObject(asObject(workload.spec).template);
    const podLabels = { ...asObject(asObject(template.metadata).labels), [HASH_LABEL]: hash };
    return store.put(REPLICA_SETS, {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      metadata: {
        name: `${name}-${hash}`,
        namespace,
        uid: store.newUid(),
        resourceVersion: '',
        generation: 1,
        creationTimestamp: store.timestamp(),
        labels: podLabels as Readonly<Record<string, string>>,
        annotations: { [REVISION_ANNOTATION]: revisionOf(workload, hash) },
        ownerReferences: [
          {
            apiVersion: 'apps/v1',
            kind: 'Deployment',
            name,
            uid,
            controller: true,
            blockOwnerDeletion: true,
          },
        ],
      },
      spec: {
        replicas,
        selector: { matchLabels: podLabels },
        template: { ...template, metadata: { ...asObject(template.metadata), labels: podLabels } },
      },
      status: { replicas: 0 },
    });
  }

  /** A new template is a new revision; going back to an old template is one too, but nobody here looks. */
  function revisionOf(workload: KubernetesObject, hash: string): string {
    const known = Number(workload.metadata.annotations?.[REVISION_ANNOTATION] ?? 0);
    const isCurrent = store.get(
      REPLICA_SETS,
      workload.metadata.namespace ?? null,
      `${workload.metadata.name}-${hash}`,
    );
    return String(isCurrent === undefined ? known + 1 : Math.max(known, 1));
  }

  function report(resource: ApiResource, reconciled: KubernetesObject, hash: string): void {
    const { namespace = null, name } = reconciled.metadata;
    const workload = store.get(resource, namespace, name) ?? reconciled;
    const active = ownPods(workload).filter(isActive);
    const label = resource === DEPLOYMENTS ? HASH_LABEL : REVISION_LABEL;
    const updated = active.filter((pod) => pod.metadata.labels?.[label] === hash);
    const counts: PodCounts = {
      desired: desiredReplicas(workload),
      total: active.length,
      ready: active.filter(isReady).length,
      updated: updated.length,
    };
    const status = statusOf(resource, workload, counts, { hash, time: store.timestamp() });
    const replicaSet =
      resource === DEPLOYMENTS ? store.get(REPLICA_SETS, namespace, `${name}-${hash}`) : undefined;
    const revision = replicaSet?.metadata.annotations?.[REVISION_ANNOTATION];
    const annotations =
      revision === undefined
        ? workload.metadata.annotations
        : { ...workload.metadata.annotations, [REVISION_ANNOTATION]: revision };
    const metadata = annotations === undefined ? workload.metadata : { ...workload.metadata, annotations };
    const reported = { ...workload, metadata, status };
    if (!deepEqual(workload, reported)) store.put(resource, reported);
    if (replicaSet !== undefined) reportReplicaSet(replicaSet, updated);
    retireReplicaSets(workload, hash, active);
  }

  function reportReplicaSet(replicaSet: KubernetesObject, own: readonly KubernetesObject[]): void {
    const ready = own.filter(isReady).length;
    const readiness = ready === 0 ? {} : { readyReplicas: ready, availableReplicas: ready };
    const status = {
      replicas: own.length,
      fullyLabeledReplicas: own.length,
      ...readiness,
      observedGeneration: replicaSet.metadata.generation ?? 1,
    };
    if (!deepEqual(replicaSet.status, status)) store.put(REPLICA_SETS, { ...replicaSet, status });
  }

  /** A real Deployment keeps ten old ones for rollbacks; we have no rollback. */
  function retireReplicaSets(
    workload: KubernetesObject,
    hash: string,
    active: readonly KubernetesObject[],
  ): void {
    if (workload.kind !== 'Deployment') return;
    const inUse = new Set(active.map((pod) => pod.metadata.labels?.[HASH_LABEL]));
    for (const replicaSet of replicaSetsOf(workload)) {
      const own = replicaSet.metadata.labels?.[HASH_LABEL];
      if (own !== hash && !inUse.has(own)) {
        store.remove(REPLICA_SETS, workload.metadata.namespace ?? null, replicaSet.metadata.name);
      }
    }
  }

  function replicaSetsOf({ metadata }: KubernetesObject): readonly KubernetesObject[] {
    return store
      .list(REPLICA_SETS, metadata.namespace ?? null)
      .filter((each) => stringAt(asArray(each.metadata.ownerReferences)[0], 'uid') === metadata.uid);
  }

  /** Background deletion: the owner is gone at once, what it owned a moment later. */
  function collectGarbage(workload: KubernetesObject): void {
    for (const pod of ownPods(workload)) pods.terminate(pod);
    if (workload.kind !== 'Deployment') return;
    for (const { metadata } of replicaSetsOf(workload)) {
      store.remove(REPLICA_SETS, metadata.namespace ?? null, metadata.name);
    }
  }

  function workloadOf(
    pod: KubernetesObject,
  ): { resource: ApiResource; name: string; uid: string } | undefined {
    const owner = asArray(pod.metadata.ownerReferences)[0];
    const namespace = pod.metadata.namespace ?? null;
    const [kind, name, uid] = ['kind', 'name', 'uid'].map((key) => stringAt(owner, key)) as [
      string,
      string,
      string,
    ];
    if (kind === 'StatefulSet') return { resource: STATEFUL_SETS, name, uid };
    const replicaSet = kind === 'ReplicaSet' ? store.get(REPLICA_SETS, namespace, name) : undefined;
    const deployment = asArray(replicaSet?.metadata.ownerReferences)[0];
    if (deployment === undefined) return undefined;
    return { resource: DEPLOYMENTS, name: stringAt(deployment, 'name'), uid: stringAt(deployment, 'uid') };
  }

  function suffix(): string {
    return store.newUid().slice(0, 5);
  }

  return {
    settle(resource, workload) {
      settling.add(workload.metadata.uid);
      reconcile(resource, workload, true);
      settling.delete(workload.metadata.uid);
    },
    close() {
      for (const unsubscribe of subscriptions) unsubscribe();
    },
  };
}

function isActive(pod: KubernetesObject): boolean {
  return pod.metadata.deletionTimestamp === undefined;
}

function ordinalOf(pod: KubernetesObject): number {
  return Number(pod.metadata.name.split('-').at(-1));
}

function partition<T>(items: readonly T[], belongs: (item: T) => boolean): [T[], T[]] {
  return [items.filter(belongs), items.filter((item) => !belongs(item))];
}

function templateHash(workload: KubernetesObject): string {
  const template: JsonObject = asObject(valueAt(workload, 'spec.template'));
  return createHash('sha256').update(JSON.stringify(template)).digest('hex').slice(0, 10);
}
