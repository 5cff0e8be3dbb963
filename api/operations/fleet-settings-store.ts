import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';

export interface FleetSettings {
  readonly min_worker_version: number;
  readonly reason: string;
  readonly actor: string;
  readonly updated_at: string;
}

const columns = `min_worker_version, reason, actor, ${iso('updated_at')}`;

export async function readFleetSettings(db: Queryable): Promise<FleetSettings> {
  return (await db.query<FleetSettings>(`select ${columns} from fleet_settings`)).rows[0] as FleetSettings;
}

/** Workers with a lower version claim nothing from their next claim on. */
export async function setMinWorkerVersion(
  db: Queryable,
  values: Pick<FleetSettings, 'min_worker_version' | 'reason' | 'actor'>,
): Promise<void> {
  await db.query(
    'update fleet_settings set min_worker_version = $1, reason = $2, actor = $3, updated_at = clock_timestamp()',
    [values.min_worker_version, values.reason, values.actor],
  );
}
