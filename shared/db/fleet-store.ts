import type { Queryable } from './pool.ts';

export interface LiveWorker {
  readonly worker_id: string;
  readonly queues: readonly string[];
  /** Since it last reported. */
  readonly age_seconds: number;
  readonly worker_version: number;
  /** Older than min_worker_version: it claims nothing. */
  readonly outdated: boolean;
  /** By SCALER_STOP in its environment: it executes nothing. */
  readonly stopped: boolean;
}

/** Workers that reported within the last 15 s. */
export async function listLiveWorkers(db: Queryable): Promise<LiveWorker[]> {
  const { rows } = await db.query<LiveWorker>(
    `select worker_id, queues, extract(epoch from now() - beat_at)::double precision as age_seconds, worker_version,
        worker_version < (select min_worker_version from fleet_settings) as outdated, stopped
      from worker_heartbeats where beat_at > now() - interval '15 seconds' order by worker_id`,
  );
  return rows;
}
