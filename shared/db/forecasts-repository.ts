import type { Queryable } from './pool.ts';

/** What a forecaster has learnt, as it is stored. */
export interface ForecastCheckpoint {
  readonly resource_id: string;
  readonly format: number;
  readonly step_ms: number;
  readonly horizon_steps: number;
  readonly metrics: readonly string[];
  /** What its demand is in: instances with so many vCPU and so many GiB; null where that was not known. */
  readonly unit_vcpu: number | null;
  readonly unit_gib: number | null;
  /** Epoch ms of the step taken in last. */
  readonly newest_ms: number | null;
  readonly state: Uint8Array;
}

/** The newest forecast in the API's words, and when it was made. */
export interface ForecastView {
  readonly forecast: Record<string, unknown> | null;
  readonly age_seconds: number | null;
}

export async function loadCheckpoints(
  db: Queryable,
  resourceIds: readonly string[],
): Promise<ForecastCheckpoint[]> {
  const { rows } = await db.query<ForecastCheckpoint>({
    name: 'load_forecast_checkpoints',
    text: `select resource_id, format, step_ms, horizon_steps, metrics, unit_vcpu, unit_gib, state,
        floor(extract(epoch from newest) * 1000)::double precision as newest_ms
      from forecasts where resource_id = any ($1::uuid[])`,
    values: [resourceIds],
  });
  return rows;
}

/**
 * Saves what a forecaster knows, unless somebody saved more of the same make, or the resource is gone.
 * @param replace for a forecaster of another make (other horizon, other metrics): then age does not count.
 */
export async function saveCheckpoint(
  db: Queryable,
  checkpoint: ForecastCheckpoint,
  replace: boolean,
): Promise<void> {
  await db.query({
    name: 'save_forecast_checkpoint',
    text: `insert into forecasts (resource_id, format, step_ms, horizon_steps, metrics, newest, state, unit_vcpu, unit_gib)
      select r.id, $2, $3, $4, $5, to_timestamp($6::double precision / 1000), $7, $9, $10 from resources r where r.id = $1
      on conflict (resource_id) do update set format = excluded.format, step_ms = excluded.step_ms, horizon_steps = excluded.horizon_steps,
        metrics = excluded.metrics, newest = excluded.newest, state = excluded.state, unit_vcpu = excluded.unit_vcpu,
        unit_gib = excluded.unit_gib, saved_at = now()
      where $8 or forecasts.newest is null or forecasts.newest < excluded.newest`,
    values: [
      checkpoint.resource_id,
      checkpoint.format,
      checkpoint.step_ms,
      checkpoint.horizon_steps,
      checkpoint.metrics,
      checkpoint.newest_ms,
      checkpoint.state,
      replace,
      checkpoint.unit_vcpu,
      checkpoint.unit_gib,
    ],
  });
}

/** Stores the newest forecasts for readers; one that is older than what is there is left out. */
export async function saveForecastViews(
  db: Queryable,
  views: readonly { readonly resource_id: string; readonly made_at_ms: number; readonly forecast: unknown }[],
): Promise<void> {
  await db.query({
    name: 'save_forecast_views',
    text: `update forecasts f set forecast = v.forecast, forecast_at = to_timestamp(v.made_at_ms / 1000)
      from unnest($1::uuid[], $2::double precision[], $3::jsonb[]) as v (resource_id, made_at_ms, forecast)
      where f.resource_id = v.resource_id and (f.forecast_at is null or f.forecast_at <= to_timestamp(v.made_at_ms / 1000))`,
    values: [
      views.map((view) => view.resource_id),
      views.map((view) => view.made_at_ms),
      views.map((view) => JSON.stringify(view.forecast)),
    ],
  });
}

/** Null when there is none yet. */
export async function findForecastView(db: Queryable, resourceId: string): Promise<ForecastView | null> {
  const { rows } = await db.query<ForecastView>({
    name: 'find_forecast_view',
    text: `select forecast, extract(epoch from clock_timestamp() - forecast_at)::double precision as age_seconds
      from forecasts where resource_id = $1`,
    values: [resourceId],
  });
  return rows[0] ?? null;
}

/** The newest frontier that was computed for a resource, and the job that computes another one. */
export interface FrontierView {
  readonly result: Record<string, unknown> | null;
  readonly age_seconds: number | null;
  readonly unfinished_job_id: string | null;
}

/** Jobs are looked through as far back as a frontier is of use. Index: jobs_by_resource. */
export async function findFrontier(db: Queryable, resourceId: string): Promise<FrontierView> {
  const { rows } = await db.query<FrontierView>({
    name: 'find_frontier',
    text: `with mine as materialized (
        select id, status, finished_at, created_at from jobs where resource_id = $1 and kind = 'simulate'
          and input @> '{"frontier": true}' and created_at > now() - interval '8 days'),
      newest as (select id, finished_at from mine where status = 'completed' order by created_at desc limit 1)
      select (select j.result from jobs j join newest on j.id = newest.id) as result,
        (select extract(epoch from clock_timestamp() - finished_at)::double precision from newest) as age_seconds,
        (select id from mine where status not in ('completed', 'failed') order by created_at limit 1) as unfinished_job_id`,
    values: [resourceId],
  });
  return rows[0] as FrontierView;
}

/**
 * One row of history: [epoch ms, CPU percent, memory percent, instances, requests per second]. Where there is more to
 * say, the counter of requests follows, and what an instance was if that is not what the resource's instances are now:
 * [… requests_total, instance_type, cpu_request, memory_request].
 */
export type HistoryRow = readonly [
  atMs: number,
  cpu: number | null,
  memory: number | null,
  instances: number,
  requests: number | null,
  requestsTotal?: number | null,
  instanceType?: string | null,
  cpuRequest?: number | null,
  memoryRequest?: number | null,
];

/** `s` is a row of metric_samples, `r` its resource. The long form only where it says more: it is read with every decision. */
export const historyRow = `case when s.requests_total is null and s.instance_type is not distinct from r.instance_type
    and s.cpu_request is not distinct from r.cpu_request and s.memory_request is not distinct from r.memory_request
  then json_build_array(floor(extract(epoch from s.timestamp) * 1000), s.cpu, s.memory, s.instances, s.requests)
  else json_build_array(floor(extract(epoch from s.timestamp) * 1000), s.cpu, s.memory, s.instances, s.requests, s.requests_total,
    s.instance_type, s.cpu_request, s.memory_request) end`;

/** Samples from a moment on, oldest first. Index: the primary key. */
export async function listHistory(
  db: Queryable,
  resourceId: string,
  range: { readonly fromMs: number; readonly toMs: number; readonly limit: number },
): Promise<HistoryRow[]> {
  const { rows } = await db.query<{ row: HistoryRow }>({
    name: 'list_history',
    text: `select ${historyRow} as row from resources r join metric_samples s on s.resource_id = r.id
      where r.id = $1 and s.timestamp >= to_timestamp($2::double precision / 1000) and s.timestamp < to_timestamp($3::double precision / 1000)
      order by s.timestamp limit $4`,
    values: [resourceId, range.fromMs, range.toMs, range.limit],
  });
  return rows.map(({ row }) => row);
}
