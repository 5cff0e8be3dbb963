import type pg from 'pg';
import type { Queryable } from '../../shared/db/pool.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import type { QueueName } from '../../shared/queues/queues.ts';

/** Writes this worker's heartbeat: what it serves, its release and its version. */
export async function saveHeartbeat(
  db: Queryable,
  worker: {
    readonly id: string;
    readonly queues: readonly QueueName[];
    readonly version: string;
    readonly stopped: boolean;
  },
): Promise<void> {
  await db.query(
    `insert into worker_heartbeats (worker_id, queues, version, worker_version, stopped) values ($1, $2, $3, $4, $5)
      on conflict (worker_id) do update set beat_at = now(), queues = excluded.queues, version = excluded.version, worker_version = excluded.worker_version,
        stopped = excluded.stopped`,
    [worker.id, worker.queues, worker.version, workerVersion, worker.stopped],
  );
}

/** The oldest version that may work, when this release's workers are older than it; else null. */
export async function outdatedBy(db: Queryable): Promise<number | null> {
  const { rows } = await db.query<{ min_worker_version: number }>(
    'select min_worker_version from fleet_settings',
  );
  const minimum = rows[0]?.min_worker_version ?? 0;
  return workerVersion < minimum ? minimum : null;
}

/** Jobs that wait, by queue. */
export async function countWaitingByQueue(db: Queryable): Promise<{ queue: QueueName; n: number }[]> {
  const { rows } = await db.query<{ queue: QueueName; n: number }>(
    `select queue, count(*)::integer as n from jobs where not finished and status in ('queued', 'retrying') group by queue`,
  );
  return rows;
}

export interface ObservedResource {
  readonly id: string;
  readonly name: string;
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly cluster: string | null;
  readonly actuation: 'desired' | 'floor';
  readonly epoch: string;
}

/**
 * Gives AWS rows without a region ours: the platform writes them so. A row that names the same group keeps its place.
 */
export async function fillRegion(db: Queryable, region: string): Promise<void> {
  await db.query(
    `update resources r set region = $1 where cloud_provider = 'aws' and region is null and not exists (
      select 1 from resources o where o.cloud_provider = 'aws' and o.region = $1 and o.name = r.name)`,
    [region],
  );
}

/** Up to 1,000 resources that no cloud was asked about within `maxAgeSeconds`, the longest ago first. */
export async function listUnobserved(db: Queryable, maxAgeSeconds: number): Promise<ObservedResource[]> {
  const { rows } = await db.query<ObservedResource>(
    `select id, name, cloud_provider, region, cluster, actuation, epoch::text from resources
      where observed_at is null or observed_at < now() - $1 * interval '1 second' order by observed_at nulls first limit 1000`,
    [maxAgeSeconds],
  );
  return rows;
}

/** Locks out other workers' turns at starting decisions until the commit. @returns false when one has the turn. */
export async function lockDueDecisions(tx: pg.PoolClient): Promise<boolean> {
  const { rows } = await tx.query<{ held: boolean }>(
    `select pg_try_advisory_xact_lock(hashtext('scaler decide-due')) as held`,
  );
  return rows[0]?.held === true;
}

/** Up to 5,000 resources that decide by themselves, whose interval is over and for which no decision is under way. */
export async function listDueResources(tx: pg.PoolClient): Promise<string[]> {
  const { rows } = await tx.query<{ resource_id: string }>(
    `select r.id as resource_id from resources r where r.mode in ('recommend', 'auto')
        and not exists (select 1 from jobs j where j.resource_id = r.id and j.kind = 'decide' and not j.finished)
        and not exists (select 1 from scaling_decisions d where d.resource_id = r.id
          and d.created_at > now() - r.decision_interval * interval '1 second')
        limit 5000`,
  );
  return rows.map((row) => row.resource_id);
}

/** Inserts one decide job for each resource. */
export async function insertDueDecisions(
  tx: pg.PoolClient,
  jobIds: readonly string[],
  resourceIds: readonly string[],
): Promise<void> {
  await tx.query(
    `insert into jobs (id, kind, queue, resource_id, input, deadline_at, actor_key_id)
        select v.id, 'decide', 'decide', v.resource_id, '{"use_prediction": true, "automatic": true}', now() + interval '5 minutes', 'auto'
        from unnest($1::uuid[], $2::uuid[]) as v (id, resource_id)`,
    [jobIds, resourceIds],
  );
}

export interface Retention {
  readonly sampleDays: number;
  /** Of finished jobs and of decisions that never reached a cloud; undefined keeps them for ever. */
  readonly historyDays?: number | undefined;
}

export type Expiry = readonly [sql: string, ...values: number[]];

/** Runs one of the `expiries` once. @returns how many rows it deleted, at most `batch`. */
export async function deleteExpired(db: Queryable, [sql, ...values]: Expiry, batch: number): Promise<number> {
  return (await db.query(sql, [batch, ...values])).rowCount ?? 0;
}

/** The statements that delete what is too old. Each takes the most rows to delete first. */
export function expiries({ sampleDays, historyDays }: Retention): Expiry[] {
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
