import { createHash } from 'node:crypto';
import type { VirtualClock } from '../core/virtual-clock.ts';
import { type ApiResource, DEPLOYMENTS, PODS, STATEFUL_SETS } from './api-resources.ts';
import type { EventRecorder } from './cluster-events.ts';
import { asArray, asObject, deepEqual, type KubernetesObject, stringAt, valueAt } from './json.ts';
import type { ObjectStore } from './object-store.ts';
import { type PodLifecycle, START_DELAY_ANNOTATION } from './pods.ts';
import { createReplicaSets, HASH_LABEL, REVISION_ANNOTATION } from './replica-sets.ts';
import { isReady } from './table.ts';
import { desiredReplicas, type PodCounts, statusOf } from './workload-status.ts';

const REVISION_LABEL = 'controller-revision-hash';

export interface WorkloadController {
  /** Seeding: the pods are there and ready, and the status says so, before anybody looks. */
  settle(resource: ApiResource, workload: KubernetesObject): void;
  /** Those on their way out too. */
  podsOf(workload: KubernetesObject): readonly KubernetesObject[];
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
  const { store, clock, pods, reactionMs } = options;
  const replicaSets = createReplicaSets(store, options.record);
  /** By workload, so that nobody has to search all pods. */
  const podNames = new Map<string, Set<string>>();
  const due = new Set<string>();
  const settling = new Set<string>();

  const subscriptions = [DEPLOYMENTS, STATEFUL_SETS].map((resource) =>
    store.subscribe(resource, ({ type, object, previous }) => {
      if (type === 'DELETED') collectGarbage(object);
      else if (previous?.metadata.generation !== object.metadata.generation) wake(resource, object);
    }),
  );
  subscriptions.push(
    store.subscribe(PODS, ({ type, object, previous }) => {
      const workload = workloadOf(object);
      if (workload === undefined) return;
      if (type === 'DELETED') podNames.get(workload.key)?.delete(object.metadata.name);
      else if (previous !== undefined && isCounted(object) === isCounted(previous)) return;
      const found = store.get(workload.resource, object.metadata.namespace ?? null, workload.name);
      if (found !== undefined) wake(workload.resource, found);
    }),
  );

  /** Many changes before the controller acts are one reconciliation. */
  function wake(resource: ApiResource, { metadata }: KubernetesObject): void {
    const { uid, name, namespace = null } = metadata;
    if (due.has(uid) || settling.has(uid)) return;
    due.add(uid);
    clock.at(clock.now() + reactionMs, () => {
      due.delete(uid);
      const current = store.get(resource, namespace, name);
      if (current?.metadata.uid === uid) reconcile(resource, current, false);
    });
  }

  function podsOf(workload: KubernetesObject): KubernetesObject[] {
    const { namespace = '', name } = workload.metadata;
    const names = podNames.get(keyOf(workload.kind, namespace, name)) ?? new Set();
    return [...names].map((each) => store.get(PODS, namespace, each)).filter((pod) => pod !== undefined);
  }

  function reconcile(resource: ApiResource, workload: KubernetesObject, alreadyReady: boolean): void {
    const hash = templateHash(workload);
    if (resource === DEPLOYMENTS) reconcileDeployment(workload, hash, alreadyReady);
    else reconcileStatefulSet(workload, hash, alreadyReady);
    report(resource, workload, hash);
  }

  function reconcileDeployment(workload: KubernetesObject, hash: string, alreadyReady: boolean): void {
    const desired = desiredReplicas(workload);
    const replicaSet = replicaSets.ensure(workload, hash);
    const active = podsOf(workload).filter(isActive);
    const current = active.filter((pod) => pod.metadata.labels?.[HASH_LABEL] === hash);
    const old = active.filter((pod) => pod.metadata.labels?.[HASH_LABEL] !== hash);
    for (let missing = desired - current.length; missing > 0; missing -= 1) {
      const name = `${replicaSet.metadata.name}-${store.newUid().slice(0, 5)}`;
      createPod(workload, { owner: replicaSet, name, label: { [HASH_LABEL]: hash }, alreadyReady });
    }
    // Those not yet ready and the newest go first, as the real controller ranks them.
    const leastMissed = [...current].reverse().sort((a, b) => Number(isReady(a)) - Number(isReady(b)));
    for (const pod of leastMissed.slice(0, Math.max(0, current.length - desired))) pods.terminate(pod);
    const stillNeeded = Math.max(0, desired - current.filter(isReady).length);
    for (const pod of old.slice(0, Math.max(0, old.length - stillNeeded))) pods.terminate(pod);
  }

  /** In order, one at a time up and down, unless the set says Parallel. A pod still leaving keeps its ordinal. */
  function reconcileStatefulSet(workload: KubernetesObject, hash: string, alreadyReady: boolean): void {
    const desired = desiredReplicas(workload);
    const policy = stringAt(workload, 'spec.podManagementPolicy', 'OrderedReady');
    const ordered = policy === 'OrderedReady' && !alreadyReady;
    const all = new Map(podsOf(workload).map((pod) => [ordinalOf(pod), pod]));
    for (let ordinal = 0; ordinal < desired; ordinal += 1) {
      const pod = all.get(ordinal);
      if (pod === undefined) {
        const name = `${workload.metadata.name}-${ordinal}`;
        createPod(workload, { owner: workload, name, label: { [REVISION_LABEL]: hash }, alreadyReady });
      }
      if (ordered && (pod === undefined || !isCounted(pod))) return;
    }
    const fromHighest = [...all.values()].sort((left, right) => ordinalOf(right) - ordinalOf(left));
    const surplus = fromHighest.filter((pod) => ordinalOf(pod) >= desired);
    for (const pod of ordered ? surplus.slice(0, 1) : surplus) pods.terminate(pod);
    const outdated = fromHighest.find((pod) => pod.metadata.labels?.[REVISION_LABEL] !== hash);
    if (surplus.length === 0 && outdated !== undefined) pods.terminate(outdated);
  }

  function createPod(
    workload: KubernetesObject,
    plan: {
      readonly owner: KubernetesObject;
      readonly name: string;
      readonly label: Readonly<Record<string, string>>;
      readonly alreadyReady: boolean;
    },
  ): void {
    const { namespace = '', annotations } = workload.metadata;
    const key = keyOf(workload.kind, namespace, workload.metadata.name);
    podNames.set(key, (podNames.get(key) ?? new Set()).add(plan.name));
    const template = asObject(valueAt(workload, 'spec.template'));
    const labels = asObject(asObject(template.metadata).labels) as Readonly<Record<string, string>>;
    const startDelay = annotations?.[START_DELAY_ANNOTATION];
    pods.create({ ...plan, namespace, template, labels: { ...labels, ...plan.label }, startDelay });
  }

  function report(resource: ApiResource, reconciled: KubernetesObject, hash: string): void {
    const { namespace = null, name } = reconciled.metadata;
    const workload = store.get(resource, namespace, name) ?? reconciled;
    const active = podsOf(workload).filter(isActive);
    const label = resource === DEPLOYMENTS ? HASH_LABEL : REVISION_LABEL;
    const counts: PodCounts = {
      desired: desiredReplicas(workload),
      total: active.length,
      ready: active.filter(isReady).length,
      updated: active.filter((pod) => pod.metadata.labels?.[label] === hash).length,
    };
    const status = statusOf(resource, workload, counts, { hash, time: store.timestamp() });
    const reported = { ...workload, metadata: withRevision(resource, workload, hash), status };
    if (!deepEqual(workload, reported)) store.put(resource, reported);
    if (resource === DEPLOYMENTS) replicaSets.report(workload, hash, active);
  }

  function withRevision(
    resource: ApiResource,
    { metadata }: KubernetesObject,
    hash: string,
  ): KubernetesObject['metadata'] {
    if (resource !== DEPLOYMENTS) return metadata;
    const revision = replicaSets.revisionOf(metadata.namespace ?? '', `${metadata.name}-${hash}`);
    return { ...metadata, annotations: { ...metadata.annotations, [REVISION_ANNOTATION]: revision } };
  }

  function collectGarbage(workload: KubernetesObject): void {
    for (const pod of podsOf(workload)) pods.terminate(pod);
    replicaSets.removeAll(workload);
  }

  return {
    settle(resource, workload) {
      settling.add(workload.metadata.uid);
      reconcile(resource, workload, true);
      settling.delete(workload.metadata.uid);
    },
    podsOf,
    close() {
      for (const unsubscribe of subscriptions) unsubscribe();
    },
  };
}

function keyOf(kind: string, namespace: string, name: string): string {
  return `${kind}/${namespace}/${name}`;
}

/** By the names: a pod may outlive its ReplicaSet, and its Deployment may be another one by now. */
function workloadOf(
  pod: KubernetesObject,
): { readonly resource: ApiResource; readonly name: string; readonly key: string } | undefined {
  const [owner] = asArray(pod.metadata.ownerReferences);
  const ownerName = stringAt(owner, 'name');
  const namespace = pod.metadata.namespace ?? '';
  switch (stringAt(owner, 'kind')) {
    case 'StatefulSet':
      return { resource: STATEFUL_SETS, name: ownerName, key: keyOf('StatefulSet', namespace, ownerName) };
    case 'ReplicaSet': {
      const name = ownerName.slice(0, -1 - (pod.metadata.labels?.[HASH_LABEL] ?? '').length);
      return { resource: DEPLOYMENTS, name, key: keyOf('Deployment', namespace, name) };
    }
    default:
      return undefined;
  }
}

function isActive(pod: KubernetesObject): boolean {
  return pod.metadata.deletionTimestamp === undefined;
}

function isCounted(pod: KubernetesObject): boolean {
  return isActive(pod) && isReady(pod);
}

function ordinalOf(pod: KubernetesObject): number {
  return Number(pod.metadata.name.split('-').at(-1));
}

function templateHash(workload: KubernetesObject): string {
  const template = JSON.stringify(valueAt(workload, 'spec.template') ?? null);
  return createHash('sha256').update(template).digest('hex').slice(0, 10);
}
