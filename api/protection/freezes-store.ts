import { type FreezeRow, freezeColumns } from '../../shared/db/freezes-store.ts';
import { iso } from '../../shared/db/iso-column.ts';
import type { ProtectionChange } from '../../shared/db/protection-lock.ts';

export interface NewFreeze {
  readonly scope: string;
  readonly direction: 'up' | 'down' | 'both';
  readonly schedule: string | null;
  readonly time_zone: string;
  readonly duration_minutes: number | null;
  readonly starts_at: string | null;
  readonly ends_at: string | null;
  readonly reason: string;
  readonly actor: string;
}

export async function createFreeze(tx: ProtectionChange, freeze: NewFreeze): Promise<FreezeRow> {
  const { rows } = await tx.query<FreezeRow>(
    `insert into freezes (scope, direction, schedule, time_zone, duration_minutes, starts_at, ends_at, reason, actor)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning ${freezeColumns}, actor, ${iso('created_at')}`,
    [
      freeze.scope,
      freeze.direction,
      freeze.schedule,
      freeze.time_zone,
      freeze.duration_minutes,
      freeze.starts_at,
      freeze.ends_at,
      freeze.reason,
      freeze.actor,
    ],
  );
  return rows[0] as FreezeRow;
}

/** @returns the scope that was frozen; null when there is no such freeze. */
export async function deleteFreeze(tx: ProtectionChange, id: string): Promise<string | null> {
  const { rows } = await tx.query<{ scope: string }>('delete from freezes where id = $1 returning scope', [
    id,
  ]);
  return rows[0]?.scope ?? null;
}
