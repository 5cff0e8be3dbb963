import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';

/** The instance size at that time; null stores the resource's present one. */
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
  /** A monotonic counter, from which the worker takes the rate. */
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

/** The last row of each timestamp and resource: an upsert must not meet the same key twice in one statement. */
function lastOfEach<T extends { readonly timestamp: string; readonly resource_id?: string }>(
  rows: readonly T[],
): T[] {
  return [...new Map(rows.map((row) => [`${row.resource_id} ${Date.parse(row.timestamp)}`, row])).values()];
}

export interface UpsertCounts {
  readonly inserted: number;
  readonly updated: number;
}

/** The instance size of a row `g`, which falls back to the resource's. */
const instanceOfRow = `coalesce(g.instance_type, resource.instance_type),
        coalesce(g.cpu_request, resource.cpu_request), coalesce(g.memory_request, resource.memory_request)`;
const resourceCte = `resource as (
      select id, current_instances, instance_type, cpu_request, memory_request from resources where id = $1)`;
const countWritten = `select (select count(*) from resource)::integer as known,
      (select count(*) from written where fresh)::integer as inserted,
      (select count(*) from written where not fresh)::integer as updated`;

/**
 * Upserts samples in one round trip. A sample without instances or instance size takes the resource's present ones.
 * @returns null when there is no such resource.
 */
export async function upsertSamples(
  db: Queryable,
  resourceId: string,
  samples: readonly SampleRow[],
): Promise<UpsertCounts | null> {
  const { known, ...counts } = await upsertSamplesOfMany(
    db,
    samples.map((sample) => ({ ...sample, resource_id: resourceId })),
  );
  return known === 0 ? null : counts;
}

/**
 * The same for samples of many resources; those of a resource that is not there are left out.
 * @returns with how many of the resources there are.
 */
export async function upsertSamplesOfMany(
  db: Queryable,
  samples: readonly (SampleRow & { readonly resource_id: string })[],
): Promise<UpsertCounts & { readonly known: number }> {
  const rows = lastOfEach(samples);
  const { rows: counts } = await db.query<UpsertCounts & { known: number }>(
    `with resource as (
        select id, current_instances, instance_type, cpu_request, memory_request from resources where id = any ($1::uuid[])),
      written as (
        insert into metric_samples (resource_id, timestamp, cpu, memory, requests, instances, requests_total,
          instance_type, cpu_request, memory_request)
        select resource.id, g.timestamp, g.cpu, g.memory, g.requests,
          coalesce(g.instances, resource.current_instances), g.requests_total, ${instanceOfRow}
        from unnest($1::uuid[], $2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::integer[],
            $7::float8[], $8::text[], $9::numeric[], $10::numeric[])
          as g (resource_id, timestamp, cpu, memory, requests, instances, requests_total, instance_type, cpu_request,
            memory_request)
        join resource on resource.id = g.resource_id
        -- In one order, so that two requests for the same rows wait for each other and do not lock each other out.
        order by resource.id, g.timestamp
        on conflict (resource_id, timestamp) do update set cpu = excluded.cpu, memory = excluded.memory,
          requests = excluded.requests, instances = excluded.instances, requests_total = excluded.requests_total,
          instance_type = excluded.instance_type, cpu_request = excluded.cpu_request,
          memory_request = excluded.memory_request, received_at = now()
        returning xmax = 0 as fresh)
    ${countWritten}`,
    [
      rows.map((row) => row.resource_id),
      rows.map((row) => row.timestamp),
      rows.map((row) => row.cpu),
      rows.map((row) => row.memory),
      rows.map((row) => row.requests),
      rows.map((row) => row.instances),
      rows.map((row) => row.requests_total ?? null),
      ...instanceArrays(rows),
    ],
  );
  return counts[0] as (typeof counts)[number];
}

/** Upserts predictions in one round trip, as `upsertSamples` does. @returns null when there is no such resource. */
export async function upsertPredictions(
  db: Queryable,
  resourceId: string,
  predictions: readonly PredictionRow[],
): Promise<UpsertCounts | null> {
  const rows = lastOfEach(predictions);
  return await upsert(
    db,
    `with ${resourceCte}, written as (
      insert into predictions (resource_id, timestamp, predicted_cpu, predicted_memory, predicted_requests,
        confidence, model_version, instances, instance_type, cpu_request, memory_request)
      select resource.id, g.timestamp, g.cpu, g.memory, g.requests, g.confidence, g.model,
        coalesce(g.instances, resource.current_instances), ${instanceOfRow}
      from resource, unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[],
          $7::text[], $8::integer[], $9::text[], $10::numeric[], $11::numeric[])
        as g (timestamp, cpu, memory, requests, confidence, model, instances, instance_type, cpu_request,
          memory_request)
      on conflict (resource_id, timestamp) do update set predicted_cpu = excluded.predicted_cpu,
        predicted_memory = excluded.predicted_memory, predicted_requests = excluded.predicted_requests,
        confidence = excluded.confidence, model_version = excluded.model_version,
        instances = excluded.instances, instance_type = excluded.instance_type,
        cpu_request = excluded.cpu_request, memory_request = excluded.memory_request, created_at = now()
      returning xmax = 0 as fresh)
    ${countWritten}`,
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

async function upsert(db: Queryable, sql: string, values: unknown[]): Promise<UpsertCounts | null> {
  const { rows } = await db.query<UpsertCounts & { known: number }>(sql, values);
  const { known, inserted, updated } = rows[0] as (typeof rows)[number];
  return known === 0 ? null : { inserted, updated };
}

interface Range {
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly limit: number;
}

/** Of the table `s`: without its name, `timestamp` would mean the text that is selected. */
const inRange = `where resource_id = $1 and ($2::timestamptz is null or s.timestamp >= $2)
        and ($3::timestamptz is null or s.timestamp < $3)
      order by s.timestamp desc limit $4`;

const instanceColumns = 'instance_type, cpu_request::float8, memory_request::float8';

/** Newest first. Index: the primary key. */
export async function listSamples(db: Queryable, resourceId: string, range: Range): Promise<SampleRow[]> {
  const { rows } = await db.query<SampleRow>(
    `select ${iso('timestamp')}, cpu, memory, requests, instances, requests_total, ${instanceColumns}
      from metric_samples s ${inRange}`,
    rangeParameters(resourceId, range),
  );
  return rows;
}

/** Newest first. Index: the primary key. */
export async function listPredictions(
  db: Queryable,
  resourceId: string,
  range: Range,
): Promise<PredictionRow[]> {
  const { rows } = await db.query<PredictionRow>(
    `select ${iso('timestamp')}, predicted_cpu, predicted_memory, predicted_requests, confidence, model_version,
        instances, ${instanceColumns}
      from predictions s ${inRange}`,
    rangeParameters(resourceId, range),
  );
  return rows;
}

function rangeParameters(resourceId: string, range: Range): unknown[] {
  return [resourceId, range.from ?? null, range.to ?? null, range.limit];
}
