import type { Random } from '../core/seeded-random.ts';
import type { VirtualClock } from '../core/virtual-clock.ts';
import { PODS } from './api-resources.ts';
import type { EventRecorder } from './cluster-events.ts';
import {
  asArray,
  asObject,
  type JsonObject,
  type KubernetesObject,
  ownerReference,
  stringAt,
  valueAt,
} from './json.ts';
import type { ObjectStore } from './object-store.ts';
import { parseQuantity } from './quantities.ts';

/** How much fits into the cluster as a whole; what is absent is endless. */
export interface ClusterCapacity {
  readonly pods?: number;
  readonly cpu?: string;
  readonly memory?: string;
}

export interface PodTimes {
  /** From being scheduled to Ready, virtual ms: evenly spread between the two. */
  readonly startMs: readonly [from: number, to: number];
  /** From the deletion to being gone. */
  readonly stopMs: number;
}

/** One workload may start faster or slower than the cluster's default. */
export const START_DELAY_ANNOTATION = 'simulator.local/start-delay-ms';

export interface PodPlan {
  readonly name: string;
  readonly namespace: string;
  readonly owner: KubernetesObject;
  readonly template: JsonObject;
  readonly labels: Readonly<Record<string, string>>;
  readonly startDelay: string | undefined;
  /** Seeded pods are there and Ready at once. */
  readonly alreadyReady: boolean;
}

export interface PodLifecycle {
  create(plan: PodPlan): void;
  terminate(pod: KubernetesObject): void;
  setCapacity(capacity: ClusterCapacity): void;
  close(): void;
}

const NODE = 'simulated-node-1';

/** Scheduler and kubelet in one: Pending, Running and Ready, Terminating, gone. */
export function createPodLifecycle(options: {
  readonly store: ObjectStore;
  readonly clock: VirtualClock;
  readonly random: Random;
  readonly record: EventRecorder;
  readonly times: PodTimes;
  readonly capacity: ClusterCapacity;
}): PodLifecycle {
  const { store, clock, random, record, times } = options;
  let { capacity } = options;
  /** Names of the pods that did not fit, first come first served. */
  const waiting = new Map<string, string>();
  const used = { pods: 0, cpu: 0, memory: 0 };

  const stopCounting = store.subscribe(PODS, ({ type, object, previous }) => {
    const [was, is] = [previous !== undefined && isPlaced(previous), type !== 'DELETED' && isPlaced(object)];
    if (was !== is) count(object, is ? 1 : -1);
    if (type === 'DELETED') waiting.delete(object.metadata.uid);
    if (was && !is) clock.at(clock.now(), placeWaiting);
  });

  function count(pod: KubernetesObject, sign: 1 | -1): void {
    const wanted = requestsOf(pod);
    used.pods += sign;
    used.cpu += sign * wanted.cpu;
    used.memory += sign * wanted.memory;
  }

  function missingFor(pod: KubernetesObject): string | undefined {
    const wanted = requestsOf(pod);
    const room = 1e-9;
    if (used.pods + 1 > (capacity.pods ?? Number.POSITIVE_INFINITY)) return 'Too many pods';
    if (capacity.cpu !== undefined && used.cpu + wanted.cpu > parseQuantity(capacity.cpu) + room) {
      return 'Insufficient cpu';
    }
    const memory = capacity.memory === undefined ? Number.POSITIVE_INFINITY : parseQuantity(capacity.memory);
    return used.memory + wanted.memory > memory + room ? 'Insufficient memory' : undefined;
  }

  function current(pod: KubernetesObject): KubernetesObject | undefined {
    const found = store.get(PODS, pod.metadata.namespace ?? null, pod.metadata.name);
    return found?.metadata.uid === pod.metadata.uid ? found : undefined;
  }

  function schedule(pod: KubernetesObject, startDelayMs: number): void {
    const missing = missingFor(pod);
    if (missing === undefined) {
      waiting.delete(pod.metadata.uid);
      const placed = store.put(PODS, withPlace(pod, store.timestamp()));
      clock.at(clock.now() + startDelayMs, () => makeReady(placed));
      return;
    }
    if (waiting.has(pod.metadata.uid)) return;
    waiting.set(pod.metadata.uid, `${pod.metadata.namespace}/${pod.metadata.name}`);
    const message = `0/1 nodes are available: 1 ${missing}. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.`;
    const unschedulable = condition('PodScheduled', 'False', store.timestamp(), {
      reason: 'Unschedulable',
      message,
    });
    store.put(PODS, {
      ...pod,
      status: { ...asObject(pod.status), phase: 'Pending', conditions: [unschedulable] },
    });
    record({
      about: pod,
      type: 'Warning',
      reason: 'FailedScheduling',
      message,
      component: 'default-scheduler',
    });
  }

  function placeWaiting(): void {
    for (const [uid, key] of [...waiting]) {
      const [namespace = '', name = ''] = key.split('/');
      const pod = store.get(PODS, namespace, name);
      if (pod === undefined || pod.metadata.uid !== uid || pod.metadata.deletionTimestamp !== undefined) {
        waiting.delete(uid);
      } else if (missingFor(pod) === undefined) schedule(pod, startDelayOf(pod));
    }
  }

  function startDelayOf(pod: KubernetesObject): number {
    const given = Number(pod.metadata.annotations?.[START_DELAY_ANNOTATION]);
    const [from, to] = times.startMs;
    return Number.isFinite(given) ? given : from + random() * (to - from);
  }

  function makeReady(pod: KubernetesObject): void {
    const now = current(pod);
    if (now === undefined || now.metadata.deletionTimestamp !== undefined) return;
    store.put(PODS, withReadiness(now, store.timestamp(), podIp(random)));
  }

  return {
    create(plan) {
      const pod = newPod(plan, store);
      if (plan.alreadyReady && missingFor(pod) === undefined) {
        store.put(PODS, withReadiness(withPlace(pod, store.timestamp()), store.timestamp(), podIp(random)));
        return;
      }
      const created = store.put(PODS, pod);
      schedule(created, startDelayOf(created));
    },
    terminate(pod) {
      const now = current(pod);
      if (now === undefined || now.metadata.deletionTimestamp !== undefined) return;
      const metadata = {
        ...now.metadata,
        deletionTimestamp: store.timestamp(),
        deletionGracePeriodSeconds: 30,
      };
      store.put(PODS, { ...now, metadata });
      clock.at(clock.now() + times.stopMs, () => {
        if (current(pod) !== undefined) store.remove(PODS, pod.metadata.namespace ?? null, pod.metadata.name);
      });
    },
    setCapacity(newCapacity) {
      capacity = newCapacity;
      placeWaiting();
    },
    close: stopCounting,
  };
}

function isPlaced(pod: KubernetesObject): boolean {
  return stringAt(pod, 'spec.nodeName') !== '';
}

function requestsOf(pod: KubernetesObject): { cpu: number; memory: number } {
  const containers = asArray(valueAt(pod, 'spec.containers'));
  const sum = (name: 'cpu' | 'memory'): number =>
    containers.reduce<number>(
      (total, each) => total + parseQuantity(stringAt(each, `resources.requests.${name}`)),
      0,
    );
  return { cpu: sum('cpu'), memory: sum('memory') };
}

function newPod(plan: PodPlan, store: ObjectStore): KubernetesObject {
  const { owner, template, startDelay } = plan;
  const annotations = startDelay === undefined ? {} : { [START_DELAY_ANNOTATION]: startDelay };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: plan.name,
      namespace: plan.namespace,
      uid: store.newUid(),
      resourceVersion: '',
      creationTimestamp: store.timestamp(),
      labels: plan.labels,
      ...(startDelay === undefined ? {} : { annotations }),
      ownerReferences: [ownerReference(owner)],
    },
    spec: asObject(template.spec),
    status: { phase: 'Pending', qosClass: 'Burstable' },
  };
}

function condition(type: string, status: string, time: string, more: JsonObject = {}): JsonObject {
  return { type, status, lastProbeTime: null, lastTransitionTime: time, ...more };
}

function withPlace(pod: KubernetesObject, time: string): KubernetesObject {
  return {
    ...pod,
    spec: { ...asObject(pod.spec), nodeName: NODE },
    status: {
      ...asObject(pod.status),
      phase: 'Pending',
      conditions: [
        condition('PodScheduled', 'True', time),
        condition('Ready', 'False', time, { reason: 'ContainersNotReady' }),
      ],
    },
  };
}

function withReadiness(pod: KubernetesObject, time: string, ip: string): KubernetesObject {
  const types = ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'];
  return {
    ...pod,
    status: {
      ...asObject(pod.status),
      phase: 'Running',
      hostIP: '192.0.2.1',
      podIP: ip,
      podIPs: [{ ip }],
      startTime: time,
      conditions: types.map((type) => condition(type, 'True', time)),
      containerStatuses: asArray(valueAt(pod, 'spec.containers')).map((container) => ({
        name: stringAt(container, 'name'),
        image: stringAt(container, 'image'),
        imageID: '',
        ready: true,
        started: true,
        restartCount: 0,
        state: { running: { startedAt: time } },
        lastState: {},
      })),
    },
  };
}

function podIp(random: Random): string {
  return `10.244.${Math.floor(random() * 250)}.${1 + Math.floor(random() * 250)}`;
}
