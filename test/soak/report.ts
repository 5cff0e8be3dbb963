import { sumOf } from './counts.ts';
import { type DeadShare, deadShares, vacuumSeconds } from './dead-rows.ts';
import type { Stretch } from './driver.ts';
import type { ProcessReading, Reading, TableReading } from './gauges.ts';
import type { Overload } from './phases.ts';
import { type Flatness, flatness, type Point, type Slope, slopeOf } from './slope.ts';

/** Everything a run has seen. */
export interface Observations {
  readonly minutes: number;
  readonly seed: number;
  readonly sustainablePerSecond: number;
  readonly isRateGiven: boolean;
  readonly jobsPerRequest: number;
  readonly soakPerSecond: number;
  readonly limits: { readonly rateLimitPerMinute: number; readonly maxWaitingJobs: number };
  readonly soak: Stretch;
  readonly overload: Overload;
  readonly spike: Overload;
  readonly readings: readonly Reading[];
  /** Of the overload and the spike. */
  readonly stressedReadings: readonly Reading[];
  readonly tables: {
    readonly before: readonly TableReading[];
    readonly middle: readonly TableReading[];
    readonly after: readonly TableReading[];
  };
  readonly tableReadings: readonly (readonly TableReading[])[];
  readonly hotIndexes: {
    readonly before: Readonly<Record<string, number>>;
    readonly after: Readonly<Record<string, number>>;
    readonly end: Readonly<Record<string, number>>;
  };
  readonly walBytes: number;
  /** Of the soak, by role. */
  readonly cpuMs: Readonly<Record<string, number>>;
  /** Cores kept busy by role; `load` is the sender. */
  readonly cores: Readonly<Record<'overload' | 'spike', Readonly<Record<string, number>>>>;
  readonly rows: { readonly promised: number; readonly lost: number; readonly unfinished: number };
  /** Of a finished queue entry in Redis. */
  readonly entryBytes: number;
  /** Processes that ended before they were told to, or not with status 0. */
  readonly badEnds: readonly string[];
}

/** What a run must stay within to pass. */
export const limits = {
  acceptP99Ms: 2_000,
  recoverySeconds: 60,
  /** What a hiccup of the machine may cost at the soak rate. */
  calmShedShare: 0.01,
  /** What one look of the gate, and what is under way at that moment, may add to MAX_WAITING_JOBS. */
  waitingSlack: 1.5,
  deadShare: 0.3,
  bytesPerJobGrowth: 1.2,
} as const;

/** Absolute growth that is noise, over the time measured. */
const allowed = {
  outsideHeapMb: 12,
  heapMb: 8,
  fds: 6,
  handles: 6,
  redisMb: 2,
  redisKeys: 500,
  connections: 4,
} as const;
/** Tables that are written again and again; the others only grow by rows. */
const hotTables = [
  'jobs',
  'scaling_decisions',
  'resources',
  'metric_samples',
  'forecasts',
  'attempts',
  'idempotency_keys',
];
const historyTables = [
  'jobs',
  'scaling_decisions',
  'idempotency_keys',
  'scaling_events',
  'attempts',
  'audit_log',
];

/** The figures of a run, and what of them exceeds a limit. */
export function reportOf(seen: Observations) {
  const slopes = slopesOf(seen.readings, seen.entryBytes);
  const history = bytesPerJob(seen.tables);
  const dead = deadShares(seen.tableReadings, hotTables);
  const report = {
    minutes: seen.minutes,
    seed: seen.seed,
    sustainable_per_second: seen.sustainablePerSecond,
    sustainable_is: seen.isRateGiven ? 'given' : 'measured',
    jobs_per_request: round(seen.jobsPerRequest),
    soak_rate: seen.soakPerSecond,
    limits: {
      rate_limit_per_minute: seen.limits.rateLimitPerMinute,
      max_waiting_jobs: seen.limits.maxWaitingJobs,
    },
    soak: { ...stretchOf(seen.soak), ...latencies(seen.soak) },
    overload: overloadOf(seen.overload),
    spike: overloadOf(seen.spike),
    recovery_seconds: roundOrNull(seen.overload.recoverySeconds),
    spike_recovery_seconds: roundOrNull(seen.spike.recoverySeconds),
    event_loop_p99_ms: {
      soak: worst(seen.readings, ({ eventLoopP99Ms }) => eventLoopP99Ms),
      overload: worst(seen.stressedReadings, ({ eventLoopP99Ms }) => eventLoopP99Ms),
    },
    peak_rss_mb: { ...peaks([...seen.readings, ...seen.stressedReadings]) },
    redis_kept_entries: {
      soak_start: seen.readings[0]?.redisKept ?? null,
      soak_end: seen.readings.at(-1)?.redisKept ?? null,
    },
    redis_total_mb: {
      soak_start: round(seen.readings[0]?.redisMb ?? Number.NaN),
      soak_end: round(seen.readings.at(-1)?.redisMb ?? Number.NaN),
    },
    slopes: slopes.figures,
    flat: slopes.verdicts,
    dead_tuple_share: mapped(dead, ({ worst }) => round(worst)),
    dead_tuple_share_left: mapped(dead, ({ left }) => (left === null ? null : round(left))),
    autovacuums: autovacuums(seen.tableReadings),
    bytes_per_job: history.overall,
    bytes_per_job_halves: history.halves,
    hot_index_mb: {
      soak_start: rounded(seen.hotIndexes.before),
      soak_end: rounded(seen.hotIndexes.after),
      end: rounded(seen.hotIndexes.end),
    },
    wal_bytes_per_job: round(seen.walBytes / Math.max(1, seen.soak.counts.acceptedJobs)),
    cpu_ms_per_request: rounded(
      Object.fromEntries(
        Object.entries(seen.cpuMs).map(([role, ms]) => [role, ms / Math.max(1, seen.soak.counts.answered)]),
      ),
    ),
    cores_busy: { overload: rounded(seen.cores.overload), spike: rounded(seen.cores.spike) },
    promised_jobs: seen.rows.promised,
    unfinished: seen.rows.unfinished,
    lost: seen.rows.lost,
  };
  const broken = brokenPromises(seen, dead, history.halves, slopes.verdicts);
  return { ...report, broken, verdict: broken.length === 0 ? 'kept' : 'broken' };
}

export type Report = ReturnType<typeof reportOf>;

function brokenPromises(
  seen: Observations,
  dead: Readonly<Record<string, DeadShare>>,
  halves: readonly (number | null)[],
  verdicts: Readonly<Record<string, Flatness>>,
): string[] {
  const broken: string[] = [];
  const promise = (kept: boolean, words: string) => {
    if (!kept) broken.push(words);
  };
  const { overload, spike, soak } = seen;
  const named = {
    soak,
    overload: overload.overload,
    'after the overload': overload.after,
    spike: spike.overload,
    'after the spike': spike.after,
  };
  for (const [name, { counts }] of Object.entries(named)) {
    promise(
      sumOf(counts.errors) === 0,
      `${name}: answers that are neither right nor a refusal for load: ${JSON.stringify(counts.errors)}`,
    );
    promise(
      counts.retryAfterMissing === 0,
      `${name}: ${counts.retryAfterMissing} refusals without Retry-After`,
    );
  }
  const { counts: calm } = soak;
  promise(sumOf(calm.noAnswer) === 0, `soak: ${sumOf(calm.noAnswer)} requests got no answer`);
  promise(
    calm.shed429 + calm.shed503 <= limits.calmShedShare * calm.sent,
    `soak: ${calm.shed429 + calm.shed503} of ${calm.sent} requests were refused for load at the soak rate`,
  );
  const unanswered = sumOf(overload.overload.counts.noAnswer);
  promise(unanswered === 0, `overload: ${unanswered} requests got no answer within 15 s`);
  const acceptP99 = overload.overload.accept.quantile(0.99) ?? 0;
  promise(acceptP99 <= limits.acceptP99Ms, `overload: accepting took ${Math.round(acceptP99)} ms at p99`);
  const shed = overload.overload.counts.shed429 + overload.overload.counts.shed503;
  promise(shed > 0, 'overload: nothing was refused, so it was none');
  const { decides, shedDecides503, executes, shedExecutes503 } = overload.overload.counts;
  promise(
    share(shedExecutes503, executes) <= share(shedDecides503, decides),
    'overload: executions were refused more often than decisions',
  );
  for (const [name, { mostWaiting, recoverySeconds, noAnswerLater }] of Object.entries({ overload, spike })) {
    promise(
      mostWaiting <= seen.limits.maxWaitingJobs * limits.waitingSlack,
      `${name}: ${mostWaiting} jobs waited at once`,
    );
    promise(
      recoverySeconds !== null && recoverySeconds <= limits.recoverySeconds,
      `${name}: not recovered in ${limits.recoverySeconds} s`,
    );
    promise(
      noAnswerLater === 0,
      `after the ${name}: ${noAnswerLater} requests got no answer once it had recovered`,
    );
  }
  promise(seen.rows.lost === 0, `${seen.rows.lost} accepted jobs have no row`);
  promise(seen.rows.unfinished === 0, `${seen.rows.unfinished} accepted jobs never finished`);
  promise(seen.badEnds.length === 0, `processes ended badly: ${seen.badEnds.join(', ')}`);
  for (const [name, verdict] of Object.entries(verdicts)) promise(verdict !== 'growing', `${name} grows`);
  for (const [name, { left }] of Object.entries(dead))
    promise(
      left === null || left <= limits.deadShare,
      `${name}: ${Math.round((left ?? 0) * 100)} % dead rows that vacuum had ${vacuumSeconds} s to remove`,
    );
  const [first, second] = halves;
  if (first != null && second != null)
    promise(
      second <= first * limits.bytesPerJobGrowth,
      `a job took ${first} bytes in the first half and ${second} in the second`,
    );
  return broken;
}

interface Measure {
  readonly name: string;
  readonly points: readonly Point[];
  readonly of?: 'minimum';
  /**
   * Without one the slope is told, not judged: resident memory is what V8 has taken for its heap, garbage and all, and it takes
   * more for many minutes before it collects. What lives in the heap and what lies outside it are judged.
   */
  readonly allowed?: number;
}

function slopesOf(readings: readonly Reading[], entryBytes: number) {
  const names = Object.keys(readings[0]?.processes ?? {});
  const ofProcess = (process: string, value: (reading: ProcessReading) => number | null): Point[] =>
    readings.flatMap(({ at, processes }) => {
      const reading = processes[process];
      const measured = reading === undefined ? null : value(reading);
      return measured === null || !Number.isFinite(measured) ? [] : [{ at, value: measured }];
    });
  const whole = (value: (reading: Reading) => number): Point[] =>
    readings
      .map((reading) => ({ at: reading.at, value: value(reading) }))
      .filter(({ value: v }) => Number.isFinite(v));
  const measures: Measure[] = [
    ...names.flatMap((name): Measure[] => {
      const field = name.replaceAll(' ', '_');
      return [
        { name: `${field}_rss_mb_per_hour`, points: ofProcess(name, ({ rssMb }) => rssMb) },
        {
          name: `${field}_outside_heap_mb_per_hour`,
          points: ofProcess(name, ({ rssMb, heapTotalMb }) =>
            heapTotalMb === null ? null : rssMb - heapTotalMb,
          ),
          allowed: allowed.outsideHeapMb,
        },
        {
          name: `${field}_heap_mb_per_hour`,
          points: ofProcess(name, ({ heapMb }) => heapMb),
          of: 'minimum',
          allowed: allowed.heapMb,
        },
        { name: `${field}_fds_per_hour`, points: ofProcess(name, ({ fds }) => fds), allowed: allowed.fds },
        {
          name: `${field}_handles_per_hour`,
          points: ofProcess(name, ({ handles }) => handles),
          allowed: allowed.handles,
        },
      ];
    }),
    {
      // Entries that are kept for the board are a cache that fills: they are told by themselves, and left out here.
      name: 'redis_mb_per_hour',
      points: whole(({ redisMb, redisKept }) => redisMb - (redisKept * entryBytes) / 1_048_576),
      allowed: allowed.redisMb,
    },
    {
      name: 'redis_keys_per_hour',
      points: whole(({ redisKeys, redisKept }) => redisKeys - redisKept),
      allowed: allowed.redisKeys,
    },
    {
      name: 'pg_connections_per_hour',
      points: whole(({ connections }) => connections),
      allowed: allowed.connections,
    },
  ];
  const fitted = measures.map((measure): [Measure, Slope | null] => [
    measure,
    slopeOf(measure.points, measure.of),
  ]);
  return {
    figures: Object.fromEntries(
      fitted.map(([{ name }, slope]) => [
        name,
        slope === null
          ? null
          : { slope: round(slope.perHour), error: round(slope.error), mean: round(slope.mean) },
      ]),
    ),
    verdicts: Object.fromEntries(
      fitted.flatMap(([{ name, allowed: noise }, slope]) =>
        noise === undefined ? [] : [[name, flatness(slope, noise)]],
      ),
    ),
  };
}

function autovacuums(readings: readonly (readonly TableReading[])[]): Record<string, number> {
  const last = readings.at(-1) ?? [];
  return Object.fromEntries(
    last.filter(({ name }) => hotTables.includes(name)).map(({ name, autovacuums: n }) => [name, n]),
  );
}

/** What a job leaves behind for good, in all the tables of history, in the soak's halves: bloat would make the second dearer. */
function bytesPerJob(tables: Observations['tables']): { overall: number | null; halves: (number | null)[] } {
  const between = (from: readonly TableReading[], to: readonly TableReading[]): number | null => {
    const total = (readings: readonly TableReading[]) =>
      readings
        .filter(({ name }) => historyTables.includes(name))
        .reduce((sum, { totalBytes }) => sum + totalBytes, 0);
    const jobs = (readings: readonly TableReading[]) =>
      readings.find(({ name }) => name === 'jobs')?.inserted ?? 0;
    const made = jobs(to) - jobs(from);
    return made < 1_000 ? null : Math.round((total(to) - total(from)) / made);
  };
  const { before, middle, after } = tables;
  return { overall: between(before, after), halves: [between(before, middle), between(middle, after)] };
}

function stretchOf({ counts, seconds }: Stretch) {
  return {
    offered_per_second: round(counts.sent / seconds),
    offered: counts.sent,
    unsent: counts.unsent,
    accepted: counts.acceptedRequests,
    accepted_jobs: counts.acceptedJobs,
    refused_on_purpose: counts.refused,
    shed_429: counts.shed429,
    shed_503: counts.shed503,
    shed_503_database: counts.shedDatabase503,
    no_answer: sumOf(counts.noAnswer),
    errors: counts.errors,
    retry_after_missing: counts.retryAfterMissing,
    retry_after_mean_seconds: round(counts.retryAfterSum / Math.max(1, counts.shed429 + counts.shed503)),
    sender_late_ms: Math.round(counts.senderLateMs),
  };
}

function latencies({ accept, other, shed }: Stretch) {
  return {
    accept_p50_ms: roundOrNull(accept.quantile(0.5)),
    accept_p99_ms: roundOrNull(accept.quantile(0.99)),
    other_p99_ms: roundOrNull(other.quantile(0.99)),
    shed_p99_ms: roundOrNull(shed.quantile(0.99)),
  };
}

function overloadOf({ overload, mostWaiting }: Overload) {
  return {
    ...stretchOf(overload),
    ...latencies(overload),
    decides_503_share: share(overload.counts.shedDecides503, overload.counts.decides),
    executes_503_share: share(overload.counts.shedExecutes503, overload.counts.executes),
    most_waiting_jobs: mostWaiting,
  };
}

function worst(
  readings: readonly Reading[],
  value: (reading: ProcessReading) => number | null,
): number | null {
  const values = readings
    .flatMap(({ processes }) => Object.values(processes).map(value))
    .filter((v) => v !== null);
  return values.length === 0 ? null : round(Math.max(...values));
}

function peaks(readings: readonly Reading[]): Record<string, number> {
  const peak: Record<string, number> = {};
  for (const { processes } of readings)
    for (const [name, { rssMb }] of Object.entries(processes))
      peak[name] = Math.max(peak[name] ?? 0, Math.round(rssMb));
  return peak;
}

const share = (part: number, whole: number): number => (whole === 0 ? 0 : round(part / whole));
function mapped<From, To>(
  values: Readonly<Record<string, From>>,
  change: (value: From) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value)]));
}
const rounded = (values: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, round(value)]));
const round = (value: number): number => Number(value.toPrecision(3));
const roundOrNull = (value: number | null): number | null => (value === null ? null : round(value));
