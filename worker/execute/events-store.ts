import { type EventRow, eventColumns } from '../../shared/db/event-row.ts';
import type { Queryable } from '../../shared/db/pool.ts';

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

/** Appends one event. Nothing ever changes it afterwards. */
export async function appendEvent(db: Queryable, event: NewEvent): Promise<EventRow> {
  const { rows } = await db.query<EventRow>({
    name: 'append_event',
    text: `insert into scaling_events (resource_id, decision_id, attempt_id, phase, outcome, action, previous_instances, new_instances, success,
        error_code, error_message, execution_time_ms, epoch, actor, request_id)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) returning ${eventColumns}`,
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

/** The successful event of a decision, if it has one. */
export async function findSuccessfulEvent(db: Queryable, decisionId: string): Promise<EventRow | null> {
  const { rows } = await db.query<EventRow>({
    name: 'find_successful_event',
    text: `select ${eventColumns} from scaling_events where decision_id = $1 and phase = 'outcome' and success`,
    values: [decisionId],
  });
  return rows[0] ?? null;
}
