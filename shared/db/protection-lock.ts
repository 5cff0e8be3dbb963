import type pg from 'pg';
import { type Queryable, withTransaction } from './pool.ts';

/** Serialises a change of what stops and freezes with the intents of executions: see `lockForIntent`. */
const protectionLock = `hashtextextended('scaler protection', 0)`;

/**
 * Held to the end of the transaction in which an intent is written. A stop or freeze is committed only when no such
 * transaction is under way, and those that begin later see it: after it, no intent commits in its scope.
 */
export async function lockForIntent(tx: Queryable): Promise<void> {
  await tx.query({
    name: 'lock_for_intent',
    text: `select pg_advisory_xact_lock_shared(${protectionLock})`,
  });
}

declare const changing: unique symbol;

/** The transaction of a change of what protects: only `changeProtection` gives one out. */
export type ProtectionChange = pg.PoolClient & { readonly [changing]: true };

/**
 * Runs a change of stops, freezes or limits so that no intent is half-way through reading them. What is to be written
 * with it, its audit row first of all, belongs into `work`.
 */
export async function changeProtection<T>(
  pool: pg.Pool,
  work: (tx: ProtectionChange) => Promise<T>,
): Promise<T> {
  return await withTransaction(pool, async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(${protectionLock})`);
    return await work(tx as ProtectionChange);
  });
}
