import type { FreezeWindow } from '../domain/freeze-window.ts';
import { iso } from './iso-column.ts';
import type { Queryable } from './pool.ts';

export interface FreezeRow extends FreezeWindow {
  readonly actor: string;
  readonly created_at: string;
}

export const freezeColumns = `id, scope, direction, schedule, time_zone, duration_minutes,
  floor(extract(epoch from starts_at) * 1000)::double precision as starts_at_ms,
  floor(extract(epoch from ends_at) * 1000)::double precision as ends_at_ms, reason`;

export async function listFreezes(db: Queryable): Promise<FreezeRow[]> {
  const { rows } = await db.query<FreezeRow>({
    name: 'list_freezes',
    text: `select ${freezeColumns}, actor, ${iso('created_at')} from freezes order by freezes.created_at, id`,
  });
  return rows;
}
