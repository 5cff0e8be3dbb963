import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';

/** What an instance was at that time; null: what the resource says when the row is written. */
interface InstanceColumns {
  readonly instance_type?: string | null;
  readonly cpu_request?: number | null;
  readonly memory_request?: number | null;
}

export interface SampleRow extends InstanceColumns {
  readonly timestamp: string;
  readonly cpu: number | null;
  readonly memory: number | null;
  readonly requests: number | null;
  /** A counter that only rises, from which the worker takes the rate. */
  readonly requests_total?: number | null;
  readonly instances: number | null;
}

export interface PredictionRow extends InstanceColumns {
  readonly timestamp: string;
  readonly predicted_cpu: number | null;
  readonly predicted_memory: number | null;
  readonly predicted_requests: number | null;
  readonly confidence: number | null;
  readonly model_version: string | null;
  readonly instances: number | null;
}

/** Of rows for the same moment the last one given counts. */
function lastByMoment<T extends { readonly timestamp: string }>(rows: readonly T[]): T[] {
  return [...new Map(rows.map((row) => [Date.parse(row.timestamp), row])).values()];
}

/** Of a resource, what an instance is; `g` is the row given. What the row says of it wins. */
const instanceColumns = `coalesce(g.instance_type, resource.instance_type), coalesce(g.cpu_request, resource.cpu_request),
        coalesce(g.memory_request, resource.memory_request)`;
const resourceColumns = 'id, current_instances, instance_type, cpu_request, memory_request';

/**
 * Upserts samples in one round trip; a sample that does not say how many instances there were, and which, takes the
 * resource's present ones. Null: no such resource.
 */
export async function upsertSamples(
  db: Queryable,
  resourceId: string,
  given: readonly SampleRow[],
): Promise<{ inserted: number; updated: number } | null> {
  const rows = lastByMoment(given);
  return await counted(
    db,
    `with resource as (select ${resourceColumns} from resources where id = $1), written as (
      insert into metric_samples (resource_id, timestamp, cpu, memory, requests, instances, requests_total, instance_type, cpu_request, memory_request)
      select resource.id, g.timestamp, g.cpu, g.memory, g.requests, coalesce(g.instances, resource.current_instances), g.requests_total, ${instanceColumns}
      from resource, unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::integer[], $7::float8[], $8::text[], $9::numeric[], $10::numeric[])
        as g (timestamp, cpu, memory, requests, instances, requests_total, instance_type, cpu_request, memory_request)
      on conflict (resource_id, timestamp) do update set cpu = excluded.cpu, memory = excluded.memory, requests = excluded.requests,
        instances = excluded.instances, requests_total = excluded.requests_total, instance_type = excluded.instance_type,
        cpu_request = excluded.cpu_request, memory_request = excluded.memory_request, received_at = now()
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
      rows.map((row) => row.requests_total ?? null),
      ...instanceArrays(rows),
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
    `with resource as (select ${resourceColumns} from resources where id = $1), written as (
      insert into predictions (resource_id, timestamp, predicted_cpu, predicted_memory, predicted_requests, confidence, model_version, instances,
        instance_type, cpu_request, memory_request)
      select resource.id, g.timestamp, g.cpu, g.memory, g.requests, g.confidence, g.model, coalesce(g.instances, resource.current_instances), ${instanceColumns}
      from resource, unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::text[], $8::integer[], $9::text[], $10::numeric[], $11::numeric[])
        as g (timestamp, cpu, memory, requests, confidence, model, instances, instance_type, cpu_request, memory_request)
      on conflict (resource_id, timestamp) do update set predicted_cpu = excluded.predicted_cpu, predicted_memory = excluded.predicted_memory,
        predicted_requests = excluded.predicted_requests, confidence = excluded.confidence, model_version = excluded.model_version,
        instances = excluded.instances, instance_type = excluded.instance_type, cpu_request = excluded.cpu_request,
        memory_request = excluded.memory_request, created_at = now()
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
      ...instanceArrays(rows),
    ],
  );
}

function instanceArrays(rows: readonly InstanceColumns[]): unknown[][] {
  return [
    rows.map((row) => row.instance_type ?? null),
    rows.map((row) => row.cpu_request ?? null),
    rows.map((row) => row.memory_request ?? null),
  ];
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

const shownInstance = 'instance_type, cpu_request::float8, memory_request::float8';

/** Newest first. Index: the primary key. */
export async function listSamples(db: Queryable, resourceId: string, range: Range): Promise<SampleRow[]> {
  return await list(
    db,
    `select ${iso('timestamp')}, cpu, memory, requests, instances, requests_total, ${shownInstance} from metric_samples`,
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
    `select ${iso('timestamp')}, predicted_cpu, predicted_memory, predicted_requests, confidence, model_version, instances, ${shownInstance} from predictions`,
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
