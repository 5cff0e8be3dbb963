import type { IncomingMessage, ServerResponse } from 'node:http';
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
import type { ExternalChange, KubernetesFaultRule, Simulation } from './simulation.ts';

export const CONTROL_PREFIX = '/_simulator/';

/** JSON over HTTP for other processes: what the ledger holds, how the world stands, and how to disturb it. */
export function answerControl(
  simulation: Simulation,
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
): void {
  const url = new URL(request.url ?? '/', 'http://simulator');
  const name = url.pathname.slice(CONTROL_PREFIX.length);
  simulation.clock.runDue();
  try {
    const run = controls[`${request.method} ${name}`];
    if (run === undefined) {
      sendJson(response, 404, { error: `No such control. There are: ${Object.keys(controls).join(', ')}` });
      return;
    }
    const input: unknown = body.length === 0 ? {} : JSON.parse(body.toString('utf8'));
    sendJson(response, 200, run({ simulation, query: url.searchParams, input }));
  } catch (error) {
    sendJson(response, 400, { error: error instanceof Error ? error.message : String(error) });
  }
}

interface Control {
  readonly simulation: Simulation;
  readonly query: URLSearchParams;
  /** Only our own tests and demo call this: a wrong body fails loudly. */
  readonly input: unknown;
}

const controls: Readonly<Record<string, (control: Control) => unknown>> = {
  'GET ledger': ({ simulation, query }) => {
    const event = query.get('event');
    const entries = simulation.ledger.entries(Number(query.get('after') ?? 0));
    return { entries: event === null ? entries : entries.filter((entry) => entry.event === event) };
  },
  'GET state': ({ simulation }) => describeWorld(simulation),
  'GET faults': ({ simulation }) => ({ faults: simulation.faults.list() }),
  'POST faults': ({ simulation, input }) => ({
    ids: [input].flat().map((rule) => simulation.faults.add(rule as KubernetesFaultRule)),
  }),
  'DELETE faults': ({ simulation, query }) => {
    const id = query.get('id');
    if (id === null) simulation.faults.clear();
    else simulation.faults.remove(id);
    return { faults: simulation.faults.list() };
  },
  'POST clock': ({ simulation, input }) => {
    const change = input as { advanceMs?: number; timeScale?: number };
    if (change.timeScale !== undefined) simulation.clock.setTimeScale(change.timeScale);
    if (change.advanceMs !== undefined) simulation.clock.advance(change.advanceMs);
    return { now: simulation.clock.now() };
  },
  'POST workloads': ({ simulation, input }) => ({
    workloads: [input].flat().map((seed) => seedAny(simulation, seed as AnySeed).metadata.name),
  }),
  'POST external': ({ simulation, input }) => {
    const { kind, namespace, name, ...change } = input as Named & ExternalChange;
    changeExternally(simulation, objectName({ kind, namespace, name }), change);
    return {};
  },
  'POST load': ({ simulation, input }) => {
    const { percent, ...object } = input as Named & { percent: number };
    setLoad(simulation, objectName(object), percent);
    return {};
  },
  'POST capacity': ({ simulation, input }) => {
    simulation.pods.setCapacity(input as ClusterCapacity);
    return {};
  },
};

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

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}
