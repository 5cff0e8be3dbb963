import type { JobError } from '../../shared/domain/job.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import type { Refusal } from '../engine/guards.ts';
import { ProviderError } from '../providers/provider-error.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import type { Attempt, Began, BoundView, Known, OpenCircuit, Settlement, Step } from './types.ts';

/**
 * The protocol of an execution, as a pure function: `nextStep(what is known) → step`. `perform.ts` carries the step
 * out, adds what it found to what is known, and asks again. The rules are the tables at the end; the first that fits
 * counts.
 */

/** A request that is not sent within this long after its intent is not sent at all. */
const sendDeadlineMs = 5_000;
/** Nor is one that rests on an older look: AWS would take it whatever others have done since. */
const lookLifetimeMs = 10_000;

/** @returns what is to be done next. Reads no clock and draws no random number. */
export function nextStep(known: Known): Step {
  const { view } = known;
  if (view === null)
    return refuse(
      'rejected',
      null,
      notFound('decision_not_found', 'There is no such decision: decide first.'),
    );
  if (view.decision_type === 'noaction') {
    const message = 'The decision was to change nothing, so nothing was done.';
    return { kind: 'finish', ending: { outcome: 'noop', message }, decisionState: null };
  }
  if (view.resource === null)
    return refuse('superseded', 'superseded', notFound('resource_not_found', 'The resource was deleted.'));
  const facts = { ...known, view: view as BoundView };
  for (const rule of tableFor(facts)) {
    const step = rule(facts);
    if (step !== null) return step;
  }
  throw new Error('the execution protocol has no rule for what is known');
}

type Facts = Known & { readonly view: BoundView };
type Rule = (facts: Facts) => Step | null;

function tableFor({ look, begin, send, view }: Facts): readonly Rule[] {
  if (look === undefined) return beforeLook;
  if (view.attempt !== null) return resolving;
  if (begin === undefined) return beginning;
  if (send === undefined) return sending;
  return settling;
}

/** What can end without a look at the cloud must not take the one try that an open circuit allows. */
const beforeLook: readonly Rule[] = [
  whenNoAttempt(({ view }) => (view.decision_state === 'executed' ? { kind: 'repeat_success' } : null)),
  whenNoAttempt(({ view }) =>
    view.expired || view.decision_state === 'expired'
      ? refuse(
          'expired',
          'expired',
          conflict('decision_expired', 'The decision is too old to carry out: decide again.'),
        )
      : null,
  ),
  whenNoAttempt(({ view: { decision_state: state } }) =>
    state === 'superseded' || state === 'failed'
      ? refuse('superseded', null, conflict(`decision_${state}`, `The decision is ${state}: decide again.`))
      : null,
  ),
  whenNoAttempt(({ stopping }) =>
    stopping
      ? postpone(unavailable('worker_stopping', 'The worker is shutting down; another one takes over.'), 0)
      : null,
  ),
  ({ view, circuit }) => (view.circuit === 'open' && circuit === undefined ? { kind: 'circuit' } : null),
  ({ view, circuit }) => (circuit == null ? null : circuitOpen(view, circuit)),
  ({ served }) =>
    served
      ? null
      : postpone(
          unavailable(
            'provider_missing',
            'This worker does not serve that provider; another one takes over.',
          ),
          1_000,
        ),
  () => ({ kind: 'look' }),
];

/** No attempt is open, and the cloud was read. */
const beginning: readonly Rule[] = [
  (facts) => (facts.look instanceof ProviderError ? afterFault(facts, facts.look) : null),
  (facts) => (stateOf(facts).desired === facts.view.target_instances ? { kind: 'finish_satisfied' } : null),
  (facts) => {
    const { from_instances: expected } = facts.view;
    const { desired: observed } = stateOf(facts);
    if (observed === expected) return null;
    const message = `The decision starts from ${expected}, but the cloud has ${observed}: somebody else changed it. Decide again.`;
    const error = conflict('conflict', message, { expected, observed });
    return refuse('superseded', 'superseded', error);
  },
  (facts) => {
    const direction = facts.view.target_instances > facts.view.from_instances ? 'up' : 'down';
    const block = stateOf(facts).blocks.find(
      (one) => one.direction === 'both' || one.direction === direction,
    );
    if (block === undefined) return null;
    return refuse('rejected', null, conflict(block.code, block.message));
  },
  (facts) => {
    const { from_instances: from, target_instances: target } = facts.view;
    const { removable } = stateOf(facts);
    if (removable === undefined || from - target <= removable) return null;
    const message = `Only ${removable} of ${from} can go, the others are protected from scale-in or in standby: decide again.`;
    return refuse('rejected', null, conflict('protected_instances', message, { removable }));
  },
  (facts) => ({ kind: 'begin', state: stateOf(facts) }),
];

/** The guards were asked, and the intent is committed unless one of them refused. */
const sending: readonly Rule[] = [
  ({ begin, view }) => (begin !== undefined && 'refusal' in begin ? afterRefusal(view, begin.refusal) : null),
  (facts) => {
    const { attempt, sinceBeginMs, sinceLookMs } = facts.begin as Began;
    if (sinceBeginMs <= sendDeadlineMs && sinceLookMs <= lookLifetimeMs) return null;
    const message = 'The worker was too slow to send the request; nothing was sent.';
    return settleFault(facts, attempt, new ProviderError('pre_send', 'send_deadline', message), sinceBeginMs);
  },
  (facts) => ({ kind: 'send', attempt: (facts.begin as Began).attempt, state: stateOf(facts) }),
];

/** The request was sent, and answered, or not. */
const settling: readonly Rule[] = [
  ({ begin, send }) => {
    if (send === undefined || send.fault !== null) return null;
    const { attempt } = begin as Began;
    return { kind: 'settle', attempt, settlement: succeeded('succeeded', send.tookMs) };
  },
  ({ begin, send, settle }) => {
    if (send?.fault?.fault !== 'unknown') return null;
    const error = errorOf(send.fault);
    if (settle === undefined) return { kind: 'mark_unknown', attempt: (begin as Began).attempt, error };
    return {
      kind: 'postpone',
      delay: { atLeastMs: 500, jitterMs: 1_500, retries: 0 },
      refund: true,
      error: { ...error, code: 'outcome_unknown' },
    };
  },
  (facts) => {
    const { fault, tookMs } = facts.send as NonNullable<Known['send']>;
    return settleFault(facts, (facts.begin as Began).attempt, fault as ProviderError, tookMs);
  },
];

/**
 * An attempt without an outcome, this worker's or a dead one's. It sent at most one request, so what is there decides
 * once that request can no longer arrive: the target, whoever set it, is a success; the old size is a failure only if
 * nobody can have put it back; anything else is somebody else's. The target may be seen earlier; then the resource
 * waits, not the job.
 */
const resolving: readonly Rule[] = [
  (facts) => {
    const { look, view } = facts;
    if (!(look instanceof ProviderError)) return null;
    const attempt = view.attempt as Attempt;
    if (look.code === 'target_not_found' && attempt.settled) {
      const message = 'The cloud object is gone, so the outcome of the last write no longer matters.';
      return { kind: 'settle', attempt, settlement: overtaken(attempt, 'target_not_found', message) };
    }
    return {
      kind: 'postpone',
      delay: { atLeastMs: 1_000, jitterMs: 2_000, retries: 0 },
      refund: true,
      error: { ...errorOf(look), code: 'outcome_unknown' },
    };
  },
  resolve((_, { attempt, desired, mayStillArrive }) =>
    desired === attempt.target_instances
      ? {
          kind: 'settle',
          attempt,
          settlement: { ...succeeded('inferred', attempt.age_ms), mayStillArrive },
        }
      : null,
  ),
  // Another size than ours and the old one is somebody else's; our request may still be on its way all the same.
  resolve((_, { attempt, desired, mayStillArrive }) =>
    mayStillArrive
      ? postpone(
          unavailable(
            'outcome_unknown',
            `The outcome of the last write is not known yet: the cloud has ${desired}, ${attempt.target_instances} was asked for.`,
          ),
          Math.min(10_000, 1_000 + attempt.age_ms / 4),
        )
      : null,
  ),
  resolve((_, { attempt, desired }) => {
    if (desired === attempt.from_instances) return null;
    const message = `The cloud has ${desired}, neither the old size nor the one asked for: somebody else changed it. Decide again.`;
    return { kind: 'settle', attempt, settlement: overtaken(attempt, 'conflict', message, desired) };
  }),
  resolve((facts, { attempt, desired }) => {
    if (isUntouched(attempt.fence, stateOf(facts).fence)) return null;
    const message = `The answer to the write was lost, and the cloud has the old size of ${desired}: either the write never arrived, or somebody has put the old size back. Decide again.`;
    return { kind: 'settle', attempt, settlement: overtaken(attempt, 'outcome_unproven', message, desired) };
  }),
  resolve((facts, { attempt, desired }) =>
    facts.settle === undefined
      ? { kind: 'settle', attempt, settlement: notApplied(attempt, desired, facts.view.expired) }
      : {
          kind: 'postpone',
          delay: { atLeastMs: 0, jitterMs: 500, retries: 0 },
          refund: false,
          error: unavailable('not_applied', 'The write was not applied; trying again.'),
        },
  ),
];

function whenNoAttempt(rule: Rule): Rule {
  return (facts) => (facts.view.attempt === null ? rule(facts) : null);
}

function resolve(
  rule: (
    facts: Facts,
    seen: { readonly attempt: Attempt; readonly desired: number; readonly mayStillArrive: boolean },
  ) => Step | null,
): Rule {
  return (facts) => {
    const attempt = facts.view.attempt as Attempt;
    const { desired, fence } = stateOf(facts);
    return rule(facts, {
      attempt,
      desired,
      mayStillArrive: !attempt.settled && !hasMoved(attempt.fence, fence),
    });
  };
}

function stateOf(facts: Facts): CapacityState {
  return facts.look as CapacityState;
}

type Fence = CapacityState['fence'];

/** A write that was conditional on `then` can no longer arrive: the object is another, or has another version. */
function hasMoved(then: Fence, now: Fence): boolean {
  return then.resourceVersion !== undefined && then.resourceVersion !== now.resourceVersion;
}

/** Nobody, this service included, has written the specification since. A cloud that counts no writes proves nothing. */
function isUntouched(then: Fence, now: Fence): boolean {
  if (then.uid === undefined || then.uid !== now.uid) return false;
  return (
    then.resourceVersion === now.resourceVersion ||
    (then.generation !== undefined && then.generation === now.generation)
  );
}

/** A write that was refused, or never left: the attempt is over; the job only when another try would be no use. */
function settleFault(facts: Facts, attempt: Attempt, fault: ProviderError, tookMs: number): Step {
  if (facts.settle !== undefined) return afterFault(facts, fault);
  const final = fault.retry === 'never';
  const error = errorOf(fault);
  return {
    kind: 'settle',
    attempt,
    settlement: {
      attemptState: final ? 'rejected' : 'not_applied',
      outcome: final ? 'rejected' : fault.fault,
      decisionState: final ? 'failed' : 'pending',
      error,
      executionTimeMs: tookMs,
      ending: final ? { outcome: 'rejected', error } : null,
    },
  };
}

/** Nothing was applied: give up, or come back. */
function afterFault({ job }: Facts, fault: ProviderError): Step {
  const error = errorOf(fault);
  if (fault.retry === 'never')
    return { kind: 'finish', ending: { outcome: 'rejected', error }, decisionState: 'failed' };
  if (fault.retry === 'after') {
    // Throttling costs no attempt. The cloud gives all callers the same advice, so it is jittered.
    return postpone(error, fault.retryAfterMs ?? 1_000, growingJitterMs(job));
  }
  // An outage ends nothing: until the decision expires there is time for it to pass.
  if (fault.fault === 'pre_send' || fault.fault === 'unavailable')
    return postpone(error, 0, growingJitterMs(job));
  if (job.attempts >= job.max_attempts) {
    const message = `${error.message} (given up after ${job.attempts} attempts; replay the job or decide again)`;
    return {
      kind: 'finish',
      ending: { outcome: 'dead', error: { ...error, message } },
      decisionState: 'failed',
    };
  }
  const delay =
    fault.fault === 'conflict'
      ? { atLeastMs: 0, jitterMs: 500, retries: 0 }
      : { atLeastMs: 0, jitterMs: 1_000, retries: job.attempts };
  return { kind: 'postpone', delay, refund: false, error };
}

/** Full jitter that doubles with each run, up to half a minute. */
function growingJitterMs({ dispatch_seq }: Facts['job']): number {
  return Math.min(30_000, 1_000 * 2 ** Math.min(dispatch_seq, 5));
}

function afterRefusal(view: BoundView, { code, message, context, effect }: Refusal): Step {
  if (code === 'circuit_open' && effect === 'wait') return circuitOpen(view, { waitMs: 1_000, cause: null });
  if (effect === 'wait') return postpone(unavailable(code, message), 100, 1_000);
  const ended = { expire: 'expired', supersede: 'superseded' } as const;
  const state = effect === undefined ? null : ended[effect];
  return refuse(state ?? 'rejected', state, conflict(code, message, context));
}

function succeeded(outcome: 'succeeded' | 'inferred', executionTimeMs: number): Settlement {
  return {
    attemptState: 'succeeded',
    outcome,
    decisionState: 'executed',
    error: null,
    executionTimeMs,
    ending: { outcome: 'succeeded' },
  };
}

function overtaken(attempt: Attempt, code: string, message: string, observed?: number): Settlement {
  const error = conflict(code, message);
  return {
    attemptState: 'superseded',
    outcome: 'superseded',
    decisionState: 'superseded',
    error,
    executionTimeMs: attempt.age_ms,
    ...(observed === undefined ? {} : { observed }),
    ending: { outcome: 'superseded', error },
  };
}

function notApplied(attempt: Attempt, observed: number, expired: boolean): Settlement {
  const message =
    'The write was not applied: the cloud still has the old size and the request can no longer land.';
  const tooOld = 'The write was not applied, and the decision is now too old to try again: decide again.';
  return {
    attemptState: 'not_applied',
    outcome: 'not_applied',
    decisionState: expired ? 'expired' : 'pending',
    error: { code: 'not_applied', message },
    executionTimeMs: attempt.age_ms,
    observed,
    ending: expired ? { outcome: 'expired', error: conflict('decision_expired', tooOld) } : null,
  };
}

function refuse(
  outcome: 'rejected' | 'expired' | 'superseded',
  decisionState: 'expired' | 'superseded' | null,
  error: JobError,
): Step {
  return { kind: 'finish', ending: { outcome, error }, decisionState };
}

/** Something outside this execution has to change first: the run does not count. */
function postpone(error: JobError, atLeastMs: number, jitterMs = 0): Step {
  return { kind: 'postpone', delay: { atLeastMs, jitterMs, retries: 0 }, refund: true, error };
}

function circuitOpen({ resource }: BoundView, { waitMs, cause }: OpenCircuit): Step {
  const message = `Calls to ${cloudScope(resource)} are held for ${Math.ceil(waitMs / 1_000)} s after repeated failures; GET /protection tells which.`;
  const error = unavailable('circuit_open', message);
  return postpone(cause === null ? error : { ...error, context: { cause } }, waitMs, 1_000);
}

function errorOf({ code, message, httpStatus, context }: ProviderError): JobError {
  return { code, message, http_status: httpStatus, context };
}

const notFound = (code: string, message: string): JobError => ({ code, message, http_status: 404 });

const conflict = (code: string, message: string, context?: Record<string, unknown>): JobError => ({
  code,
  message,
  http_status: 409,
  ...(context === undefined ? {} : { context }),
});

const unavailable = (code: string, message: string): JobError => ({ code, message, http_status: 503 });
