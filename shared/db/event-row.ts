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

export const eventColumns = `id, resource_id, decision_id, action, previous_instances, new_instances, success, error_message, execution_time_ms,
  to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as created_at, phase, outcome, error_code, actor, seq::double precision as seq`;
