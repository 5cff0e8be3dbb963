import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { ServiceCaller } from './service-caller.ts';

/** What recovery is measured from: the moment the dependency was back, or the moment of the kill. */
export type RecoveryClass = 'redis_back' | 'postgres_back' | 'api_killed' | 'worker_killed';

export interface Recovered {
  readonly kind: 'recovered';
  readonly class: RecoveryClass;
  readonly fault: number;
  readonly sinceAt: number;
  /** Null when it took longer than `longestMs`. */
  readonly ms: number | null;
}

const longestMs = 90_000;
const probeEveryMs = 150;
const probesAtOnce = 5;
/** No living worker holds a job under one lease for so long: its calls end within 17 s. */
const heldAfterMs = 20_000;

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
): Promise<number | null> {
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
  return found;
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

/**
 * From a worker's death to the end of the last job it held. Which ones it held shows afterwards: its leases run out,
 * while those of the living are over or renewed long before.
 * @returns null when it held none, or they did not end in time.
 */
export async function untilTakenOver(
  pool: pg.Pool,
  atKill: readonly Held[],
  sinceAt: number,
): Promise<number | null> {
  const before = new Map(atKill.map(({ id, fence }) => [id, fence]));
  let held: Set<string> | null = null;
  await delay(heldAfterMs);
  while (Date.now() - sinceAt < longestMs) {
    const rows = await look(pool, [...before.keys()]);
    held ??=
      rows === null
        ? null
        : new Set(
            rows
              .filter(({ id, fence, finished }) => !finished && fence === before.get(id))
              .map(({ id }) => id),
          );
    if (held?.size === 0) return null;
    const mine = rows?.filter(({ id }) => held?.has(id));
    if (mine?.every(({ finished }) => finished) === true)
      return Math.max(...mine.map(({ finished_ms }) => Number(finished_ms) - sinceAt));
    await delay(500);
  }
  return null;
}

interface JobLook extends Held {
  readonly finished: boolean;
  readonly finished_ms: number | null;
}

/** Null while PostgreSQL is away: the next look tells. */
async function look(pool: pg.Pool, ids: readonly string[]): Promise<JobLook[] | null> {
  try {
    const { rows } = await pool.query<JobLook>(
      `select id, fence, finished, (extract(epoch from finished_at) * 1000)::double precision as finished_ms
        from jobs where id = any ($1::uuid[])`,
      [ids],
    );
    return rows;
  } catch {
    return null;
  }
}
