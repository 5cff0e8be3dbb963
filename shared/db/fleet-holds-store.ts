import type { FleetLimits } from './fleet-limits-store.ts';
import { iso } from './iso-column.ts';
import type { Queryable } from './pool.ts';

export interface HoldRow {
  readonly scope: string;
  readonly tripped_at: string;
  readonly held_until: string;
  readonly held_until_ms: number;
  readonly held: boolean;
  readonly wanting: number;
  readonly resources: number;
  readonly released_by: string | null;
  readonly release_reason: string | null;
}

const holdColumns = `scope, ${iso('tripped_at')}, ${iso('held_until')},
  floor(extract(epoch from held_until) * 1000)::double precision as held_until_ms,
  held_until > clock_timestamp() and released_by is null as held, wanting, resources, released_by, release_reason`;

export async function listHolds(db: Queryable): Promise<HoldRow[]> {
  const { rows } = await db.query<HoldRow>({
    name: 'list_holds',
    text: `select ${holdColumns} from fleet_holds order by scope`,
  });
  return rows;
}

/** How long a wish to scale in counts as one of now. */
const correlatedWindow = `interval '5 minutes'`;

/**
 * Asks whether too many resources of a region or cluster want to scale in at once: rather a fault in what is measured
 * than a fleet with nothing to do. Trips the hold when it is so.
 * @returns the hold in force, and whether this call tripped it; null when scaling in may go on.
 */
export async function correlatedHold(
  tx: Queryable,
  cloudScope: string,
  limits: Pick<FleetLimits, 'correlated_percent' | 'correlated_minimum' | 'hold_seconds'>,
): Promise<{ hold: HoldRow; tripped: boolean } | null> {
  const known = await tx.query<HoldRow & { quiet: boolean }>({
    name: 'read_hold',
    text: `select ${holdColumns}, quiet_until > clock_timestamp() as quiet from fleet_holds where scope = $1`,
    values: [cloudScope],
  });
  const present = known.rows[0];
  if (present?.held) return { hold: present, tripped: false };
  if (present?.quiet || limits.correlated_percent >= 100) return null;
  const { rows } = await tx.query<HoldRow>({
    name: 'trip_hold',
    text: `with members as (select id from resources where 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') = $1),
      counts as (
        select (select count(*) from members)::integer as resources,
          (select count(distinct d.resource_id) from scaling_decisions d join members m on m.id = d.resource_id
            where d.decision_type = 'scaledown' and d.created_at > clock_timestamp() - ${correlatedWindow})::integer as wanting)
      insert into fleet_holds (scope, held_until, quiet_until, wanting, resources)
      select $1, clock_timestamp() + $4 * interval '1 second', clock_timestamp() + $4 * interval '1 second' + interval '1 hour', wanting, resources
      from counts where wanting >= $3 and wanting > resources * $2::double precision / 100
      on conflict (scope) do update set tripped_at = clock_timestamp(), held_until = excluded.held_until, quiet_until = excluded.quiet_until,
        wanting = excluded.wanting, resources = excluded.resources, released_by = null, release_reason = null
      returning ${holdColumns}`,
    values: [cloudScope, limits.correlated_percent, limits.correlated_minimum, limits.hold_seconds],
  });
  const hold = rows[0];
  return hold === undefined ? null : { hold, tripped: true };
}

/** Lets a held scope scale in again; it is not held again for `quietSeconds`. @returns false when it is not held. */
export async function releaseHold(
  db: Queryable,
  scope: string,
  quietSeconds: number,
  actor: string,
  reason: string,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update fleet_holds set released_by = $3, release_reason = $4, quiet_until = clock_timestamp() + $2 * interval '1 second'
      where scope = $1 and held_until > clock_timestamp() and released_by is null`,
    [scope, quietSeconds, actor, reason],
  );
  return rowCount === 1;
}
