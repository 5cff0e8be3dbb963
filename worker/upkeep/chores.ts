import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { withTransaction } from '../../shared/db/pool.ts';
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
  }
  return { observed, failed };
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

/** Deletes what has outlived its use. History (jobs, decisions, events, audit) is never deleted here. */
export async function expireOldRows(pool: pg.Pool, sampleRetentionDays: number): Promise<number> {
  let deleted = 0;
  for (const sql of [
    `delete from metric_samples where timestamp < now() - $1 * interval '1 day'`,
    `delete from predictions where timestamp < now() - $1 * interval '1 day'`,
  ]) {
    deleted += (await pool.query(sql, [sampleRetentionDays])).rowCount ?? 0;
  }
  deleted +=
    (await pool.query(`delete from idempotency_keys where created_at < now() - interval '24 hours'`))
      .rowCount ?? 0;
  deleted +=
    (await pool.query(`delete from worker_heartbeats where beat_at < now() - interval '1 hour'`)).rowCount ??
    0;
  return deleted;
}
