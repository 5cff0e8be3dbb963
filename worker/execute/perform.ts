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
import { beginAttempt, markUnknown, settleAttempt } from './attempts-store.ts';
import { circuitAnswered, circuitFailed, passCircuit } from './circuits-store.ts';
import { findSuccessfulEvent } from './events-store.ts';
import {
  finishSatisfied,
  finishWithoutAttempt,
  loadExecution,
  recordObservation,
} from './execution-store.ts';
import { nextStep } from './protocol.ts';
import type { Began, BoundExecution, Ending, Execution, Known, Step } from './types.ts';

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

const writeTimeoutMs = 10_000;

/**
 * Carries a decision out, at most once, as `nextStep` has it: read the cloud, commit the intent, send one absolute
 * write, record the outcome. A run that finds an attempt open resolves that one first by reading the cloud; it never
 * writes blindly.
 * @throws when PostgreSQL is away: the lease runs out, and another run takes over from what is committed.
 */
export async function executeDecision(deps: ExecuteDeps, job: ClaimedJob): Promise<ExecuteOutcome> {
  const view = await loadExecution(deps.pool, job.decision_id as string);
  const execution: Execution = { job, view, actor: job.actor_key_id ?? deps.workerId };
  const provider = view?.resource ? deps.providers.get(view.resource.cloud_provider) : undefined;
  const run = new Run(deps, execution, provider);
  let known: Known = { job, view, stopping: deps.shutdown.aborted, served: provider !== undefined };
  for (;;) {
    const done = await run.perform(nextStep(known));
    if ('kind' in done) return done;
    known = { ...known, ...done };
  }
}

/** Carries single steps out. Measures time by the monotonic clock: a paused process must not trust an earlier look. */
class Run {
  readonly #deps: ExecuteDeps;
  readonly #execution: Execution;
  readonly #adapter: ScalingProvider | undefined;
  #lookedAt = 0;
  #beganAt = 0;

  constructor(deps: ExecuteDeps, execution: Execution, adapter: ScalingProvider | undefined) {
    this.#deps = deps;
    this.#execution = execution;
    this.#adapter = adapter;
  }

  /** @returns what was found out, or what the queue is to do with the job. */
  async perform(step: Step): Promise<Partial<Known> | ExecuteOutcome> {
    const { pool } = this.#deps;
    switch (step.kind) {
      case 'circuit':
        return { circuit: await passCircuit(pool, cloudScope(this.#bound.view.resource)) };
      case 'look':
        return { look: await this.#look() };
      case 'begin':
        return { begin: await this.#begin(step.state) };
      case 'send':
        return { send: await this.#send(step) };
      case 'settle':
        return await this.#settle(step);
      case 'mark_unknown':
        await persistently(() => markUnknown(pool, this.#bound, step.attempt, step.error));
        return { settle: true };
      case 'finish': {
        const completion = completionOf(this.#execution.job, step.ending, null);
        const ended = await finishWithoutAttempt(pool, this.#execution, completion, step.decisionState);
        return ended ? { kind: 'finished', completion } : lostClaim();
      }
      case 'finish_satisfied': {
        const message = 'The cloud had that size already.';
        const completion = await finishSatisfied(pool, this.#bound, (event) =>
          completionOf(this.#execution.job, { outcome: 'succeeded', message }, event),
        );
        return completion === null ? lostClaim() : { kind: 'finished', completion };
      }
      case 'repeat_success': {
        const { job } = this.#execution;
        const event = await findSuccessfulEvent(pool, job.decision_id as string);
        const message = 'The decision had been carried out already.';
        const completion = completionOf(job, { outcome: 'succeeded', message }, event);
        const ended = await finishWithoutAttempt(pool, this.#execution, completion, null);
        return ended ? { kind: 'finished', completion } : lostClaim();
      }
      case 'postpone': {
        const { atLeastMs, jitterMs, retries } = step.delay;
        const delayMs = atLeastMs + fullJitter(jitterMs, retries);
        return { kind: 'postpone', delayMs, refund: step.refund, error: step.error };
      }
    }
  }

  get #bound(): BoundExecution {
    return this.#execution as BoundExecution;
  }

  get #provider(): ScalingProvider {
    return this.#adapter as ScalingProvider;
  }

  get #target(): ProviderTarget {
    const { cloud_provider, region, cluster, name, actuation } = this.#bound.view.resource;
    return { provider: cloud_provider, scope: cloud_provider === 'aws' ? region : cluster, name, actuation };
  }

  async #look(): Promise<CapacityState | ProviderError> {
    const { pool, shutdown, workerId } = this.#deps;
    this.#lookedAt = performance.now();
    let state: CapacityState;
    try {
      state = await this.#provider.describe(this.#target, shutdown);
    } catch (error) {
      const fault = this.#classify(error, 'unavailable');
      await this.#countFault(fault);
      return fault;
    }
    await this.#countAnswer();
    if (this.#bound.view.attempt === null)
      await recordObservation(pool, this.#bound.view.resource, state, workerId);
    return state;
  }

  async #begin(state: CapacityState): Promise<NonNullable<Known['begin']>> {
    // From before the commit: a process that is paused while it waits for the answer has lost that time, too.
    this.#beganAt = performance.now();
    const { pool, stopped } = this.#deps;
    const began = await beginAttempt(pool, this.#bound, state, {
      settleMs: this.#provider.settleMs,
      stopped,
    });
    if ('refusal' in began) return began;
    const now = performance.now();
    return { ...began, sinceBeginMs: now - this.#beganAt, sinceLookMs: now - this.#lookedAt } satisfies Began;
  }

  async #send({ attempt, state }: Extract<Step, { kind: 'send' }>): Promise<NonNullable<Known['send']>> {
    try {
      // Shutting down does not abort a request under way: that would only make its outcome unknown.
      await this.#provider.setCapacity(this.#target, attempt.target_instances, state, {
        intentAtMs: attempt.intent_at_ms,
        signal: AbortSignal.timeout(writeTimeoutMs),
      });
      return { fault: null, tookMs: performance.now() - this.#beganAt };
    } catch (error) {
      const fault = this.#classify(error, 'unknown');
      await persistently(() => this.#countFault(fault));
      return { fault, tookMs: performance.now() - this.#beganAt };
    }
  }

  async #settle(step: Extract<Step, { kind: 'settle' }>): Promise<Partial<Known> | ExecuteOutcome> {
    const { job } = this.#execution;
    const { ending } = step.settlement;
    const complete = ending === null ? null : (event: EventRow) => completionOf(job, ending, event);
    const completion = await persistently(() => settleAttempt(this.#deps.pool, this.#bound, step, complete));
    if (completion !== null) return { kind: 'finished', completion };
    return ending === null ? { settle: true } : lostClaim();
  }

  #classify(error: unknown, otherwise: 'unknown' | 'unavailable'): ProviderError {
    if (error instanceof ProviderError) return error;
    this.#deps.onUnclassified(error);
    return new ProviderError(otherwise, 'unclassified', errorMessage(error), { cause: error });
  }

  /** An answer closes the circuit of its region or cluster. */
  async #countAnswer(): Promise<void> {
    const { view } = this.#bound;
    if (view.circuit === 'closed') return;
    const closed = await circuitAnswered(this.#deps.pool, cloudScope(view.resource));
    if (closed && view.circuit === 'open') await this.#auditCircuit('circuit.closed');
  }

  /** What failed for the region or cluster as a whole counts towards its circuit, for all workers. */
  async #countFault(fault: ProviderError): Promise<void> {
    if (!countsForCircuit(fault)) return;
    const { code, message } = fault;
    const opened = await circuitFailed(this.#deps.pool, cloudScope(this.#bound.view.resource), {
      code,
      message,
      holdsForAll: holdsForAll(fault),
    });
    if (opened !== null)
      await this.#auditCircuit('circuit.opened', { code, message, until: opened.open_until });
  }

  async #auditCircuit(action: string, detail?: Record<string, unknown>): Promise<void> {
    const { job, view } = this.#bound;
    await audit(this.#deps.pool, {
      actor: this.#deps.workerId,
      action,
      subject: cloudScope(view.resource),
      request_id: job.request_id ?? job.id,
      remote_address: null,
      ...(detail === undefined ? {} : { detail }),
    });
  }
}

/** What the service refused to send, or did not call at all, says nothing about the cloud. */
const saysNothingOfTheCloud: ReadonlySet<string> = new Set([
  'aborted',
  'fence_missing',
  'circuit_open',
  'target_not_found',
]);
const circuitFaults: ReadonlySet<string> = new Set(['identity', 'unknown', 'unavailable', 'pre_send']);

function countsForCircuit({ fault, code }: ProviderError): boolean {
  return circuitFaults.has(fault) && !saysNothingOfTheCloud.has(code);
}

/** What follows a write is worth some patience: PostgreSQL gets five tries; after that the lease runs out. */
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

function completionOf({ id, fence }: ClaimedJob, ending: Ending, event: EventRow | null): JobCompletion {
  if ('error' in ending)
    return { id, fence, status: 'failed', outcome: ending.outcome, result: null, error: ending.error };
  const { outcome, message } = ending;
  const result = {
    success: true,
    event: event === null ? null : presentEvent(event),
    ...(message === undefined ? {} : { message }),
  };
  return { id, fence, status: 'completed', outcome, result, error: null };
}

/** Another worker resolved the attempt while this one was away; the job looks again and finds what was recorded. */
function lostClaim(): ExecuteOutcome {
  const message = 'Another worker resolved this attempt.';
  const error = { code: 'resolved_elsewhere', message, http_status: 503 };
  return { kind: 'postpone', delayMs: 100, refund: true, error };
}

/** The event in the platform's shape. */
function presentEvent(event: EventRow): Record<string, unknown> {
  const { id, resource_id, decision_id, action, previous_instances, new_instances } = event;
  const { success, error_message, execution_time_ms, created_at } = event;
  return {
    ...{ id, resource_id, decision_id, action, previous_instances, new_instances },
    ...{ success, error_message, execution_time_ms, created_at },
  };
}
