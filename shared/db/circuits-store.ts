import { iso } from './iso-column.ts';
import type { Queryable } from './pool.ts';

export interface CircuitRow {
  readonly scope: string;
  readonly failures: number;
  readonly open: boolean;
  readonly opened_at: string | null;
  readonly open_until: string | null;
  readonly open_ms: number;
  readonly last_code: string | null;
  readonly last_message: string | null;
}

export const circuitColumns = `scope, failures, open_until is not null as open, ${iso('opened_at')}, ${iso('open_until')},
  coalesce(greatest(0, extract(epoch from open_until - clock_timestamp()) * 1000), 0)::double precision as open_ms, last_code, last_message`;

export async function listCircuits(db: Queryable): Promise<CircuitRow[]> {
  const { rows } = await db.query<CircuitRow>({
    name: 'list_circuits',
    text: `select ${circuitColumns} from circuits where open_until is not null or failures > 0 order by scope`,
  });
  return rows;
}
