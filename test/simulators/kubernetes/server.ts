import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { answerControl, CONTROL_PREFIX } from '../core/control.ts';
import { createFaultScript } from '../core/fault-script.ts';
import { createLedger, type LedgerEntry } from '../core/ledger.ts';
import { seededRandom } from '../core/seeded-random.ts';
import { createVirtualClock, type VirtualClock, type VirtualClockOptions } from '../core/virtual-clock.ts';
import type { TokenGrant } from './access.ts';
import { type ApiResource, DEPLOYMENTS, SCALED_OBJECTS, STATEFUL_SETS } from './api-resources.ts';
import { createEventRecorder } from './cluster-events.ts';
import { controlsOf, viewOf, type WorkloadView } from './control.ts';
import { openExchange } from './exchange.ts';
import {
  changeExternally,
  type HpaSeed,
  type ScaledObjectSeed,
  type StatefulSetSeed,
  seedDeployment,
  seedHpa,
  seedNamespace,
  seedScaledObject,
  seedStatefulSet,
  setLoad,
  setReplicas,
  type WorkloadSeed,
} from './external.ts';
import { startHpaController } from './hpa-controller.ts';
import type { KubernetesObject } from './json.ts';
import { kubeconfigFor } from './kubeconfig.ts';
import { createObjectStore } from './object-store.ts';
import { userOf } from './perform.ts';
import { type ClusterCapacity, createPodLifecycle } from './pods.ts';
import { serve } from './serve.ts';
import {
  type ExternalChange,
  internalRequester,
  type KubernetesEffect,
  type KubernetesFaultScript,
  type KubernetesLedger,
  type KubernetesSubject,
  type Simulation,
} from './simulation.ts';
import { createWorkloadController } from './workload-controller.ts';

export interface KubernetesSimulatorOptions extends VirtualClockOptions {
  /** Default: any free port. Always on 127.0.0.1, plain http. */
  readonly port?: number;
  /** Uids, jitter and probabilities; default 1. */
  readonly seed?: number;
  /** Of the kubeconfig; default `simulator`. */
  readonly context?: string;
  /** From a pod's creation to Ready, virtual ms; default 20 s. */
  readonly startDelayMs?: number;
  /** How much of it may be added or taken away, by chance; default 0.5. */
  readonly startJitter?: number;
  /** From a pod's deletion to its end, virtual ms; default 5 s. */
  readonly stopDelayMs?: number;
  /** From a change to the controllers acting on it, virtual ms; default 50. */
  readonly controllerDelayMs?: number;
  /** Default 15 s, virtual; `false` leaves autoscalers lifeless. */
  readonly hpaSyncPeriodMs?: number | false;
  /** What fits into the cluster; default everything. */
  readonly capacity?: ClusterCapacity;
  /** Whether KEDA's API is there; default true. */
  readonly keda?: boolean;
  /** Bearer tokens by their text. Absent: everybody may do everything. */
  readonly tokens?: Readonly<Record<string, TokenGrant>>;
  /** Of every request, real ms, evenly spread; default none. */
  readonly latencyMs?: { readonly from: number; readonly to: number };
  /** Events kept for watches to resume from, per resource; default 2000. */
  readonly watchHistory?: number;
  /** Real ms; default 60 s, as measured. */
  readonly bookmarkIntervalMs?: number;
  readonly deployments?: readonly WorkloadSeed[];
  /** Takes the ledger's entries instead of keeping them in memory. */
  readonly ledgerSink?: (entry: LedgerEntry<KubernetesSubject>) => void;
}

export type WorkloadKind = 'Deployment' | 'StatefulSet';

export interface KubernetesSimulator {
  readonly url: string;
  readonly port: number;
  /** The text of a kubeconfig file; with tokens, it carries the first of them. */
  readonly kubeconfig: string;
  readonly clock: VirtualClock;
  readonly ledger: KubernetesLedger;
  readonly faults: KubernetesFaultScript;
  /** Change it to rotate or expire tokens; empty, everybody may do everything. */
  readonly tokens: Map<string, TokenGrant>;
  kubeconfigFor(token: string): string;
  createDeployment(seed: WorkloadSeed): WorkloadView;
  createStatefulSet(seed: StatefulSetSeed): WorkloadView;
  createHpa(seed: HpaSeed): KubernetesObject;
  createScaledObject(seed: ScaledObjectSeed): KubernetesObject;
  workload(namespace: string, name: string, kind?: WorkloadKind): WorkloadView | undefined;
  /** What somebody else does to a workload, at once and past all faults. */
  changeExternally(namespace: string, name: string, change: ExternalChange, kind?: WorkloadKind): void;
  /** How busy a workload is, for the simulated autoscaler: percent of one pod's CPU request, over all pods. */
  setLoad(namespace: string, name: string, percent: number, kind?: WorkloadKind): void;
  setCapacity(capacity: ClusterCapacity): void;
  close(): Promise<void>;
}

const HPA_CONTROLLER = 'system:serviceaccount:kube-system:horizontal-pod-autoscaler';
/** Longer than a test client keeps an idle connection, so that the only resets are those of the fault script. */
const KEEP_ALIVE_MS = 65_000;
/** The real server's limit. */
const LARGEST_BODY = 3 * 1024 * 1024;

/** Listens on a free port of the loopback until it is closed. */
export async function startKubernetesSimulator(
  options: KubernetesSimulatorOptions = {},
): Promise<KubernetesSimulator> {
  const timers = new Set<NodeJS.Timeout>();
  const { simulation, stopControllers } = createSimulation(options, timers, () => `127.0.0.1:${port}`);
  const server = createServer((request, response) => receive(simulation, request, response));
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const context = options.context ?? 'simulator';

  const view = (object: KubernetesObject): WorkloadView => viewOf(simulation, object);
  return {
    url,
    port,
    kubeconfig: kubeconfigFor({ server: url, context, token: [...simulation.tokens.keys()][0] }),
    clock: simulation.clock,
    ledger: simulation.ledger,
    faults: simulation.faults,
    tokens: simulation.tokens,
    kubeconfigFor: (token) => kubeconfigFor({ server: url, context, token }),
    createDeployment: (seed) => view(seedDeployment(simulation, seed)),
    createStatefulSet: (seed) => view(seedStatefulSet(simulation, seed)),
    createHpa: (seed) => seedHpa(simulation, seed),
    createScaledObject: (seed) => seedScaledObject(simulation, seed),
    workload(namespace, name, kind) {
      simulation.clock.runDue();
      const found = simulation.store.get(resourceOf(kind), namespace, name);
      return found === undefined ? undefined : view(found);
    },
    changeExternally: (namespace, name, change, kind) =>
      changeExternally(simulation, { resource: resourceOf(kind), namespace, name }, change),
    setLoad: (namespace, name, percent, kind) =>
      setLoad(simulation, { resource: resourceOf(kind), namespace, name }, percent),
    setCapacity: (capacity) => simulation.pods.setCapacity(capacity),
    async close() {
      stopControllers();
      simulation.clock.close();
      for (const timer of timers) clearTimeout(timer);
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections(); // hanging requests and watches would keep it open for ever
      await closed;
    },
  };
}

function resourceOf(kind: WorkloadKind = 'Deployment'): ApiResource {
  return kind === 'StatefulSet' ? STATEFUL_SETS : DEPLOYMENTS;
}

function createSimulation(
  options: KubernetesSimulatorOptions,
  timers: Set<NodeJS.Timeout>,
  address: () => string,
): { simulation: Simulation; stopControllers: () => void } {
  const clock = createVirtualClock(options);
  const seed = options.seed ?? 1;
  const random = seededRandom(seed);
  const store = createObjectStore({ clock, random, watchHistory: options.watchHistory ?? 2000 });
  const record = createEventRecorder(store);
  const { startDelayMs = 20_000, startJitter = 0.5, stopDelayMs = 5_000 } = options;
  const times = {
    startMs: [startDelayMs * (1 - startJitter), startDelayMs * (1 + startJitter)] as const,
    stopMs: stopDelayMs,
  };
  const pods = createPodLifecycle({ store, clock, random, record, times, capacity: options.capacity ?? {} });
  const reactionMs = options.controllerDelayMs ?? 50;
  const workloads = createWorkloadController({ store, clock, pods, record, reactionMs });
  const simulation: Simulation = {
    store,
    clock,
    pods,
    workloads,
    ledger: createLedger<KubernetesSubject>(options.ledgerSink),
    // A source of its own: adding a fault must not change the world's uids and delays.
    faults: createFaultScript<KubernetesEffect>({ now: clock.now, random: seededRandom(seed + 1) }),
    tokens: new Map(Object.entries(options.tokens ?? {})),
    missingGroups: new Set(options.keda === false ? [SCALED_OBJECTS.group] : []),
    latencyMs: options.latencyMs ?? { from: 0, to: 0 },
    random: seededRandom(seed + 2),
    bookmarkIntervalMs: options.bookmarkIntervalMs ?? 60_000,
    address,
    later(milliseconds, work) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        work();
      }, milliseconds);
      timers.add(timer);
    },
  };
  for (const name of ['default', 'kube-system']) seedNamespace(simulation, name);
  for (const deployment of options.deployments ?? []) seedDeployment(simulation, deployment);
  const stopHpa = startHpa(simulation, record, options.hpaSyncPeriodMs ?? 15_000);
  return {
    simulation,
    stopControllers() {
      stopHpa();
      workloads.close();
      pods.close();
    },
  };
}

function startHpa(
  simulation: Simulation,
  record: ReturnType<typeof createEventRecorder>,
  syncPeriodMs: number | false,
): () => void {
  if (syncPeriodMs === false) return () => {};
  const { store, clock } = simulation;
  return startHpaController({
    store,
    clock,
    record,
    syncPeriodMs,
    setReplicas: (resource, namespace, name, replicas) => {
      const requester = internalRequester('HorizontalPodAutoscaler', HPA_CONTROLLER);
      setReplicas(simulation, { resource, namespace, name }, replicas, 'kube-controller-manager', requester);
    },
  });
}

function receive(simulation: Simulation, request: IncomingMessage, response: ServerResponse): void {
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    size += chunk.length;
    if (size > LARGEST_BODY) request.destroy();
  });
  request.on('end', () => {
    const body = Buffer.concat(chunks);
    if (request.url?.startsWith(CONTROL_PREFIX) === true)
      answerControl(controlsOf(simulation), simulation.clock, request, response, body.toString('utf8'));
    else serve(openExchange(simulation, request, response, body, userOf(request, simulation.tokens)));
  });
  request.on('error', () => response.destroy());
}
