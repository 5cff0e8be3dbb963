import { readdirSync, readFileSync } from 'node:fs';
import { defaultPrefix, queueNames } from '../../shared/queues/queues.ts';
import type { Observed, Stack } from './stack.ts';

/** Everything that must not grow, at one moment. `at` in seconds of a monotonic clock. */
export interface Reading {
  readonly at: number;
  readonly processes: Readonly<Record<string, ProcessReading>>;
  readonly redisMb: number;
  readonly redisKeys: number;
  /** Of these, finished queue entries kept for the board: up to a configured number. */
  readonly redisKept: number;
  readonly connections: number;
  readonly waiting: number;
  /** How long the job that is due longest has waited, seconds. */
  readonly oldestSeconds: number;
}

export interface ProcessReading {
  readonly role: Observed['role'];
  readonly rssMb: number;
  /** Without the connections that clients hold open: these are theirs. */
  readonly fds: number | null;
  /** From prom-client's default metrics; null when the process was too busy to tell. */
  readonly heapMb: number | null;
  readonly eventLoopP99Ms: number | null;
  readonly handles: number | null;
  /** Of the heap, garbage and room taken for it included. */
  readonly heapTotalMb: number | null;
}

/** One table's size and dead rows. `at` in seconds by PostgreSQL's clock. */
export interface TableReading {
  readonly at: number;
  readonly name: string;
  readonly live: number;
  readonly dead: number;
  readonly inserted: number;
  /** Updated and deleted so far: each left a dead row behind. */
  readonly died: number;
  readonly totalBytes: number;
  readonly indexBytes: number;
  readonly autovacuums: number;
}

const mebibyte = 1_048_576;
const metricsLimitMs = 2_000;
const indexBytes = 150;

/** Monotonic, in seconds. */
export function secondsNow(): number {
  return performance.now() / 1_000;
}

/** One reading of every process and both databases. */
export async function read(stack: Stack, processes: readonly Observed[]): Promise<Reading> {
  const at = secondsNow();
  const [backlog, connections, info, redisKeys, redisKept, ...readings] = await Promise.all([
    backlogOf(stack),
    stack.pool.query<{ n: number }>(
      'select count(*)::integer as n from pg_stat_activity where datname = current_database()',
    ),
    stack.redis.info('memory'),
    stack.redis.dbsize(),
    keptEntries(stack),
    ...processes.map((process) => readProcess(process, stack.monitorKey)),
  ]);
  return {
    at,
    processes: Object.fromEntries(
      processes.map(({ name }, index) => [name, readings[index] as ProcessReading]),
    ),
    redisMb: Number(/used_memory:(\d+)/.exec(info)?.[1] ?? Number.NaN) / mebibyte,
    redisKeys,
    redisKept,
    connections: connections.rows[0]?.n ?? Number.NaN,
    ...backlog,
  };
}

async function keptEntries(stack: Stack): Promise<number> {
  const counts = await Promise.all(
    queueNames.flatMap((name) =>
      ['completed', 'failed'].map((state) => stack.redis.zcard(`${defaultPrefix}:${name}:${state}`)),
    ),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Bytes a kept entry takes, with what its place in an index and the dictionary costs. */
export async function bytesPerKeptEntry(stack: Stack): Promise<number> {
  const ids = await stack.redis.zrange(`${defaultPrefix}:decide:completed`, 0, 49);
  const sizes = await Promise.all(
    ids.map((id) => stack.redis.memory('USAGE', `${defaultPrefix}:decide:${id}`)),
  );
  const known = sizes.filter((size) => size !== null);
  return known.length === 0 ? 0 : known.reduce((sum, size) => sum + size, 0) / known.length + indexBytes;
}

/** Due jobs only: a retry that is to wait is not a backlog. */
export async function backlogOf(stack: Stack): Promise<{ waiting: number; oldestSeconds: number }> {
  const { rows } = await stack.pool.query<{ waiting: number; oldest: number }>(
    `select count(*)::integer as waiting, coalesce(extract(epoch from now() - min(available_at)), 0)::double precision as oldest
      from jobs where not finished and status in ('queued', 'retrying') and available_at <= now()`,
  );
  const row = rows[0] as { waiting: number; oldest: number };
  return { waiting: row.waiting, oldestSeconds: row.oldest };
}

/** Sizes and dead rows of every table. */
export async function readTables(stack: Stack): Promise<TableReading[]> {
  const { rows } = await stack.pool.query<TableReading>(
    `select extract(epoch from clock_timestamp())::float8 as at, relname as name, n_live_tup::float8 as live, n_dead_tup::float8 as dead, n_tup_ins::float8 as inserted,
        (n_tup_upd + n_tup_del)::float8 as died,
        pg_total_relation_size(relid)::float8 as "totalBytes", pg_indexes_size(relid)::float8 as "indexBytes",
        autovacuum_count::integer as autovacuums
      from pg_stat_user_tables order by 1`,
  );
  return rows;
}

/** Indexes over what is under way: they must stay as small as that is, however much history there is. */
export async function readHotIndexes(stack: Stack): Promise<Record<string, number>> {
  const { rows } = await stack.pool.query<{ name: string; mb: number }>(
    `select indexrelid::regclass::text as name, pg_relation_size(indexrelid)::float8 / 1048576 as mb
      from pg_index where indpred is not null and indrelid in ('jobs'::regclass, 'attempts'::regclass) order by 1`,
  );
  return Object.fromEntries(rows.map(({ name, mb }) => [name, mb]));
}

async function readProcess(process: Observed, key: string): Promise<ProcessReading> {
  const metrics = await fetch(`${process.metricsUrl}/metrics`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(metricsLimitMs),
  }).then(
    async (response) => (response.ok ? await response.text() : ''),
    () => '',
  );
  const value = (name: string): number | null => {
    const found = new RegExp(`^${name} ([\\d.e+-]+)$`, 'm').exec(metrics)?.[1];
    return found === undefined ? null : Number(found);
  };
  const lag = value('nodejs_eventloop_lag_p99_seconds');
  const connections = value('scaler_http_connections');
  const own = (n: number | null) => (n === null || metrics === '' ? null : n - (connections ?? 0));
  const { rssMb, fds } = residentOf(process.pid);
  return {
    role: process.role,
    rssMb,
    fds: own(fds),
    heapMb: megabytes(value('nodejs_heap_size_used_bytes')),
    eventLoopP99Ms: lag === null ? null : lag * 1_000,
    handles: own(value('nodejs_active_handles_total')),
    heapTotalMb: megabytes(value('nodejs_heap_size_total_bytes')),
  };
}

function megabytes(bytes: number | null): number | null {
  return bytes === null ? null : bytes / mebibyte;
}

/** NaN where there is no /proc. */
function residentOf(pid: number): { rssMb: number; fds: number } {
  try {
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return { rssMb: Number(kib) / 1_024, fds: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return { rssMb: Number.NaN, fds: Number.NaN };
  }
}
