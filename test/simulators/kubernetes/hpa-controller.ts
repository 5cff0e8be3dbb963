import type { VirtualClock } from '../core/virtual-clock.ts';
import { type ApiResource, DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, STATEFUL_SETS } from './api-resources.ts';
import type { EventRecorder } from './cluster-events.ts';
import { asArray, asObject, deepEqual, type KubernetesObject, numberAt, stringAt, valueAt } from './json.ts';
import type { ObjectStore } from './object-store.ts';
import { transition } from './workload-status.ts';

/** The whole load of a workload, in percent of what one pod's CPU request can carry. */
export const LOAD_ANNOTATION = 'simulator.local/load-percent';
/** Ratios this close to 1 change nothing, as in the real controller. */
const TOLERANCE = 0.1;

/**
 * Rewrites `spec.replicas` every sync period, as the real one does to whoever else writes it. Left out: the scaling
 * policies, the stabilization window and every metric but CPU.
 */
export function startHpaController(options: {
  readonly store: ObjectStore;
  readonly clock: VirtualClock;
  readonly record: EventRecorder;
  readonly syncPeriodMs: number;
  readonly setReplicas: (resource: ApiResource, namespace: string, name: string, replicas: number) => void;
}): () => void {
  const { store, clock, record, syncPeriodMs, setReplicas } = options;
  let cancel = clock.at(clock.now() + syncPeriodMs, tick);

  function tick(): void {
    for (const hpa of store.list(HORIZONTAL_POD_AUTOSCALERS, null)) sync(hpa);
    cancel = clock.at(clock.now() + syncPeriodMs, tick);
  }

  function sync(hpa: KubernetesObject): void {
    const namespace = hpa.metadata.namespace ?? 'default';
    const resource =
      stringAt(hpa, 'spec.scaleTargetRef.kind') === 'StatefulSet' ? STATEFUL_SETS : DEPLOYMENTS;
    const target = store.get(resource, namespace, stringAt(hpa, 'spec.scaleTargetRef.name'));
    if (target === undefined) {
      report(hpa, undefined, undefined, { status: 'False', reason: 'FailedGetScale' });
      return;
    }
    const current = numberAt(target, 'spec.replicas');
    if (current === 0) {
      report(hpa, target, 0, { status: 'False', reason: 'ScalingDisabled' });
      return;
    }
    const desired = desiredReplicas(hpa, target);
    if (desired !== current) {
      setReplicas(resource, namespace, target.metadata.name, desired);
      const message = `New size: ${desired}; reason: cpu resource utilization (percentage of request) ${desired > current ? 'above' : 'below'} target`;
      record({
        about: hpa,
        type: 'Normal',
        reason: 'SuccessfulRescale',
        message,
        component: 'horizontal-pod-autoscaler',
      });
    }
    report(hpa, target, desired, { status: 'True', reason: 'ValidMetricFound' });
  }

  function report(
    hpa: KubernetesObject,
    target: KubernetesObject | undefined,
    desired: number | undefined,
    active: { readonly status: string; readonly reason: string },
  ): void {
    const time = store.timestamp();
    const before = asObject(hpa.status);
    const currentReplicas = numberAt(target, 'status.replicas');
    const utilization = target === undefined ? undefined : utilizationOf(target);
    const conditions = asArray(before.conditions);
    const able = {
      type: 'AbleToScale',
      status: 'True',
      reason: 'ReadyForNewScale',
      message: 'recommended size matches current size',
    };
    const scaling = {
      type: 'ScalingActive',
      ...active,
      message: `scaling is ${active.status === 'True' ? 'active' : 'off'}`,
    };
    const status = {
      ...before,
      currentReplicas,
      desiredReplicas: desired ?? 0,
      ...(desired !== undefined && desired !== numberAt(target, 'spec.replicas')
        ? { lastScaleTime: time }
        : {}),
      ...(utilization === undefined ? {} : { currentMetrics: [currentCpu(utilization)] }),
      conditions: [transition(conditions, time, able), transition(conditions, time, scaling)],
    };
    if (!deepEqual(before, status)) store.put(HORIZONTAL_POD_AUTOSCALERS, { ...hpa, status });
  }

  return () => cancel();
}

function currentCpu(averageUtilization: number) {
  return { type: 'Resource', resource: { name: 'cpu', current: { averageUtilization, averageValue: '0' } } };
}

function utilizationOf(target: KubernetesObject): number | undefined {
  const load = Number(target.metadata.annotations?.[LOAD_ANNOTATION]);
  const ready = numberAt(target, 'status.readyReplicas');
  return Number.isFinite(load) && ready > 0 ? Math.round(load / ready) : undefined;
}

/** Without a load the bounds alone count. */
function desiredReplicas(hpa: KubernetesObject, target: KubernetesObject): number {
  const [min, max] = [numberAt(hpa, 'spec.minReplicas', 1), numberAt(hpa, 'spec.maxReplicas', 1)];
  const current = numberAt(target, 'spec.replicas');
  const wanted = wantedByLoad(hpa, target) ?? current;
  return Math.min(max, Math.max(min, wanted));
}

function wantedByLoad(hpa: KubernetesObject, target: KubernetesObject): number | undefined {
  const utilization = utilizationOf(target);
  const cpu = asArray(valueAt(hpa, 'spec.metrics')).find(
    (metric) => stringAt(metric, 'resource.name') === 'cpu',
  );
  const goal = numberAt(cpu, 'resource.target.averageUtilization');
  if (utilization === undefined || goal === 0) return undefined;
  const ratio = utilization / goal;
  if (Math.abs(1 - ratio) <= TOLERANCE) return undefined;
  return Math.ceil(ratio * numberAt(target, 'status.readyReplicas'));
}
