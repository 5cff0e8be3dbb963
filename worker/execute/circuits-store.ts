import { type CircuitRow, circuitColumns } from '../../shared/db/circuits-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { OpenCircuit } from './types.ts';

/** Failures in a row that open a circuit; credentials that are not known do at once. */
const failuresToOpen = 5;
const probeSeconds = 15;
/**
 * Whether this failure opens the circuit (again): enough in a row, credentials, or a failed trial; not while it is open
 * anyway.
 */
const opens = `(c.open_until is null or c.open_until <= clock_timestamp())
  and (c.failures + 1 >= ${failuresToOpen} or $4::integer = 1 or c.open_until is not null)`;

/**
 * Asks to call a region's or cluster's cloud. Once an open circuit's time is over, one worker at a time may try.
 * @returns null when it may be called.
 */
export async function passCircuit(db: Queryable, scope: string): Promise<OpenCircuit | null> {
  const { rows } = await db.query<{ wait_ms: number | null; last_message: string | null }>({
    name: 'pass_circuit',
    text: `with tried as (
        update circuits set probe_until = clock_timestamp() + ${probeSeconds} * interval '1 second'
        where scope = $1 and open_until <= clock_timestamp() and coalesce(probe_until, '-infinity') < clock_timestamp() returning scope)
      select case when exists (select 1 from tried) or open_until is null then null
        else greatest(1000, extract(epoch from open_until - clock_timestamp()) * 1000)::double precision end as wait_ms, last_message
      from circuits where scope = $1`,
    values: [scope],
  });
  const row = rows[0];
  return row == null || row.wait_ms === null ? null : { waitMs: row.wait_ms, cause: row.last_message };
}

/**
 * Counts a failed call. An open circuit lets one worker try every 30 s: what waits must not wait longer than that for a
 * cloud that is back. @returns the circuit when this opened it.
 */
export async function circuitFailed(
  db: Queryable,
  scope: string,
  failure: { readonly code: string; readonly message: string; readonly holdsForAll: boolean },
): Promise<CircuitRow | null> {
  const { rows } = await db.query<CircuitRow & { opened: boolean }>({
    name: 'circuit_failed',
    text: `insert into circuits as c (scope, failures, opens, opened_at, open_until, last_code, last_message)
      values ($1, 1, $4::integer, case when $4::integer = 1 then clock_timestamp() end,
        case when $4::integer = 1 then clock_timestamp() + interval '30 seconds' end, $2, $3)
      on conflict (scope) do update set failures = c.failures + 1, last_code = $2, last_message = $3, updated_at = case when ${opens} then clock_timestamp() else c.updated_at end,
        opens = c.opens + (case when ${opens} then 1 else 0 end),
        opened_at = case when ${opens} then coalesce(c.opened_at, clock_timestamp()) else c.opened_at end,
        open_until = case when ${opens} then clock_timestamp() + interval '30 seconds' else c.open_until end,
        probe_until = null
      returning ${circuitColumns}, open_until is not null and updated_at >= statement_timestamp() as opened`,
    values: [scope, failure.code, failure.message.slice(0, 500), failure.holdsForAll ? 1 : 0],
  });
  const row = rows[0];
  return row?.opened ? row : null;
}

/** Long enough for any execution that is wanted to have tried. */
const idleSeconds = 60;

/**
 * Closes the circuits of scopes whose clouds were read well, if their time has been over for a minute and nobody tries:
 * nothing is to be executed there, and what would be must not be told of a fault of long ago.
 * @returns the scopes that were closed.
 */
export async function closeIdleCircuits(db: Queryable, scopes: readonly string[]): Promise<string[]> {
  const { rows } = await db.query<{ scope: string }>({
    name: 'close_idle_circuits',
    text: `update circuits set failures = 0, opens = 0, opened_at = null, open_until = null, probe_until = null, updated_at = clock_timestamp()
      where scope = any ($1::text[]) and open_until < clock_timestamp() - ${idleSeconds} * interval '1 second'
        and (probe_until is null or probe_until < clock_timestamp()) returning scope`,
    values: [scopes],
  });
  return rows.map((row) => row.scope);
}

/**
 * The cloud answered: closes the circuit. Costs nothing where it is closed already and nothing failed. @returns whether
 * anything had failed.
 */
export async function circuitAnswered(db: Queryable, scope: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'circuit_answered',
    text: `update circuits set failures = 0, opens = 0, opened_at = null, open_until = null, probe_until = null, updated_at = clock_timestamp()
      where scope = $1 and (failures > 0 or open_until is not null)`,
    values: [scope],
  });
  return rowCount === 1;
}
