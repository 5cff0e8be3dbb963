import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { auditMany } from '../../shared/db/audit-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import { enqueue, type Queues } from '../../shared/queues/queues.ts';
import { closeIdleCircuits } from '../execute/circuits-store.ts';
import { recordObservation } from '../execute/execution-store.ts';
import type { ScalingProvider } from '../providers/scaling-provider.ts';
import {
  deleteExpired,
  expiries,
  fillRegion,
  insertDueDecisions,
  listDueResources,
  listUnobserved,
  lockDueDecisions,
  type ObservedResource,
  type Retention,
} from './upkeep-store.ts';

/**
 * Asks the clouds, in batches, for the size of every resource not looked at within `maxAgeSeconds`. @returns how many
 * answered.
 */
export async function observeResources(
  pool: pg.Pool,
  providers: ReadonlyMap<CloudProvider, ScalingProvider>,
  options: {
    readonly maxAgeSeconds: number;
    readonly defaultRegion: string;
    readonly workerId: string;
    readonly signal: AbortSignal;
  },
): Promise<{ observed: number; failed: number }> {
  await fillRegion(pool, options.defaultRegion);
  const rows = await listUnobserved(pool, options.maxAgeSeconds);
  let observed = 0;
  let failed = 0;
  for (const [name, provider] of providers) {
    const mine = rows.filter((row) => row.cloud_provider === name);
    if (mine.length === 0) continue;
    const targets = mine.map((row) => ({
      provider: name,
      scope: name === 'aws' ? row.region : row.cluster,
      name: row.name,
      actuation: row.actuation,
    }));
    const states = await provider.describeMany(targets, options.signal);
    for (const [index, state] of states.entries()) {
      if (state instanceof Error) failed++;
      else {
        await recordObservation(pool, mine[index] as ObservedResource, state, options.workerId);
        observed++;
      }
    }
    const answered = mine.filter((_, index) => !(states[index] instanceof Error)).map(cloudScope);
    await closeCircuits(pool, [...new Set(answered)], options.workerId);
  }
  return { observed, failed };
}

async function closeCircuits(pool: pg.Pool, scopes: readonly string[], workerId: string): Promise<void> {
  await withTransaction(pool, async (tx) => {
    const closed = await closeIdleCircuits(tx, scopes);
    const who = { actor: workerId, action: 'circuit.closed', request_id: null, remote_address: null };
    await auditMany(
      tx,
      closed.map((subject) => ({ ...who, subject, detail: { why: 'the cloud was read well' } })),
    );
  });
}

/**
 * Starts a decision for every `recommend` and `auto` resource whose interval is over. One worker at a time does it: the
 * others would see the same resources due.
 */
export async function decideDueResources(pool: pg.Pool, queues: Queues): Promise<number> {
  const ids = await withTransaction(pool, async (tx) => {
    if (!(await lockDueDecisions(tx))) return [];
    const due = await listDueResources(tx);
    const fresh = due.map(() => randomUUID());
    await insertDueDecisions(tx, fresh, due);
    return fresh;
  });
  if (ids.length > 0)
    await enqueue(
      queues,
      ids.map((id) => ({ id, queue: 'decide', seq: 0 })),
    );
  return ids.length;
}

/**
 * One statement deletes at most so many rows: a single one for a busy hour would meet its time limit and delete
 * nothing, ever.
 */
const expireBatch = 5_000;
/** Of one run; the next comes soon. The worker's other chores wait meanwhile. */
const expireBudgetMs = 2_000;

/**
 * Deletes what has outlived its use, in small batches and for a short while. Scaling events, the audit log and
 * decisions that were tried on a cloud, with their attempts, are never deleted.
 * @returns how many rows were deleted.
 */
export async function expireOldRows(
  pool: pg.Pool,
  retention: Retention,
  batch: number = expireBatch,
): Promise<number> {
  const endAt = performance.now() + expireBudgetMs;
  let deleted = 0;
  for (const expiry of expiries(retention)) {
    for (let last = batch; last >= batch && performance.now() < endAt; ) {
      last = await deleteExpired(pool, expiry, batch);
      deleted += last;
    }
  }
  return deleted;
}
