import { type Random, seededRandom } from '../simulators/core/seeded-random.ts';

/** What a fault may hit: process names, links, resources by place in the fleet. */
export interface Topology {
  readonly apis: readonly string[];
  readonly workers: readonly string[];
  /** `<process>→<server>`. */
  readonly links: readonly string[];
  /** Places in the fleet of what may be changed from outside. */
  readonly objects: readonly number[];
  readonly awsObjects: readonly number[];
}

export interface PlannedFault {
  readonly id: number;
  /** Milliseconds after the start of the run. */
  readonly atMs: number;
  readonly kind: FaultKind;
  readonly target: string;
  readonly durationMs: number;
  /** What the kind needs besides: a mode, a count, a size. */
  readonly detail: Readonly<Record<string, string | number>>;
}

/** Killed, told to end, stopped for a while, or bereft of connections or backends. */
export const processFaults = ['killed', 'ended', 'frozen', 'connections'] as const;
export type ProcessFault = (typeof processFaults)[number];

type Range = readonly [number, number];

interface Kind {
  /** How often, relative to the others. */
  readonly weight: number;
  /** What it does to a process, when it hits one. */
  readonly process?: ProcessFault;
  readonly durationMs: Range;
  readonly targets: (topology: Topology) => readonly string[];
  /** Made shorter it would be another fault. */
  readonly whole?: boolean;
  /** Two faults of one lock never overlap; default the target. */
  readonly lock?: string;
  readonly detail?: (random: Random) => Record<string, string | number>;
}

const workers = ({ workers: names }: Topology) => names;
const apis = ({ apis: names }: Topology) => names;
const only = (name: string) => () => [name];
const objects = (topology: Topology) => topology.objects.map(String);
const clouds = () => ['aws', 'kubernetes'];
const between = (random: Random, [from, to]: Range): number => from + Math.floor(random() * (to - from + 1));
const pick = <T>(random: Random, values: readonly T[]): T =>
  values[Math.floor(random() * values.length)] as T;

/** Of the choice of victims among what is there only when the fault is injected. */
const seedIn = (random: Random): number => between(random, [0, 999_999]);

/** The victims that a fault's detail names: of the same list, in the same order, always the same ones. */
export function victimsOf<T>(detail: PlannedFault['detail'], list: readonly T[]): T[] {
  const random = seededRandom(Number(detail.victims));
  const left = [...list];
  const chosen: T[] = [];
  while (chosen.length < Number(detail.count) && left.length > 0)
    chosen.push(...left.splice(Math.floor(random() * left.length), 1));
  return chosen;
}

const linkModes: readonly (() => Record<string, string | number>)[] = [
  () => ({ mode: 'latency', ms: 150 }),
  () => ({ mode: 'latency', ms: 700 }),
  () => ({ mode: 'trickle', bytesPerSecond: 2_000 }),
  () => ({ mode: 'refuse' }),
  () => ({ mode: 'reset-before' }),
  () => ({ mode: 'reset-after' }),
  () => ({ mode: 'half-open' }),
  () => ({ mode: 'partition', way: 'up' }),
  () => ({ mode: 'partition', way: 'down' }),
  () => ({ mode: 'partition', way: 'both' }),
];

/** Effects on writes; `late` stays below the signature's age and the settle time. */
const cloudModes = [
  'throttle',
  'error-before',
  'error-after',
  'gateway-before',
  'gateway-after',
  'reset-before',
  'reset-after',
  'truncate',
  'hang-before',
  'hang-after',
  'late',
  'late-answered',
  'slow',
  'external-before',
  'external-after',
  'contention',
  'refused',
] as const;

const readModes = ['throttle', 'error-before', 'reset-before', 'truncate', 'stale-read', 'refused'] as const;

/** Once, with an end of its own; or on a schedule in a time zone, some of which are no whole hours away from UTC. */
const freezeDetail = (random: Random): Record<string, string> => ({
  direction: pick(random, ['up', 'down', 'both']),
  mode: pick(random, ['once', 'once-deleted', 'scheduled', 'scheduled']),
  zone: pick(random, [
    'UTC',
    'America/St_Johns',
    'Asia/Kathmandu',
    'Pacific/Kiritimati',
    'America/Los_Angeles',
  ]),
});

const kind = (
  weight: number,
  durationMs: Range,
  targets: Kind['targets'],
  more: Omit<Kind, 'weight' | 'durationMs' | 'targets'> = {},
): Kind => ({ weight, durationMs, targets, ...more });

/** Every kind of fault: how often it comes, how long it lasts in ms, and what it may hit. */
export const faultKinds = {
  'worker-kill': kind(6, [0, 0], workers, { process: 'killed' }),
  'worker-term': kind(3, [0, 0], workers, { process: 'ended' }),
  'worker-stop': kind(16, [100, 2_000], workers, { process: 'frozen' }),
  // Past BullMQ's lock of 10 s.
  'worker-stop-past-lock': kind(1, [11_000, 14_000], workers, {
    process: 'frozen',
    lock: 'long-stop',
    whole: true,
  }),
  // Past the job's lease of 12 s and past every settle time.
  'worker-stop-past-lease': kind(1, [32_000, 38_000], workers, {
    process: 'frozen',
    lock: 'long-stop',
    whole: true,
  }),
  'api-kill': kind(5, [0, 0], apis, { process: 'killed' }),
  'api-term': kind(2, [0, 0], apis, { process: 'ended' }),
  'api-stop': kind(5, [100, 3_000], apis, { process: 'frozen' }),
  'redis-kill': kind(1.2, [0, 3_000], only('redis'), { process: 'killed' }),
  'redis-stop': kind(1.5, [300, 5_000], only('redis'), { process: 'frozen' }),
  'redis-away': kind(0.3, [20_000, 20_000], only('redis'), { process: 'killed', whole: true }),
  'redis-away-long': kind(0.2, [60_000, 60_000], only('redis'), { process: 'killed', whole: true }),
  'redis-flush': kind(3, [0, 0], only('redis-data')),
  'redis-client-kill': kind(18, [0, 0], only('redis-clients'), {
    process: 'connections',
    detail: (random) => ({ count: 1, victims: seedIn(random) }),
  }),
  'redis-out-of-memory': kind(1, [500, 4_000], only('redis-memory')),
  'redis-forge': kind(4, [0, 0], only('redis-forge'), {
    detail: (random) => ({ mode: pick(random, ['unknown', 'finished', 'junk', 'doubled', 'executions']) }),
  }),
  'postgres-kill': kind(0.7, [0, 1_500], only('postgres'), { process: 'killed' }),
  'postgres-restart': kind(0.5, [0, 500], only('postgres'), { process: 'ended' }),
  'postgres-terminate': kind(22, [0, 0], only('postgres-backends'), {
    process: 'connections',
    detail: (random) => ({ count: between(random, [1, 4]), victims: seedIn(random) }),
  }),
  'postgres-crowd': kind(0.7, [1_000, 5_000], only('postgres'), {
    process: 'connections',
    detail: (random) => ({ count: 12, victims: seedIn(random) }),
  }),
  // As after a failover, for those who are still connected to what was the primary.
  'postgres-read-only': kind(0.7, [500, 5_000], only('postgres'), { process: 'connections' }),
  'postgres-lock': kind(2, [300, 4_000], only('postgres-locks'), {
    detail: (random) => ({
      table: pick(random, ['jobs', 'resources', 'attempts', 'scaling_events', 'scaling_decisions']),
    }),
  }),
  link: kind(8, [500, 8_000], ({ links }) => links, { detail: (random) => pick(random, linkModes)() }),
  'cloud-write': kind(12, [2_000, 6_000], clouds, {
    detail: (random) => ({
      mode: pick(random, cloudModes),
      count: between(random, [1, 3]),
      delayMs: between(random, [500, 8_000]),
    }),
  }),
  'cloud-read': kind(4, [500, 3_000], clouds, {
    detail: (random) => ({ mode: pick(random, readModes), count: between(random, [1, 6]), delayMs: 800 }),
  }),
  // For every call, of all regions; each opens its circuit for half a minute, and twice as long the next time.
  'aws-credentials': kind(0.4, [2_000, 10_000], only('aws-credentials'), {
    whole: true,
    detail: (random) => ({ mode: pick(random, ['expired', 'denied']) }),
  }),
  'object-resized': kind(4, [0, 0], objects, { detail: (random) => ({ by: pick(random, [-2, -1, 1, 2]) }) }),
  'object-bounds': kind(2, [2_000, 15_000], ({ awsObjects }) => awsObjects.map(String), {
    detail: (random) => ({ room: between(random, [0, 2]) }),
  }),
  'object-recreated': kind(1, [0, 0], objects),
  'operator-stop': kind(
    2,
    [1_000, 4_000],
    () => ['global', 'provider:aws', 'provider:kubernetes', 'scope:aws:us-east-1'],
    { lock: 'operator-stop' },
  ),
  'operator-stop-resource': kind(2, [3_000, 45_000], objects),
  'operator-freeze': kind(
    2,
    [1_000, 6_000],
    () => ['global', 'provider:aws', 'provider:kubernetes', 'scope:aws:us-east-1'],
    { lock: 'operator-freeze', detail: freezeDetail },
  ),
  'operator-freeze-resource': kind(3, [3_000, 45_000], objects, { detail: freezeDetail }),
  'operator-pause': kind(2, [3_000, 20_000], objects, {
    detail: (random) => ({ action: pick(random, ['scale_up', 'scale_down']) }),
  }),
  'operator-bounds': kind(2, [3_000, 20_000], objects, {
    detail: (random) => ({ max: between(random, [8, 20]) }),
  }),
  // The least that may be set: who has turned before may not scale in.
  'operator-reversals': kind(2, [3_000, 20_000], objects, { detail: () => ({ max: 1 }) }),
  'audit-tamper': kind(1, [0, 0], only('audit')),
} as const satisfies Record<string, Kind>;

export type FaultKind = keyof typeof faultKinds;

/** @returns null when it hits no process. */
export function processFaultOf(kind: FaultKind): ProcessFault | null {
  return (faultKinds[kind] as Kind).process ?? null;
}

export interface PlanOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly meanIntervalMs: number;
  readonly topology: Topology;
  /** No fault lasts longer: for short runs, which cannot wait for its end. */
  readonly longestMs?: number;
  /** Nothing but these kinds. */
  readonly only?: readonly FaultKind[];
}

/** Pause between two faults of one target, so that what the first did can be seen. */
const guardMs = 300;

/**
 * The run's faults in order of time: the same options give the same faults, targets and durations. Gaps are exponential,
 * so that faults come in bunches as well as alone; two on the same target never overlap.
 */
export function planFaults(options: PlanOptions): PlannedFault[] {
  const { durationMs, meanIntervalMs, topology, longestMs = Number.POSITIVE_INFINITY } = options;
  const random = seededRandom(options.seed);
  const kinds = (Object.entries(faultKinds) as [FaultKind, Kind][]).filter(
    ([name, kind]) =>
      (kind.whole !== true || kind.durationMs[1] <= longestMs) && options.only?.includes(name) !== false,
  );
  const busyUntil = new Map<string, number>();
  const faults: PlannedFault[] = [];
  for (let atMs = meanIntervalMs; atMs < durationMs; atMs += -Math.log(1 - random()) * meanIntervalMs) {
    const [name, kind] = weighted(random, kinds);
    const target = pick(random, kind.targets(topology));
    const length = Math.min(longestMs, between(random, kind.durationMs));
    const detail = kind.detail?.(random) ?? {};
    const locks = [target, ...(kind.lock === undefined ? [] : [kind.lock])];
    if (target === undefined || atMs + length > durationMs) continue;
    if (locks.some((lock) => (busyUntil.get(lock) ?? 0) > atMs)) continue;
    for (const lock of locks) busyUntil.set(lock, atMs + length + guardMs);
    faults.push({
      id: faults.length + 1,
      atMs: Math.round(atMs),
      kind: name,
      target,
      durationMs: length,
      detail,
    });
  }
  return faults;
}

function weighted(random: Random, kinds: readonly (readonly [FaultKind, Kind])[]) {
  let left = random() * kinds.reduce((sum, [, kind]) => sum + kind.weight, 0);
  for (const entry of kinds) {
    left -= entry[1].weight;
    if (left < 0) return entry;
  }
  return kinds[0] as readonly [FaultKind, Kind];
}
