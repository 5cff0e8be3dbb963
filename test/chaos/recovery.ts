import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { type Spread, spreadOf } from './check-report.ts';
import type { ServiceCaller } from './service-caller.ts';

/** What recovery is measured from: the moment the dependency was back, or the moment of the kill. */
export const recoveryClasses = [
  'redis_back',
  'postgres_back',
  'api_killed',
  'aws_credentials_back',
  'worker_killed_jobs_begun',
  'worker_killed_jobs_ended',
] as const;
export type RecoveryClass = (typeof recoveryClasses)[number];

/** After so long a recovery is waited for no longer, ms. */
const longestMs = 90_000;

/** How long a recovery took; `over` when it was not seen within 90 s, and null when there was nothing to recover. */
export type Recovery = number | 'over' | null;

export interface Recovered {
  readonly kind: 'recovered';
  readonly class: RecoveryClass;
  readonly fault: number;
  readonly sinceAt: number;
  readonly ms: Recovery;
}

export interface RecoverySpread extends Spread {
  /** Of the `n` those that were not seen within 90 s: for p50, p95 and max they took 90 s, and took longer. */
  readonly over_90s: number;
  /** Faults that left nothing to recover, such as a worker that was killed while it held no job: not in `n`. */
  readonly without_sample: number;
}

/** How the recoveries of one class are spread, in ms. */
export function recoverySpread(durations: readonly Recovery[]): RecoverySpread {
  const samples = durations.filter((ms) => ms !== null);
  return {
    ...spreadOf(samples.map((ms) => (ms === 'over' ? longestMs : ms))),
    over_90s: samples.filter((ms) => ms === 'over' || ms > longestMs).length,
    without_sample: durations.length - samples.length,
  };
}

const probeEveryMs = 150;
const probesAtOnce = 5;
/** Of a job's claim, which a living worker renews every 3 s. */
const leaseMs = 12_000;
const heldAfterMs = leaseMs - 1_500;

/**
 * From `sinceAt` to the first decision that was asked for, made and answered: through the API, the queue and a worker.
 * @param bases the APIs to ask; one of them is enough.
 */
export async function untilDecided(
  caller: ServiceCaller,
  bases: readonly string[],
  probeId: string,
  sinceAt: number,
  waits: boolean,
): Promise<Recovery> {
  let found: number | null = null;
  const open = new Set<Promise<void>>();
  for (let turn = 0; found === null && Date.now() - sinceAt < longestMs; turn++) {
    if (open.size < probesAtOnce) {
      const probe = caller
        .once(
          bases[turn % bases.length] as string,
          {
            client: 'probe',
            op: 'probe',
            method: 'POST',
            path: '/scale/decide',
            body: { resource_id: probeId },
            key: randomUUID(),
            timeoutMs: 3_000,
            ...(waits ? { headers: { prefer: 'wait=2' } } : {}),
          },
          0,
        )
        .then(({ status }) => {
          if (status === (waits ? 200 : 202)) found ??= Date.now() - sinceAt;
        });
      open.add(probe);
      void probe.finally(() => open.delete(probe));
    }
    await delay(probeEveryMs);
  }
  return found ?? 'over';
}

/** From `sinceAt` until no circuit of AWS is open any more and something has been scaled there again. */
export async function untilAwsWrites(pool: pg.Pool, sinceAt: number): Promise<Recovery> {
  while (Date.now() - sinceAt < longestMs) {
    const written = await pool
      .query(
        `select 1 from attempts a join resources r on r.id = a.resource_id
          where r.cloud_provider = 'aws' and a.state = 'succeeded' and a.intent_at > to_timestamp($1 / 1000.0)
            and not exists (select 1 from circuits where scope like 'scope:aws:%' and open_until is not null) limit 1`,
        [sinceAt],
      )
      .then(({ rowCount }) => rowCount === 1)
      .catch(() => false);
    if (written) return Date.now() - sinceAt;
    await delay(250);
  }
  return 'over';
}

interface Held {
  readonly id: string;
  readonly fence: number;
}

/** The jobs that are under way just now. */
export async function activeJobs(pool: pg.Pool): Promise<Held[]> {
  const { rows } = await pool.query<Held>(
    `select id, fence from jobs where status = 'active' and not finished`,
  );
  return rows;
}

/** Null when the worker held no job. */
export interface TakenOver {
  /** Until the last job it held was begun by another worker, or had ended. */
  readonly begun: Recovery;
  /** Until the last job it held had ended. */
  readonly ended: Recovery;
}

/**
 * What became of the jobs of a worker that was killed. Which ones it held shows afterwards: its leases run out, while
 * the jobs of the living are over, or their leases renewed.
 */
export async function untilTakenOver(
  pool: pg.Pool,
  atKill: readonly Held[],
  sinceAt: number,
  times: { readonly heldAfterMs: number; readonly longestMs: number } = { heldAfterMs, longestMs },
): Promise<TakenOver> {
  const before = new Map(atKill.map(({ id, fence }) => [id, fence]));
  const fenceOf = (id: string): number => before.get(id) as number;
  let held: Set<string> | null = null;
  let begun: number | null = null;
  await delay(times.heldAfterMs);
  while (Date.now() - sinceAt < times.longestMs) {
    const rows = await look(pool, [...before.keys()]);
    if (rows !== null) {
      held ??= new Set(
        rows
          .filter(
            (row) =>
              !row.finished &&
              row.fence === fenceOf(row.id) &&
              Number(row.lease_ms) < sinceAt + leaseMs + 250,
          )
          .map(({ id }) => id),
      );
      const mine = rows.filter(({ id }) => held?.has(id));
      if (mine.length === 0) return { begun: null, ended: null };
      // Released raises the fence by one, and claimed by another.
      if (mine.every((row) => row.finished || row.fence >= fenceOf(row.id) + 2))
        begun ??= Date.now() - sinceAt;
      if (mine.every(({ finished }) => finished))
        return {
          begun: begun ?? 'over',
          ended: Math.max(...mine.map(({ finished_ms }) => Number(finished_ms) - sinceAt)),
        };
    }
    await delay(250);
  }
  // PostgreSQL that could not be asked all the time is one more reason to count it, not one to leave it out.
  return { begun: begun ?? 'over', ended: 'over' };
}

interface JobLook extends Held {
  readonly finished: boolean;
  readonly finished_ms: number | null;
  readonly lease_ms: number | null;
}

/** Null while PostgreSQL is away: the next look tells. */
async function look(pool: pg.Pool, ids: readonly string[]): Promise<JobLook[] | null> {
  try {
    const { rows } = await pool.query<JobLook>(
      `select id, fence, finished, (extract(epoch from finished_at) * 1000)::double precision as finished_ms,
          (extract(epoch from lease_until) * 1000)::double precision as lease_ms
        from jobs where id = any ($1::uuid[])`,
      [ids],
    );
    return rows;
  } catch {
    return null;
  }
}
