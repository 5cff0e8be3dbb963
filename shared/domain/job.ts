import type { JobQueueName } from '../queues/queues.ts';

export const jobKinds = ['decide', 'execute', 'forecast', 'simulate', 'verify'] as const;
export type JobKind = (typeof jobKinds)[number];
export type JobStatus = 'queued' | 'active' | 'retrying' | 'completed' | 'failed';
export type JobOutcome = 'succeeded' | 'noop' | 'rejected' | 'expired' | 'superseded' | 'cancelled' | 'dead';

export interface JobError {
  readonly code: string;
  readonly message: string;
  readonly http_status: number;
  readonly context?: Readonly<Record<string, unknown>>;
}

/** A job as the API shows it. Times are ISO 8601. */
export interface JobRow {
  readonly id: string;
  readonly kind: JobKind;
  readonly queue: JobQueueName;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly status: JobStatus;
  readonly outcome: JobOutcome | null;
  readonly attempts: number;
  readonly result: Record<string, unknown> | null;
  readonly error: JobError | null;
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly available_at: string;
  readonly replay_of: string | null;
}
