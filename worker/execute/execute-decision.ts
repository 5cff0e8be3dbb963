import type pg from 'pg';
import { audit } from '../../shared/db/audit-store.ts';
import type { EventRow } from '../../shared/db/event-row.ts';
import { isDatabaseAway } from '../../shared/db/pool.ts';
import type { JobError } from '../../shared/domain/job.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import { errorMessage } from '../../shared/errors.ts';
import { ProviderError } from '../providers/provider-error.ts';
import type { CapacityState, ProviderTarget, ScalingProvider } from '../providers/scaling-provider.ts';
import type { ClaimedJob, JobCompletion } from '../queue/jobs-store.ts';
import { fullJitter } from '../resilience/backoff.ts';
import { holdsForAll } from '../resilience/call-policy.ts';
import { circuitAnswered, circuitFailed, passCircuit } from './circuits-store.ts';
import { findSuccessfulEvent } from './events-store.ts';
import {
  beginAttempt,
  type Closing,
  closeAttempt,
  type ExecutionView,
  finishSatisfied,
  finishWithoutAttempt,
  loadExecution,
  markUnknown,
  type OpenAttempt,
  recordObservation,
} from './execution-store.ts';

export interface ExecuteDeps {
  readonly pool: pg.Pool;
  readonly providers: ReadonlyMap<CloudProvider, ScalingProvider>;
  readonly workerId: string;
  /** Aborted when the worker shuts down: no new attempt begins after that. */
  readonly shutdown: AbortSignal;
  /** The operator's stop from the environment. */
  readonly stopped: boolean;
  readonly onUnclassified: (error: unknown) => void;
}

/** What the queue is to do with the job. `finished` is committed already. */
export type ExecuteOutcome =
  | { readonly kind: 'finished'; readonly completion: JobCompletion }
  | {
      readonly kind: 'postpone';
      readonly delayMs: number;
      readonly refund: boolean;
      readonly error: JobError;
    };

type BoundView = ExecutionView & { readonly resource: NonNullable<ExecutionView['resource']> };

/** A request that is not sent within this long after its intent is not sent at all. */
const sendDeadlineMs = 5_000;
/** Nor is one that relies on a look at the cloud from longer ago: AWS would take it whatever others have done since. */
const lookIsGoodMs = 10_000;
const writeTimeoutMs = 10_000;

/**
 * Carries a decision out, at most once: read the cloud, commit the intent, send one absolute write, record the outcome.
 * A run that finds an attempt of its own still open resolves that one first, by reading the cloud, and never writes blindly.
 */
export async function executeDecision(deps: ExecuteDeps, job: ClaimedJob): Promise<ExecuteOutcome> {
  const decisionId = job.decision_id as string;
  const view = await loadExecution(deps.pool, decisionId);
  if (view === null)
    return await reject(
      deps,
      job,
      null,
      null,
      'rejected',
      'decision_not_found',
      'There is no such decision: decide first.',
      404,
    );
  if (view.decision_type === 'noaction') {
    const completion = succeed(job, 'noop', {
      success: true,
      event: null,
      message: 'The decision was to change nothing, so nothing was done.',
    });
    return finished(await finishWithoutAttempt(deps.pool, completion, null), completion);
  }
  if (view.resource === null)
    return await reject(
      deps,
      job,
      view,
      'superseded',
      'superseded',
      'resource_not_found',
      'The resource was deleted.',
      404,
    );
  const bound = view as BoundView;
  // What can end without a look at the cloud must not take the one try that an open circuit allows.
  const over = bound.attempt === null ? await endWithoutCloud(deps, job, bound) : null;
  if (over !== null) return over;
  if (bound.circuit === 'open') {
    const waitMs = await passCircuit(deps.pool, cloudScope(bound.resource));
    if (waitMs !== null) return circuitOpen(waitMs, bound);
  }
  if (bound.attempt !== null) return await resolveAttempt(deps, job, bound, bound.attempt);
  return await attemptOnce(deps, job, bound);
}

/** The end of an execution that needs no look at the cloud; null for one that does. */
async function endWithoutCloud(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
): Promise<ExecuteOutcome | null> {
  if (view.decision_state === 'executed') return await repeatSuccess(deps, job, job.decision_id as string);
  if (view.expired || view.decision_state === 'expired') {
    return await reject(
      deps,
      job,
      view,
      'expired',
      'expired',
      'decision_expired',
      'The decision is too old to carry out: decide again.',
      409,
    );
  }
  if (view.decision_state === 'superseded' || view.decision_state === 'failed') {
    return await reject(
      deps,
      job,
      view,
      null,
      'superseded',
      `decision_${view.decision_state}`,
      `The decision is ${view.decision_state}: decide again.`,
      409,
    );
  }
  if (deps.shutdown.aborted)
    return postpone(0, true, 'worker_stopping', 'The worker is shutting down; another one takes over.');
  return null;
}

async function attemptOnce(deps: ExecuteDeps, job: ClaimedJob, view: BoundView): Promise<ExecuteOutcome> {
  const provider = deps.providers.get(view.resource.cloud_provider);
  if (provider === undefined)
    return postpone(
      1_000,
      true,
      'provider_missing',
      'This worker does not serve that provider; another one takes over.',
    );
  const target = targetOf(view);
  const lookedAt = performance.now();
  let state: CapacityState;
  try {
    state = await provider.describe(target, deps.shutdown);
  } catch (error) {
    const fault = classified(deps, error, 'unavailable');
    await countFault(deps, job, view, fault);
    return await afterFault(deps, job, view, fault);
  }
  await countAnswer(deps, job, view);
  await recordObservation(deps.pool, view.resource, state, deps.workerId);
  if (state.desired === view.target_instances) {
    const completion = await finishSatisfied(deps.pool, job, view, actorOf(deps, job), (event) =>
      succeed(job, 'succeeded', {
        success: true,
        event: presentEvent(event),
        message: 'The cloud had that size already.',
      }),
    );
    return completion === null ? lostClaim() : { kind: 'finished', completion };
  }
  if (state.desired !== view.from_instances) {
    const message = `The decision starts from ${view.from_instances}, but the cloud has ${state.desired}: somebody else changed it. Decide again.`;
    return await reject(deps, job, view, 'superseded', 'superseded', 'conflict', message, 409, {
      expected: view.from_instances,
      observed: state.desired,
    });
  }
  const direction = view.target_instances > view.from_instances ? 'up' : 'down';
  const block = state.blocks.find(
    (candidate) => candidate.direction === 'both' || candidate.direction === direction,
  );
  if (block !== undefined)
    return await reject(deps, job, view, null, 'rejected', block.code, block.message, 409);

  // From before the intent's commit: a process that is stopped while it waits for the answer has lost that time, too.
  const beganAt = performance.now();
  const begun = await beginAttempt(deps.pool, job, view, state, {
    settleMs: provider.settleMs,
    actor: actorOf(deps, job),
    stopped: deps.stopped,
  });
  if (begun.kind === 'busy')
    return postpone(
      fullJitter(1_000, 0) + 100,
      true,
      'resource_busy',
      'Another execution of this resource is running.',
    );
  if (begun.kind === 'circuit_open') return circuitOpen(1_000, view);
  if (begun.kind === 'refused') {
    const { code, message, context, lasting } = begun.refusal;
    return await reject(deps, job, view, null, lasting ?? 'rejected', code, message, 409, context);
  }
  return await send(deps, job, view, provider, target, state, begun.attempt, { lookedAt, beganAt });
}

async function send(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  provider: ScalingProvider,
  target: ProviderTarget,
  state: CapacityState,
  attempt: OpenAttempt,
  { lookedAt, beganAt }: { readonly lookedAt: number; readonly beganAt: number },
): Promise<ExecuteOutcome> {
  // Local durations only: a paused process must not trust what the clock said before it was paused.
  const now = performance.now();
  if (now - beganAt > sendDeadlineMs || now - lookedAt > lookIsGoodMs) {
    const late = new ProviderError(
      'pre_send',
      'send_deadline',
      'The worker was too slow to send the request; nothing was sent.',
    );
    return await closeFault(deps, job, view, attempt, late, beganAt);
  }
  try {
    // Shutting down does not abort a request under way: that would only make its outcome unknown.
    await provider.setCapacity(target, view.target_instances, state, {
      intentAtMs: attempt.intent_at_ms,
      signal: AbortSignal.timeout(writeTimeoutMs),
    });
  } catch (error) {
    return await closeFault(deps, job, view, attempt, classified(deps, error, 'unknown'), beganAt);
  }
  return await recordSuccess(deps, job, view, attempt, 'succeeded', performance.now() - beganAt);
}

async function recordSuccess(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  attempt: OpenAttempt,
  outcome: 'succeeded' | 'inferred',
  executionTimeMs: number,
  mayStillLand = false,
): Promise<ExecuteOutcome> {
  const closing: Closing = {
    attemptState: 'succeeded',
    outcome,
    mayStillLand,
    decisionState: 'executed',
    error: null,
    executionTimeMs,
    actor: actorOf(deps, job),
  };
  const completion = await persistently(() =>
    closeAttempt(deps.pool, job, view.resource.id, attempt, closing, (event) =>
      succeed(job, 'succeeded', { success: true, event: presentEvent(event) }),
    ),
  );
  return completion === null ? lostClaim() : { kind: 'finished', completion };
}

/** A write that failed: what is known about it decides what becomes of attempt, decision and job. */
async function closeFault(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  attempt: OpenAttempt,
  fault: ProviderError,
  beganAt: number,
): Promise<ExecuteOutcome> {
  const error = jobError(fault);
  await persistently(() => countFault(deps, job, view, fault));
  if (fault.fault === 'unknown') {
    await persistently(() =>
      markUnknown(deps.pool, view.resource.id, attempt, job, error, actorOf(deps, job)),
    );
    return {
      kind: 'postpone',
      delayMs: 500 + fullJitter(1_500, 0),
      refund: true,
      error: { ...error, code: 'outcome_unknown' },
    };
  }
  const final = fault.retry === 'never';
  const closing: Closing = {
    attemptState: final ? 'rejected' : 'not_applied',
    outcome: final ? 'rejected' : fault.fault,
    decisionState: final ? 'failed' : 'pending',
    error,
    executionTimeMs: performance.now() - beganAt,
    actor: actorOf(deps, job),
  };
  const completion = await persistently(() =>
    closeAttempt(
      deps.pool,
      job,
      view.resource.id,
      attempt,
      closing,
      final ? () => fail(job, 'rejected', error) : null,
    ),
  );
  if (completion !== null) return { kind: 'finished', completion };
  return final ? lostClaim() : await afterFault(deps, job, view, fault);
}

/** Nothing was applied: give up, or come back. */
async function afterFault(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  fault: ProviderError,
): Promise<ExecuteOutcome> {
  const error = jobError(fault);
  if (fault.retry === 'never') {
    const completion = fail(job, 'rejected', error);
    const ended = await finishWithoutAttempt(
      deps.pool,
      completion,
      job.decision_id === null ? null : { id: job.decision_id, state: 'failed' },
      { job, view, actor: actorOf(deps, job) },
    );
    return finished(ended, completion);
  }
  if (fault.retry === 'after') {
    // Throttling is nobody's fault: it costs no attempt, and the answer's own advice is jittered, as everyone got the same.
    const advised = fault.retryAfterMs ?? 1_000;
    return {
      kind: 'postpone',
      delayMs: advised + fullJitter(Math.min(30_000, 1_000 * 2 ** Math.min(job.dispatch_seq, 5)), 0),
      refund: true,
      error,
    };
  }
  if (job.attempts >= job.max_attempts) {
    const completion = fail(job, 'dead', {
      ...error,
      message: `${error.message} (given up after ${job.attempts} attempts; replay the job or decide again)`,
    });
    const ended = await finishWithoutAttempt(
      deps.pool,
      completion,
      job.decision_id === null ? null : { id: job.decision_id, state: 'failed' },
      { job, view, actor: actorOf(deps, job) },
    );
    return finished(ended, completion);
  }
  return {
    kind: 'postpone',
    delayMs: fault.fault === 'conflict' ? fullJitter(500, 0) : fullJitter(1_000, job.attempts),
    refund: false,
    error,
  };
}

/**
 * An attempt without an outcome, ours or a dead worker's. It sent at most one request, so what is there decides once that
 * request can no longer land: the target, whoever set it, is a success; the old size is a failure only if nobody can have
 * put it back; anything else is somebody else's. The target may be seen earlier; then the resource waits, not the job.
 */
async function resolveAttempt(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  attempt: OpenAttempt,
): Promise<ExecuteOutcome> {
  const provider = deps.providers.get(view.resource.cloud_provider);
  if (provider === undefined)
    return postpone(
      1_000,
      true,
      'provider_missing',
      'This worker does not serve that provider; another one takes over.',
    );
  let state: CapacityState;
  try {
    state = await provider.describe(targetOf(view), deps.shutdown);
  } catch (error) {
    const fault = classified(deps, error, 'unavailable');
    await countFault(deps, job, view, fault);
    if (fault.code !== 'target_not_found' || !attempt.settled) {
      return {
        kind: 'postpone',
        delayMs: 1_000 + fullJitter(2_000, 0),
        refund: true,
        error: { ...jobError(fault), code: 'outcome_unknown' },
      };
    }
    return await closeOver(
      deps,
      job,
      view,
      attempt,
      'target_not_found',
      'The cloud object is gone, so the outcome of the last write no longer matters.',
      null,
    );
  }
  await countAnswer(deps, job, view);
  const over = attempt.settled || hasMoved(attempt.fence, state.fence);
  if (state.desired === attempt.target_instances)
    return await recordSuccess(deps, job, view, attempt, 'inferred', attempt.age_ms, !over);
  if (!over) {
    // Another size than ours and the old one means an external writer; our request may still be on its way all the same.
    const message = `The outcome of the last write is not known yet: the cloud has ${state.desired}, ${attempt.target_instances} was asked for.`;
    return postpone(Math.min(10_000, 1_000 + attempt.age_ms / 4), true, 'outcome_unknown', message);
  }
  if (state.desired !== attempt.from_instances) {
    const message = `The cloud has ${state.desired}, neither the old size nor the one asked for: somebody else changed it. Decide again.`;
    return await closeOver(deps, job, view, attempt, 'conflict', message, state.desired);
  }
  if (!isUntouched(attempt.fence, state.fence)) {
    const message = `The answer to the write was lost, and the cloud has the old size of ${state.desired}: either the write never arrived, or somebody has put the old size back. Decide again.`;
    return await closeOver(deps, job, view, attempt, 'outcome_unproven', message, state.desired);
  }
  const closing: Closing = {
    attemptState: 'not_applied',
    outcome: 'not_applied',
    decisionState: view.expired ? 'expired' : 'pending',
    error: {
      code: 'not_applied',
      message:
        'The write was not applied: the cloud still has the old size and the request can no longer land.',
    },
    executionTimeMs: attempt.age_ms,
    actor: actorOf(deps, job),
    observed: state.desired,
  };
  const expired = {
    code: 'decision_expired',
    message: 'The write was not applied, and the decision is now too old to try again: decide again.',
    http_status: 409,
  };
  const completion = await closeAttempt(
    deps.pool,
    job,
    view.resource.id,
    attempt,
    closing,
    view.expired ? () => fail(job, 'expired', expired) : null,
  );
  if (completion !== null) return { kind: 'finished', completion };
  return postpone(fullJitter(500, 0), false, 'not_applied', 'The write was not applied; trying again.');
}

type Fence = CapacityState['fence'];

/** A write that was conditional on `then` can no longer land: the object is another one now, or has another version. */
function hasMoved(then: Fence, now: Fence): boolean {
  return then.resourceVersion !== undefined && then.resourceVersion !== now.resourceVersion;
}

/** Nobody, we included, has written the object's specification since. A cloud that does not count such writes proves nothing. */
function isUntouched(then: Fence, now: Fence): boolean {
  if (then.uid === undefined || then.uid !== now.uid) return false;
  return (
    then.resourceVersion === now.resourceVersion ||
    (then.generation !== undefined && then.generation === now.generation)
  );
}

async function closeOver(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  attempt: OpenAttempt,
  code: string,
  message: string,
  observed: number | null,
): Promise<ExecuteOutcome> {
  const error = { code, message, http_status: 409 };
  const closing: Closing = {
    attemptState: 'superseded',
    outcome: 'superseded',
    decisionState: 'superseded',
    error,
    executionTimeMs: attempt.age_ms,
    actor: actorOf(deps, job),
    ...(observed === null ? {} : { observed }),
  };
  const completion = await closeAttempt(deps.pool, job, view.resource.id, attempt, closing, () =>
    fail(job, 'superseded', error),
  );
  return completion === null ? lostClaim() : { kind: 'finished', completion };
}

async function repeatSuccess(
  deps: ExecuteDeps,
  job: ClaimedJob,
  decisionId: string,
): Promise<ExecuteOutcome> {
  const event = await findSuccessfulEvent(deps.pool, decisionId);
  const completion = succeed(job, 'succeeded', {
    success: true,
    event: event === null ? null : presentEvent(event),
    message: 'The decision had been carried out already.',
  });
  return finished(await finishWithoutAttempt(deps.pool, completion, null), completion);
}

async function reject(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: ExecutionView | null,
  decisionState: 'expired' | 'superseded' | null,
  outcome: 'rejected' | 'expired' | 'superseded',
  code: string,
  message: string,
  httpStatus: number,
  context?: Record<string, unknown>,
): Promise<ExecuteOutcome> {
  const completion = fail(job, outcome, {
    code,
    message,
    http_status: httpStatus,
    ...(context === undefined ? {} : { context }),
  });
  const ended = await finishWithoutAttempt(
    deps.pool,
    completion,
    decisionState === null ? null : { id: job.decision_id as string, state: decisionState },
    { job, view, actor: actorOf(deps, job) },
  );
  return finished(ended, completion);
}

function circuitOpen(waitMs: number, view: BoundView): ExecuteOutcome {
  const message = `Calls to ${cloudScope(view.resource)} are held for ${Math.ceil(waitMs / 1_000)} s after repeated failures; GET /protection tells which.`;
  return postpone(waitMs + fullJitter(1_000, 0), true, 'circuit_open', message);
}

/** Our own refusals to send, and calls not made at all, say nothing about the cloud. */
const notTheClouds: ReadonlySet<string> = new Set([
  'aborted',
  'fence_missing',
  'send_deadline',
  'circuit_open',
]);

/** An answer closes the circuit of its region or cluster. */
async function countAnswer(deps: ExecuteDeps, job: ClaimedJob, view: BoundView): Promise<void> {
  if (view.circuit === 'closed') return;
  const scope = cloudScope(view.resource);
  if (!(await circuitAnswered(deps.pool, scope)) || view.circuit !== 'open') return;
  await audit(deps.pool, {
    actor: deps.workerId,
    action: 'circuit.closed',
    subject: scope,
    request_id: job.request_id ?? job.id,
    remote_address: null,
  });
}

/** What failed for the region or cluster as a whole counts towards its circuit, for all workers. */
async function countFault(
  deps: ExecuteDeps,
  job: ClaimedJob,
  view: BoundView,
  fault: ProviderError,
): Promise<void> {
  const counts = new Set(['identity', 'unknown', 'unavailable', 'pre_send']).has(fault.fault);
  if (!counts || notTheClouds.has(fault.code) || fault.code === 'target_not_found') return;
  const scope = cloudScope(view.resource);
  const opened = await circuitFailed(deps.pool, scope, {
    code: fault.code,
    message: fault.message,
    holdsForAll: holdsForAll(fault),
  });
  if (opened === null) return;
  await audit(deps.pool, {
    actor: deps.workerId,
    action: 'circuit.opened',
    subject: scope,
    request_id: job.request_id ?? job.id,
    remote_address: null,
    detail: { code: fault.code, message: fault.message, until: opened.open_until },
  });
}

/** The outcome of a write is worth some patience: PostgreSQL gets five tries before the lease has to speak for us. */
async function persistently<T>(write: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await write();
    } catch (error) {
      if (attempt >= 4 || !isDatabaseAway(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** attempt));
    }
  }
}

function classified(deps: ExecuteDeps, error: unknown, otherwise: 'unknown' | 'unavailable'): ProviderError {
  if (error instanceof ProviderError) return error;
  deps.onUnclassified(error);
  return new ProviderError(otherwise, 'unclassified', errorMessage(error), { cause: error });
}

function targetOf(view: BoundView): ProviderTarget {
  const { cloud_provider, region, cluster, name, actuation } = view.resource;
  return { provider: cloud_provider, scope: cloud_provider === 'aws' ? region : cluster, name, actuation };
}

function actorOf(deps: ExecuteDeps, job: ClaimedJob): string {
  return job.actor_key_id ?? deps.workerId;
}

function jobError(error: ProviderError): JobError {
  return { code: error.code, message: error.message, http_status: error.httpStatus, context: error.context };
}

function succeed(
  job: ClaimedJob,
  outcome: 'succeeded' | 'noop',
  result: Record<string, unknown>,
): JobCompletion {
  return { id: job.id, fence: job.fence, status: 'completed', outcome, result, error: null };
}

function fail(
  job: ClaimedJob,
  outcome: 'rejected' | 'expired' | 'superseded' | 'dead',
  error: JobError,
): JobCompletion {
  return { id: job.id, fence: job.fence, status: 'failed', outcome, result: null, error };
}

function postpone(delayMs: number, refund: boolean, code: string, message: string): ExecuteOutcome {
  return { kind: 'postpone', delayMs, refund, error: { code, message, http_status: 503 } };
}

function finished(ended: boolean, completion: JobCompletion): ExecuteOutcome {
  return ended ? { kind: 'finished', completion } : lostClaim();
}

/** Somebody resolved our attempt while we were away; the job looks again and finds what they recorded. */
function lostClaim(): ExecuteOutcome {
  return postpone(100, true, 'resolved_elsewhere', 'Another worker resolved this attempt.');
}

/** The event in the platform's shape. */
export function presentEvent(event: EventRow): Record<string, unknown> {
  const {
    id,
    resource_id,
    decision_id,
    action,
    previous_instances,
    new_instances,
    success,
    error_message,
    execution_time_ms,
    created_at,
  } = event;
  return {
    id,
    resource_id,
    decision_id,
    action,
    previous_instances,
    new_instances,
    success,
    error_message,
    execution_time_ms,
    created_at,
  };
}
