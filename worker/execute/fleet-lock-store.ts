import type { Queryable } from '../../shared/db/pool.ts';

/** Makes the executions of a scope take their turn at its limits, to the end of the transaction. */
export async function lockFleet(tx: Queryable, scopes: readonly string[]): Promise<void> {
  // In one order everywhere, so that two executions never wait for each other.
  for (const scope of scopes.toSorted()) {
    await tx.query({
      name: 'lock_fleet',
      text: `select pg_advisory_xact_lock(hashtextextended('scaler fleet ' || $1, 0))`,
      values: [scope],
    });
  }
}
