import { type FleetLimits, limitColumns } from '../../shared/db/fleet-limits-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import type { ProtectionChange } from '../../shared/db/protection-lock.ts';

export async function listFleetLimits(db: Queryable): Promise<FleetLimits[]> {
  const { rows } = await db.query<FleetLimits>({
    name: 'list_fleet_limits',
    text: `select scope, ${limitColumns} from fleet_limits order by scope`,
  });
  return rows;
}

export async function setFleetLimits(tx: ProtectionChange, limits: FleetLimits): Promise<void> {
  const names = limitColumns.split(',').map((name) => name.trim());
  await tx.query(
    `insert into fleet_limits (scope, ${names.join(', ')}) values ($1, ${names.map((_, index) => `$${index + 2}`).join(', ')})
      on conflict (scope) do update set ${names.map((name) => `${name} = excluded.${name}`).join(', ')}, updated_at = clock_timestamp()`,
    [limits.scope, ...names.map((name) => limits[name as keyof FleetLimits])],
  );
}

/** @returns false when the scope has no limits of its own. */
export async function deleteFleetLimits(tx: ProtectionChange, scope: string): Promise<boolean> {
  return (await tx.query('delete from fleet_limits where scope = $1', [scope])).rowCount === 1;
}
