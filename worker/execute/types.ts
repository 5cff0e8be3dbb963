import type { JobError, JobOutcome } from '../../shared/domain/job.ts';
import type { Refusal } from '../engine/guards.ts';
import type { ProviderError } from '../providers/provider-error.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import type { ClaimedJob } from '../queue/jobs-store.ts';

/** A decision, its resource, and an attempt of it whose outcome is open, as PostgreSQL has them. */
export interface ExecutionView {
  readonly decision_state:
    | 'none'
    | 'pending'
    | 'executing'
    | 'executed'
    | 'failed'
    | 'expired'
    | 'superseded';
  readonly decision_type: 'scaleup' | 'scaledown' | 'noaction';
  readonly from_instances: number;
  readonly target_instances: number;
  readonly expired: boolean;
  /** Null when it was deleted. */
  readonly resource: ExecutionResource | null;
  readonly attempt: Attempt | null;
  /** Of the resource's region or cluster, shared by all workers. */
  readonly circuit: 'closed' | 'failing' | 'open';
}

export interface ExecutionResource {
  readonly id: string;
  readonly name: string;
  readonly cloud_provider: 'aws' | 'kubernetes';
  readonly region: string | null;
  readonly cluster: string | null;
  readonly actuation: 'desired' | 'floor';
  readonly epoch: string;
}

export type BoundView = ExecutionView & { readonly resource: ExecutionResource };

/** An intent that was committed. It stands for one request at most. */
export interface Attempt {
  readonly id: string;
  readonly epoch: string;
  readonly action: 'ScaleUp' | 'ScaleDown';
  readonly from_instances: number;
  readonly target_instances: number;
  /** So old that its request can no longer arrive. */
  readonly settled: boolean;
  readonly intent_at_ms: number;
  readonly age_ms: number;
  /** What the write was conditional on; empty where the cloud has no such thing. */
  readonly fence: CapacityState['fence'];
}

/** What one run knows so far. Each optional field is the result of the step of the same name. */
export interface Known {
  readonly job: { readonly attempts: number; readonly max_attempts: number; readonly dispatch_seq: number };
  /** Null when there is no such decision. */
  readonly view: ExecutionView | null;
  /** The worker is shutting down. */
  readonly stopping: boolean;
  /** This worker has an adapter for the resource's cloud. */
  readonly served: boolean;
  /** The circuit that is open; null when this run may try the cloud. */
  readonly circuit?: OpenCircuit | null;
  readonly look?: CapacityState | ProviderError;
  readonly begin?: Began | { readonly refusal: Refusal };
  /** `fault` is null when the cloud took the write. */
  readonly send?: { readonly fault: ProviderError | null; readonly tookMs: number };
  /** The attempt's outcome, or that it is unknown, has been committed. */
  readonly settle?: true;
}

export interface OpenCircuit {
  readonly waitMs: number;
  /** What failed last, where that is known. */
  readonly cause: string | null;
}

export interface Began {
  readonly attempt: Attempt;
  /** By the monotonic clock, just before the request would be sent. */
  readonly sinceBeginMs: number;
  readonly sinceLookMs: number;
}

/** How a job ends. */
export type Ending =
  | { readonly outcome: 'succeeded' | 'noop'; readonly message?: string }
  | { readonly outcome: Exclude<JobOutcome, 'succeeded' | 'noop'>; readonly error: JobError };

/** What becomes of an attempt and its decision. */
export interface Settlement {
  readonly attemptState: 'succeeded' | 'not_applied' | 'rejected' | 'superseded';
  readonly outcome: string;
  readonly decisionState: 'executed' | 'pending' | 'failed' | 'superseded' | 'expired';
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly executionTimeMs: number;
  /** What the cloud said last, when it is known. */
  readonly observed?: number;
  /** A success that was seen, not answered: the request itself may be on its way until the attempt is settled. */
  readonly mayStillArrive?: boolean;
  /** The end of the job; null when it goes on. */
  readonly ending: Ending | null;
}

/** `atLeastMs`, and full jitter with exponential backoff on top: up to `jitterMs * 2 ** retries`. */
export interface Delay {
  readonly atLeastMs: number;
  readonly jitterMs: number;
  readonly retries: number;
}

export type Step =
  /** Ask whether this run is the one that may try a cloud whose circuit is open. */
  | { readonly kind: 'circuit' }
  /** Read the cloud. */
  | { readonly kind: 'look' }
  /** Ask the guards under locks, and commit the intent. */
  | { readonly kind: 'begin'; readonly state: CapacityState }
  /** The one request. */
  | { readonly kind: 'send'; readonly attempt: Attempt; readonly state: CapacityState }
  /** Commit the outcome of the attempt. */
  | { readonly kind: 'settle'; readonly attempt: Attempt; readonly settlement: Settlement }
  /** Commit that the outcome is unknown. */
  | { readonly kind: 'mark_unknown'; readonly attempt: Attempt; readonly error: JobError }
  /** End the job, which has no attempt open. */
  | {
      readonly kind: 'finish';
      readonly ending: Ending;
      readonly decisionState: 'failed' | 'expired' | 'superseded' | null;
    }
  /** End the job: the cloud has the wanted size already, and not through us. */
  | { readonly kind: 'finish_satisfied' }
  /** End the job with the success of an earlier one. */
  | { readonly kind: 'repeat_success' }
  /** Give the job back for later. `refund`: this run does not count as one of the job's attempts. */
  | { readonly kind: 'postpone'; readonly delay: Delay; readonly refund: boolean; readonly error: JobError };

/** A claimed job of the execute queue with what it is about. */
export interface Execution {
  readonly job: ClaimedJob;
  readonly view: ExecutionView | null;
  /** Who asked: an API key, or this worker for what nobody asked for. */
  readonly actor: string;
}

export type BoundExecution = Execution & { readonly view: BoundView };
