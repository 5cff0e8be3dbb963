import { workerVersion } from '../domain/worker-version.ts';
import type { Queryable } from './pool.ts';

export interface FleetSettings {
  readonly min_worker_version: number;
  readonly reason: string;
  readonly actor: string;
  readonly updated_at: string;
}

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

const columns = `min_worker_version, reason, actor, to_char(updated_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as updated_at`;

export async function readFleetSettings(db: Queryable): Promise<FleetSettings> {
  return (await db.query<FleetSettings>(`select ${columns} from fleet_settings`)).rows[0] as FleetSettings;
}

export async function setMinWorkerVersion(
  db: Queryable,
  values: Pick<FleetSettings, 'min_worker_version' | 'reason' | 'actor'>,
): Promise<void> {
  await db.query(
    'update fleet_settings set min_worker_version = $1, reason = $2, actor = $3, updated_at = clock_timestamp()',
    [values.min_worker_version, values.reason, values.actor],
  );
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

/** The oldest version that may work, when this release's workers are older than it; else null. */
export async function outdatedBy(db: Queryable): Promise<number | null> {
  const { min_worker_version } = await readFleetSettings(db);
  return workerVersion < min_worker_version ? min_worker_version : null;
}
