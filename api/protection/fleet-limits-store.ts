import {
  type FleetLimits,
  type FleetUsage,
  limitColumns,
  readFleetUsage,
} from '../../shared/db/fleet-limits-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { ProtectionChange } from '../../shared/db/protection-lock.ts';

export async function listFleetLimits(db: Queryable): Promise<FleetLimits[]> {
  const { rows } = await db.query<FleetLimits>({
    name: 'list_fleet_limits',
    text: `select scope, ${limitColumns} from fleet_limits order by scope`,
  });
  return rows;
}

/** Sets all limits of a scope, replacing those it had. */
export async function setFleetLimits(tx: ProtectionChange, limits: FleetLimits): Promise<void> {
  const names = limitColumns.split(',').map((name) => name.trim());
  const placeholders = names.map((_, index) => `$${index + 2}`);
  const updates = names.map((name) => `${name} = excluded.${name}`);
  await tx.query(
    `insert into fleet_limits (scope, ${names.join(', ')}) values ($1, ${placeholders.join(', ')})
      on conflict (scope) do update set ${updates.join(', ')}, updated_at = clock_timestamp()`,
    [limits.scope, ...names.map((name) => limits[name as keyof FleetLimits])],
  );
}

/** How much of its budget each region or cluster with resources has used. */
export async function readFleetUsages(db: Queryable): Promise<FleetUsage[]> {
  const { rows } = await db.query<{ scope: string }>(
    `select distinct 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') as scope
      from resources order by 1`,
  );
  return await readFleetUsage(
    db,
    rows.map((row) => row.scope),
  );
}

/** @returns false when the scope has no limits of its own. */
export async function deleteFleetLimits(tx: ProtectionChange, scope: string): Promise<boolean> {
  return (await tx.query('delete from fleet_limits where scope = $1', [scope])).rowCount === 1;
}
