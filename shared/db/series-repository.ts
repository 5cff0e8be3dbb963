import type { Queryable } from './pool.ts';

export interface SampleRow {
  readonly timestamp: string;
  readonly cpu: number | null;
  readonly memory: number | null;
  readonly requests: number | null;
  readonly instances: number | null;
}

export interface PredictionRow {
  readonly timestamp: string;
  readonly predicted_cpu: number | null;
  readonly predicted_memory: number | null;
  readonly predicted_requests: number | null;
  readonly confidence: number | null;
  readonly model_version: string | null;
  readonly instances: number | null;
}

const iso = (column: string) =>
  `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as ${column}`;

/** Of rows for the same moment the last one given counts. */
function lastByMoment<T extends { readonly timestamp: string }>(rows: readonly T[]): T[] {
  return [...new Map(rows.map((row) => [Date.parse(row.timestamp), row])).values()];
}

/** Upserts samples in one round trip; a sample without a count takes the resource's present one. Null: no such resource. */
export async function upsertSamples(
  db: Queryable,
  resourceId: string,
  given: readonly SampleRow[],
): Promise<{ inserted: number; updated: number } | null> {
  const rows = lastByMoment(given);
  return await counted(
    db,
    `with resource as (select id, current_instances from resources where id = $1), written as (
      insert into metric_samples (resource_id, timestamp, cpu, memory, requests, instances)
      select resource.id, s.timestamp, s.cpu, s.memory, s.requests, coalesce(s.instances, resource.current_instances)
      from resource, unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::integer[]) as s (timestamp, cpu, memory, requests, instances)
      on conflict (resource_id, timestamp) do update set cpu = excluded.cpu, memory = excluded.memory, requests = excluded.requests,
        instances = excluded.instances, received_at = now()
      returning xmax = 0 as fresh)
    select (select count(*) from resource)::integer as known, (select count(*) from written where fresh)::integer as inserted,
      (select count(*) from written where not fresh)::integer as updated`,
    [
      resourceId,
      rows.map((row) => row.timestamp),
      rows.map((row) => row.cpu),
      rows.map((row) => row.memory),
      rows.map((row) => row.requests),
      rows.map((row) => row.instances),
    ],
  );
}

/** Upserts predictions in one round trip. Null: no such resource. */
export async function upsertPredictions(
  db: Queryable,
  resourceId: string,
  given: readonly PredictionRow[],
): Promise<{ inserted: number; updated: number } | null> {
  const rows = lastByMoment(given);
  return await counted(
    db,
    `with resource as (select id, current_instances from resources where id = $1), written as (
      insert into predictions (resource_id, timestamp, predicted_cpu, predicted_memory, predicted_requests, confidence, model_version, instances)
      select resource.id, p.timestamp, p.cpu, p.memory, p.requests, p.confidence, p.model, coalesce(p.instances, resource.current_instances)
      from resource, unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::text[], $8::integer[])
        as p (timestamp, cpu, memory, requests, confidence, model, instances)
      on conflict (resource_id, timestamp) do update set predicted_cpu = excluded.predicted_cpu, predicted_memory = excluded.predicted_memory,
        predicted_requests = excluded.predicted_requests, confidence = excluded.confidence, model_version = excluded.model_version,
        instances = excluded.instances, created_at = now()
      returning xmax = 0 as fresh)
    select (select count(*) from resource)::integer as known, (select count(*) from written where fresh)::integer as inserted,
      (select count(*) from written where not fresh)::integer as updated`,
    [
      resourceId,
      rows.map((row) => row.timestamp),
      rows.map((row) => row.predicted_cpu),
      rows.map((row) => row.predicted_memory),
      rows.map((row) => row.predicted_requests),
      rows.map((row) => row.confidence),
      rows.map((row) => row.model_version),
      rows.map((row) => row.instances),
    ],
  );
}

async function counted(
  db: Queryable,
  sql: string,
  values: unknown[],
): Promise<{ inserted: number; updated: number } | null> {
  const { rows } = await db.query<{ known: number; inserted: number; updated: number }>(sql, values);
  const row = rows[0] as { known: number; inserted: number; updated: number };
  return row.known === 0 ? null : { inserted: row.inserted, updated: row.updated };
}

interface Range {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly limit: number;
}

/** Newest first. Index: the primary key. */
export async function listSamples(db: Queryable, resourceId: string, range: Range): Promise<SampleRow[]> {
  return await list(
    db,
    `select ${iso('timestamp')}, cpu, memory, requests, instances from metric_samples`,
    'metric_samples',
    resourceId,
    range,
  );
}

export async function listPredictions(
  db: Queryable,
  resourceId: string,
  range: Range,
): Promise<PredictionRow[]> {
  return await list(
    db,
    `select ${iso('timestamp')}, predicted_cpu, predicted_memory, predicted_requests, confidence, model_version, instances from predictions`,
    'predictions',
    resourceId,
    range,
  );
}

async function list<T extends object>(
  db: Queryable,
  select: string,
  table: 'metric_samples' | 'predictions',
  resourceId: string,
  range: Range,
): Promise<T[]> {
  const { rows } = await db.query<T>(
    `${select} where resource_id = $1 and ($2::timestamptz is null or ${table}.timestamp >= $2) and ($3::timestamptz is null or ${table}.timestamp < $3)
      order by ${table}.timestamp desc limit $4`,
    [resourceId, range.from ?? null, range.to ?? null, range.limit],
  );
  return rows;
}
