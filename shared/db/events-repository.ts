import type { Selectors } from '../domain/api-key.ts';
import { decodeCursor, encodeCursor } from './page-cursor.ts';
import type { Queryable } from './pool.ts';
import { coveredBy, selectorsParameter } from './selectors-repository.ts';

/** A scaling event as the API shows it. `success` is null while the outcome is open or unknown. */
export interface EventRow {
  readonly id: string;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly action: 'ScaleUp' | 'ScaleDown' | null;
  readonly previous_instances: number | null;
  readonly new_instances: number | null;
  readonly success: boolean | null;
  readonly error_message: string | null;
  readonly execution_time_ms: number | null;
  readonly created_at: string;
  readonly phase: 'intent' | 'outcome' | 'late_report' | 'observed' | 'control';
  readonly outcome: string | null;
  readonly error_code: string | null;
  readonly actor: string;
  readonly seq: number;
}

export interface NewEvent {
  readonly resource_id: string;
  readonly decision_id?: string | null;
  readonly attempt_id?: string | null;
  readonly phase: EventRow['phase'];
  readonly outcome?: string | null;
  readonly action?: EventRow['action'];
  readonly previous_instances?: number | null;
  readonly new_instances?: number | null;
  readonly success?: boolean | null;
  readonly error_code?: string | null;
  readonly error_message?: string | null;
  readonly execution_time_ms?: number | null;
  readonly epoch?: string | null;
  readonly actor: string;
  /** Of the request that asked for it; null for what nobody asked for. */
  readonly request_id?: string | null;
}

const columns = `id, resource_id, decision_id, action, previous_instances, new_instances, success, error_message, execution_time_ms,
  to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at, phase, outcome, error_code, actor, seq::double precision as seq`;

/** Appends one event. Nothing ever changes it afterwards. */
export async function appendEvent(db: Queryable, event: NewEvent): Promise<EventRow> {
  const { rows } = await db.query<EventRow>({
    name: 'append_event',
    text: `insert into scaling_events (resource_id, decision_id, attempt_id, phase, outcome, action, previous_instances, new_instances, success,
        error_code, error_message, execution_time_ms, epoch, actor, request_id)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) returning ${columns}`,
    values: [
      event.resource_id,
      event.decision_id ?? null,
      event.attempt_id ?? null,
      event.phase,
      event.outcome ?? null,
      event.action ?? null,
      event.previous_instances ?? null,
      event.new_instances ?? null,
      event.success ?? null,
      event.error_code ?? null,
      event.error_message ?? null,
      event.execution_time_ms ?? null,
      event.epoch ?? null,
      event.actor,
      event.request_id ?? null,
    ],
  });
  return rows[0] as EventRow;
}

/** Newest first. Index: scaling_events_by_resource, or the unique one on seq. */
export async function listEvents(
  db: Queryable,
  filter: {
    readonly resource_id?: string | undefined;
    readonly limit: number;
    readonly offset: number;
    readonly cursor?: string | undefined;
    /** Only events of resources these cover. */
    readonly selectors: Selectors;
  },
): Promise<{ events: EventRow[]; cursor: string | null }> {
  const before = filter.cursor === undefined ? null : (decodeCursor(filter.cursor, 'seq')[0] ?? null);
  const { rows } = await db.query<EventRow>(
    `select ${columns} from scaling_events
      where ($1::uuid is null or resource_id = $1) and ($2::bigint is null or scaling_events.seq < $2)
        and ${coveredBy('$5', 'scaling_events.resource_id')}
      order by scaling_events.seq desc limit $3 offset $4`,
    [filter.resource_id ?? null, before, filter.limit, filter.offset, selectorsParameter(filter.selectors)],
  );
  const last = rows.at(-1);
  return {
    events: rows,
    cursor: rows.length < filter.limit || last === undefined ? null : encodeCursor([last.seq]),
  };
}

/** The successful event of a decision, if it has one. */
export async function findSuccessfulEvent(db: Queryable, decisionId: string): Promise<EventRow | null> {
  const { rows } = await db.query<EventRow>({
    name: 'find_successful_event',
    text: `select ${columns} from scaling_events where decision_id = $1 and phase = 'outcome' and success`,
    values: [decisionId],
  });
  return rows[0] ?? null;
}
