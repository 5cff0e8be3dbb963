import { randomBytes } from 'node:crypto';
import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { ProtectionChange } from '../../shared/db/protection-lock.ts';

/** A stop (kill switch) of a scope. */
export interface StopRow {
  readonly scope: string;
  /** `observing`: released, but nothing is executed before `observe_until`. */
  readonly state: 'stopped' | 'observing' | 'released';
  readonly reason: string;
  readonly actor: string;
  readonly updated_at: string;
  readonly observe_until: string | null;
}

/** Every stop there was, with its state by the database's clock; ordered by scope. */
export async function listStops(db: Queryable): Promise<StopRow[]> {
  const { rows } = await db.query<StopRow>({
    name: 'list_stops',
    text: `select scope, case when not stopped or observe_until <= clock_timestamp() then 'released'
        when observe_until is not null then 'observing' else 'stopped' end as state,
        reason, actor, ${iso('updated_at')}, ${iso('observe_until')} from controls order by scope`,
  });
  return rows;
}

/** Stops a scope at once: no execution begins there after the commit. */
export async function stop(
  tx: ProtectionChange,
  scope: string,
  reason: string,
  actor: string,
): Promise<void> {
  await tx.query(
    `insert into controls (scope, stopped, reason, actor) values ($1, true, $2, $3)
      on conflict (scope) do update set stopped = true, reason = $2, actor = $3, updated_at = clock_timestamp(),
        release_code = null, release_code_until = null, observe_until = null`,
    [scope, reason, actor],
  );
}

/**
 * First step of a release.
 * @returns the code the second step must send, valid for `validSeconds`; null when the scope is not stopped.
 */
export async function askRelease(
  db: Queryable,
  scope: string,
  validSeconds: number,
): Promise<{ code: string; valid_until: string } | null> {
  const { rows } = await db.query<{ code: string; valid_until: string }>(
    `update controls set release_code = $2, release_code_until = clock_timestamp() + $3 * interval '1 second'
      where scope = $1 and stopped and observe_until is null
      returning release_code as code,
        to_char(release_code_until at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as valid_until`,
    [scope, randomBytes(6).toString('hex'), validSeconds],
  );
  return rows[0] ?? null;
}

/**
 * Second step of a release: the scope only observes for `observeSeconds`, then executes again.
 * @returns null when the code is not the one given out last, or has expired.
 */
export async function release(
  tx: ProtectionChange,
  scope: string,
  code: string,
  { observeSeconds, reason, actor }: { observeSeconds: number; reason: string; actor: string },
): Promise<{ observe_until: string } | null> {
  const { rows } = await tx.query<{ observe_until: string }>(
    `update controls set observe_until = clock_timestamp() + $3 * interval '1 second', reason = $4, actor = $5,
        updated_at = clock_timestamp(), release_code = null, release_code_until = null
      where scope = $1 and stopped and release_code = $2 and release_code_until > clock_timestamp()
      returning ${iso('observe_until')}`,
    [scope, code, observeSeconds, reason, actor],
  );
  return rows[0] ?? null;
}
