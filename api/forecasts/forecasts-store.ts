import type { Queryable } from '../../shared/db/pool.ts';

/** The newest forecast as the API shows it, and its age. */
export interface ForecastView {
  readonly forecast: Record<string, unknown> | null;
  readonly age_seconds: number | null;
}

/** @returns null when no forecast was made yet. */
export async function findForecastView(db: Queryable, resourceId: string): Promise<ForecastView | null> {
  const { rows } = await db.query<ForecastView>({
    name: 'find_forecast_view',
    text: `select forecast, extract(epoch from clock_timestamp() - forecast_at)::double precision as age_seconds
      from forecasts where resource_id = $1`,
    values: [resourceId],
  });
  return rows[0] ?? null;
}

/** The newest frontier of a resource, and the unfinished job that computes another one. */
export interface FrontierView {
  readonly result: Record<string, unknown> | null;
  readonly age_seconds: number | null;
  readonly unfinished_job_id: string | null;
}

/** Looks at the jobs of the last 8 days: an older frontier is of no use. Index: jobs_by_resource. */
export async function findFrontier(db: Queryable, resourceId: string): Promise<FrontierView> {
  const { rows } = await db.query<FrontierView>({
    name: 'find_frontier',
    text: `with mine as materialized (
        select id, status, finished_at, created_at from jobs where resource_id = $1 and kind = 'simulate'
          and input @> '{"frontier": true}' and created_at > now() - interval '8 days'),
      newest as (
        select id, finished_at from mine where status = 'completed' order by created_at desc limit 1)
      select (select j.result from jobs j join newest on j.id = newest.id) as result,
        (select extract(epoch from clock_timestamp() - finished_at)::double precision from newest) as age_seconds,
        (select id from mine where status not in ('completed', 'failed') order by created_at limit 1)
          as unfinished_job_id`,
    values: [resourceId],
  });
  return rows[0] as FrontierView;
}
