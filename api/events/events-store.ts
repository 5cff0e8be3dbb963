import { type EventRow, eventColumns } from '../../shared/db/event-row.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { coveredBy, selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import { decodeSequenceCursor, nextCursor } from '../http/page-cursor.ts';

/** Newest first. Index: scaling_events_by_resource, or the unique one on seq. */
export async function listEvents(
  db: Queryable,
  filter: {
    readonly resource_id?: string | undefined;
    readonly limit: number;
    readonly offset: number;
    readonly cursor?: string | undefined;
    /** Only events of the resources these cover. */
    readonly selectors: Selectors;
  },
): Promise<{ events: EventRow[]; cursor: string | null }> {
  const before = decodeSequenceCursor(filter.cursor);
  const { rows } = await db.query<EventRow>(
    `select ${eventColumns} from scaling_events
      where ($1::uuid is null or resource_id = $1) and ($2::bigint is null or scaling_events.seq < $2)
        and ${coveredBy('$5', 'scaling_events.resource_id')}
      order by scaling_events.seq desc limit $3 offset $4`,
    [filter.resource_id ?? null, before, filter.limit, filter.offset, selectorsParameter(filter.selectors)],
  );
  return { events: rows, cursor: nextCursor(rows, filter.limit, (row) => [row.seq]) };
}
