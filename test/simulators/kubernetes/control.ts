import { type Controls, commonControls } from '../core/control.ts';
import { API_RESOURCES, DEPLOYMENTS, STATEFUL_SETS } from './api-resources.ts';
import {
  changeExternally,
  type HpaSeed,
  type ScaledObjectSeed,
  type StatefulSetSeed,
  seedDeployment,
  seedHpa,
  seedScaledObject,
  seedStatefulSet,
  setLoad,
  type WorkloadSeed,
} from './external.ts';
import { type JsonObject, type KubernetesObject, numberAt, stringAt } from './json.ts';
import type { ClusterCapacity } from './pods.ts';
import type { ExternalChange, Simulation } from './simulation.ts';

/** What other processes may do over HTTP: read the ledger and how the cluster stands, and disturb it. */
export const controlsOf = (simulation: Simulation): Controls => ({
  ...commonControls(simulation.ledger, simulation.faults, simulation.clock),
  'GET state': () => describeWorld(simulation),
  'POST workloads': ({ input }) => ({
    workloads: [input].flat().map((seed) => seedAny(simulation, seed as AnySeed).metadata.name),
  }),
  'POST external': ({ input }) => {
    const { kind, namespace, name, ...change } = input as Named & ExternalChange;
    changeExternally(simulation, objectName({ kind, namespace, name }), change);
    return {};
  },
  'POST load': ({ input }) => {
    const { percent, ...object } = input as Named & { percent: number };
    setLoad(simulation, objectName(object), percent);
    return {};
  },
  'POST capacity': ({ input }) => {
    simulation.pods.setCapacity(input as ClusterCapacity);
    return {};
  },
});

interface Named {
  readonly kind?: string | undefined;
  readonly namespace?: string | undefined;
  readonly name: string;
}

function objectName({ kind = 'Deployment', namespace = 'default', name }: Named) {
  const resource = API_RESOURCES.find((each) => each.kind === kind);
  if (resource === undefined) throw new Error(`no such kind: ${kind}`);
  return { resource, namespace, name };
}

export type AnySeed =
  | (WorkloadSeed & { readonly kind?: 'Deployment' })
  | (StatefulSetSeed & { readonly kind: 'StatefulSet' })
  | (HpaSeed & { readonly kind: 'HorizontalPodAutoscaler' })
  | (ScaledObjectSeed & { readonly kind: 'ScaledObject' });

function seedAny(simulation: Simulation, seed: AnySeed): KubernetesObject {
  switch (seed.kind) {
    case 'StatefulSet':
      return seedStatefulSet(simulation, seed);
    case 'HorizontalPodAutoscaler':
      return seedHpa(simulation, seed);
    case 'ScaledObject':
      return seedScaledObject(simulation, seed);
    default:
      return seedDeployment(simulation, seed);
  }
}

export interface WorkloadView {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation: number;
  readonly replicas: number;
  readonly currentReplicas: number;
  readonly readyReplicas: number;
  readonly pods: Readonly<Record<string, string>>;
}

export function viewOf({ workloads }: Simulation, workload: KubernetesObject): WorkloadView {
  const { namespace = '', name, uid, resourceVersion, generation = 0 } = workload.metadata;
  const pods = workloads.podsOf(workload).map((pod) => [pod.metadata.name, phaseOf(pod)] as const);
  return {
    kind: workload.kind,
    namespace,
    name,
    uid,
    resourceVersion,
    generation,
    replicas: numberAt(workload, 'spec.replicas'),
    currentReplicas: numberAt(workload, 'status.replicas'),
    readyReplicas: numberAt(workload, 'status.readyReplicas'),
    pods: Object.fromEntries(pods),
  };
}

function phaseOf(pod: KubernetesObject): string {
  return pod.metadata.deletionTimestamp === undefined ? stringAt(pod, 'status.phase') : 'Terminating';
}

function describeWorld(simulation: Simulation): JsonObject {
  const workloads = [DEPLOYMENTS, STATEFUL_SETS].flatMap((resource) =>
    simulation.store.list(resource, null).map((workload) => ({ ...viewOf(simulation, workload) })),
  );
  const { clock, store } = simulation;
  return { now: clock.now(), realNow: Date.now(), resourceVersion: store.resourceVersion(), workloads };
}
