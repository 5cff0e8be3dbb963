import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { auditMany } from '../../shared/db/audit-repository.ts';
import { closeIdleCircuits } from '../../shared/db/circuits-repository.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import { enqueue, type Queues } from '../../shared/queues/queues.ts';
import { recordObservation } from '../jobs/execution-store.ts';
import type { ScalingProvider } from '../providers/scaling-provider.ts';

interface ObservedResource {
  readonly id: string;
  readonly name: string;
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly cluster: string | null;
  readonly actuation: 'desired' | 'floor';
  readonly epoch: string;
}

/** Asks the clouds, in batches, for the size of every resource not looked at within `maxAgeSeconds`. @returns how many answered. */
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
  // Rows the platform wrote have no region: they mean ours. A row that names the same group already keeps its place.
  await pool.query(
    `update resources r set region = $1 where cloud_provider = 'aws' and region is null and not exists (
      select 1 from resources o where o.cloud_provider = 'aws' and o.region = $1 and o.name = r.name)`,
    [options.defaultRegion],
  );
  const { rows } = await pool.query<ObservedResource>(
    `select id, name, cloud_provider, region, cluster, actuation, epoch::text from resources
      where observed_at is null or observed_at < now() - $1 * interval '1 second' order by observed_at nulls first limit 1000`,
    [options.maxAgeSeconds],
  );
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
    const { rows: lock } = await tx.query<{ held: boolean }>(
      `select pg_try_advisory_xact_lock(hashtext('scaler decide-due')) as held`,
    );
    if (lock[0]?.held !== true) return [];
    const { rows } = await tx.query<{ resource_id: string }>(
      `select r.id as resource_id from resources r where r.mode in ('recommend', 'auto')
        and not exists (select 1 from jobs j where j.resource_id = r.id and j.kind = 'decide' and not j.finished)
        and not exists (select 1 from scaling_decisions d where d.resource_id = r.id
          and d.created_at > now() - r.decision_interval * interval '1 second')
        limit 5000`,
    );
    const fresh = rows.map(() => randomUUID());
    await tx.query(
      `insert into jobs (id, kind, queue, resource_id, input, deadline_at, actor_key_id)
        select v.id, 'decide', 'decide', v.resource_id, '{"use_prediction": true, "automatic": true}', now() + interval '5 minutes', 'auto'
        from unnest($1::uuid[], $2::uuid[]) as v (id, resource_id)`,
      [fresh, rows.map((row) => row.resource_id)],
    );
    return fresh;
  });
  if (ids.length > 0)
    await enqueue(
      queues,
      ids.map((id) => ({ id, queue: 'decide', seq: 0 })),
    );
  return ids.length;
}

export interface Retention {
  readonly sampleDays: number;
  /** Of finished jobs and of decisions that never reached a cloud; undefined keeps them for ever. */
  readonly historyDays?: number | undefined;
}

/** One statement deletes at most so many rows: a single one for a busy hour would meet its time limit and delete nothing, ever. */
const expireBatch = 5_000;
/** Of one run; the next comes soon. The worker's other chores wait meanwhile. */
const expireBudgetMs = 2_000;

/**
 * Deletes what has outlived its use, in small batches and for a short while. Scaling events, the audit log and decisions
 * that were tried on a cloud, with their attempts, are never deleted.
 * @returns how many rows were deleted.
 */
export async function expireOldRows(
  pool: pg.Pool,
  retention: Retention,
  batch: number = expireBatch,
): Promise<number> {
  const endAt = performance.now() + expireBudgetMs;
  let deleted = 0;
  for (const [sql, ...values] of expiries(retention)) {
    for (let last = batch; last >= batch && performance.now() < endAt; ) {
      last = (await pool.query(sql, [batch, ...values])).rowCount ?? 0;
      deleted += last;
    }
  }
  return deleted;
}

function expiries({ sampleDays, historyDays }: Retention): (readonly [string, ...number[]])[] {
  const older = (table: string, column: string, age: string) =>
    `delete from ${table} where ctid = any (array (
      select ctid from ${table} where ${column} < now() - ${age} limit $1))`;
  return [
    // Index: …_retention.
    [older('metric_samples', 'timestamp', `$2 * interval '1 day'`), sampleDays],
    [older('predictions', 'timestamp', `$2 * interval '1 day'`), sampleDays],
    [older('idempotency_keys', 'created_at', `interval '24 hours'`)],
    [older('worker_heartbeats', 'beat_at', `interval '1 hour'`)],
    ...(historyDays === undefined ? [] : [[oldHistory, historyDays] as const]),
  ];
}

/** Decisions go with their jobs, so that those that are kept are not looked at again each time. Index: jobs_listing. */
const oldHistory = `with old as (
    select id from jobs where finished and created_at < now() - $2 * interval '1 day' order by created_at limit $1 for update skip locked),
  gone as (
    delete from scaling_decisions d using old where d.job_id = old.id and d.expires_at < now()
      and not exists (select 1 from attempts a where a.decision_id = d.id))
  delete from jobs using old where jobs.id = old.id`;
