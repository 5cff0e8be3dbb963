import type { Queryable } from '../../shared/db/pool.ts';

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
  /** What its samples were posted in: null for percent. */
  readonly utilization_unit: 'ratio' | null;
  /** Epoch ms of the step taken in last. */
  readonly newest_ms: number | null;
  readonly state: Uint8Array;
}

export async function loadCheckpoints(
  db: Queryable,
  resourceIds: readonly string[],
): Promise<ForecastCheckpoint[]> {
  const { rows } = await db.query<ForecastCheckpoint>({
    name: 'load_forecast_checkpoints',
    text: `select resource_id, format, step_ms, horizon_steps, metrics, unit_vcpu, unit_gib, utilization_unit, state,
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
    text: `insert into forecasts (resource_id, format, step_ms, horizon_steps, metrics, newest, state, unit_vcpu, unit_gib, utilization_unit)
      select r.id, $2, $3, $4, $5, to_timestamp($6::double precision / 1000), $7, $9, $10, $11 from resources r where r.id = $1
      on conflict (resource_id) do update set format = excluded.format, step_ms = excluded.step_ms, horizon_steps = excluded.horizon_steps,
        metrics = excluded.metrics, newest = excluded.newest, state = excluded.state, unit_vcpu = excluded.unit_vcpu,
        unit_gib = excluded.unit_gib, utilization_unit = excluded.utilization_unit, saved_at = now()
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
      checkpoint.utilization_unit,
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
