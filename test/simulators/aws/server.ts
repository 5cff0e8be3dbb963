import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { answerControl, CONTROL_PREFIX } from '../core/control.ts';
import { createFaultScript } from '../core/fault-script.ts';
import { createLedger } from '../core/ledger.ts';
import { seededRandom } from '../core/seeded-random.ts';
import { createVirtualClock, type VirtualClock, type VirtualClockOptions } from '../core/virtual-clock.ts';
import { controlsOf, describe, type GroupView, limitCapacity } from './control.ts';
import {
  changeExternally,
  DEFAULT_REGION,
  type ExternalChange,
  type GroupSeed,
  seedGroup,
} from './external.ts';
import type { AwsEffect, AwsFaultScript } from './faults.ts';
import { answerQuery } from './query-endpoint.ts';
import { createRateLimits, type RateLimit } from './rate-limits.ts';
import type { Credential, SignaturePolicy } from './signature.ts';
import type { Simulation } from './simulation.ts';
import {
  type AwsLedger,
  type AwsLedgerEntry,
  type AwsSubject,
  type Provisioning,
  regionOf,
  type World,
} from './state.ts';

export interface AwsSimulatorOptions extends VirtualClockOptions {
  /** Default: any free port. Always on 127.0.0.1. */
  readonly port?: number;
  /** Jitter, probabilities and ids; default 1. */
  readonly seed?: number;
  readonly provisioning?: Partial<Provisioning>;
  /** Access keys that exist. Absent: any key is good, and signatures are checked for form and date only. */
  readonly credentials?: Readonly<Record<string, Credential>>;
  readonly signatureMaxAgeMs?: number;
  readonly expiredSignatureCode?: SignaturePolicy['expiredCode'];
  /** Token buckets by action name; `'*'` is shared by all actions of a region. */
  readonly rateLimits?: Readonly<Record<string, RateLimit>>;
  readonly latencyMs?: { readonly from: number; readonly to: number };
  readonly groups?: readonly GroupSeed[];
  /** Takes the ledger's entries instead of keeping them in memory. */
  readonly ledgerSink?: (entry: AwsLedgerEntry) => void;
}

export interface AwsSimulator {
  readonly endpoint: string;
  readonly port: number;
  readonly clock: VirtualClock;
  readonly ledger: AwsLedger;
  readonly faults: AwsFaultScript;
  /** Change it to rotate or expire keys; undefined when the simulator was started without. */
  readonly credentials: Map<string, Credential> | undefined;
  createGroup(seed: GroupSeed): GroupView;
  group(name: string, region?: string): GroupView | undefined;
  /** What somebody else does to a group, at once and past all faults. */
  changeExternally(name: string, change: ExternalChange, region?: string): void;
  limitCapacity(instanceType: string, limit: number | null, region?: string): void;
  close(): Promise<void>;
}

/** RIGS' wish: 30 to 180 s to launch; and so that an hour's demo sees retries. */
const DEFAULT_PROVISIONING: Provisioning = {
  launchMs: 90_000,
  launchMsByType: {},
  terminateMs: 30_000,
  jitter: 0.5,
  retryMs: 60_000,
};
const SIGNATURE_MAX_AGE_MS = 300_000;
/** Longer than a test client keeps an idle connection, so that the only resets are those of the fault script. */
const KEEP_ALIVE_MS = 65_000;
const LARGEST_BODY = 1_000_000;

/** Listens on a free port of the loopback until it is closed. */
export async function startAwsSimulator(options: AwsSimulatorOptions = {}): Promise<AwsSimulator> {
  const clock = createVirtualClock(options);
  const random = seededRandom(options.seed ?? 1);
  const credentials =
    options.credentials === undefined ? undefined : new Map(Object.entries(options.credentials));
  const world: World = {
    clock,
    random,
    ledger: createLedger<AwsSubject>(options.ledgerSink),
    provisioning: { ...DEFAULT_PROVISIONING, ...options.provisioning },
    regions: new Map(),
    nextOrder: 1,
  };
  const timers = new Set<NodeJS.Timeout>();
  const simulation: Simulation = {
    world,
    // Its own source: adding a fault must not change the world's ids and delays.
    faults: createFaultScript<AwsEffect>({ now: clock.now, random: seededRandom((options.seed ?? 1) + 1) }),
    rateLimits: createRateLimits(options.rateLimits ?? {}),
    signatures: {
      credentials,
      maxAgeMs: options.signatureMaxAgeMs ?? SIGNATURE_MAX_AGE_MS,
      expiredCode: options.expiredSignatureCode ?? 'RequestExpired',
    },
    latencyMs: options.latencyMs ?? { from: 0, to: 0 },
    later(milliseconds, work) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        work();
      }, milliseconds);
      timers.add(timer);
    },
  };
  for (const seed of options.groups ?? []) seedGroup(world, seed);

  const server = createServer((request, response) => receive(simulation, request, response));
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;

  return {
    endpoint: `http://127.0.0.1:${port}`,
    port,
    clock,
    ledger: world.ledger,
    faults: simulation.faults,
    credentials,
    createGroup: (seed) => describe(seedGroup(world, seed)),
    group(name, region = DEFAULT_REGION) {
      clock.runDue();
      const group = regionOf(world, region).groups.get(name);
      return group === undefined ? undefined : describe(group);
    },
    changeExternally: (name, change, region = DEFAULT_REGION) =>
      changeExternally(world, region, name, change),
    limitCapacity: (instanceType, limit, region = DEFAULT_REGION) =>
      limitCapacity(world, region, instanceType, limit),
    async close() {
      clock.close();
      for (const timer of timers) clearTimeout(timer);
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections(); // hanging requests would keep it open for ever
      await closed;
    },
  };
}

function receive(simulation: Simulation, request: IncomingMessage, response: ServerResponse): void {
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (chunk: string) => {
    body += chunk;
    if (body.length > LARGEST_BODY) request.destroy();
  });
  request.on('end', () => {
    if (request.url?.startsWith(CONTROL_PREFIX) === true)
      answerControl(controlsOf(simulation), simulation.world.clock, request, response, body);
    else answerQuery(simulation, request, response, body);
  });
  request.on('error', () => response.destroy());
}
