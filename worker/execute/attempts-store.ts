import type pg from 'pg';
import type { EventRow } from '../../shared/db/event-row.ts';
import { constraintOf, withTransaction } from '../../shared/db/pool.ts';
import { lockForIntent } from '../../shared/db/protection-lock.ts';
import type { JobError } from '../../shared/domain/job.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import { firstRefusal, type Refusal } from '../engine/guards.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import { finishJobs, type JobCompletion } from '../queue/jobs-store.ts';
import { appendEvent } from './events-store.ts';
import { recordFloor } from './floor-leases-store.ts';
import { readFleetFacts, readGuardView } from './guards-store.ts';
import type { Attempt, BoundExecution, Settlement } from './types.ts';

/**
 * An attempt's states: open (the intent is committed) → unknown → succeeded, not_applied, rejected or superseded.
 * Each transition is one transaction, with its event and what it means for decision, resource and job.
 */

const busy: Refusal = {
  code: 'resource_busy',
  message: 'Another execution of this resource is running.',
  effect: 'wait',
};

/**
 * Asks every guard by the database's clock and commits the intent: attempt row, intent event, epoch. After that
 * exactly one request may be sent.
 * @param options `settleMs`: how long the request may still arrive; `stopped`: by this worker's environment.
 */
export async function beginAttempt(
  pool: pg.Pool,
  execution: BoundExecution,
  state: CapacityState,
  options: { readonly settleMs: number; readonly stopped: boolean },
): Promise<{ readonly attempt: Attempt } | { readonly refusal: Refusal }> {
  const { job, view } = execution;
  try {
    return await withTransaction(pool, async (tx) => {
      const locked = await tx.query('select 1 from scaling_decisions where id = $1 for update skip locked', [
        job.decision_id,
      ]);
      if (locked.rowCount === 0) return { refusal: busy };
      await tx.query('select 1 from resources where id = $1 for update', [view.resource.id]);
      await lockForIntent(tx);
      const read = await readGuardView(tx, execution, { state, stopped: options.stopped });
      if (read === null) {
        const message = 'The resource was deleted.';
        return { refusal: { code: 'resource_not_found', message, effect: 'supersede' } };
      }
      const refusal = firstRefusal(read.view) ?? (await fleetRefusal(tx, execution, read));
      if (refusal !== null) return { refusal };
      return {
        attempt: await commitIntent(tx, execution, state, { settleMs: options.settleMs, now: read.now }),
      };
    });
  } catch (error) {
    // The last guards: another attempt is open, or the cooldown constraint disagrees with what was read.
    const broken = constraintOf(error);
    if (broken?.constraint === 'attempts_one_open') return { refusal: busy };
    if (broken?.constraint === 'attempts_cooldown') {
      const message = 'The resource changed too recently: decide again after its cooldown.';
      return { refusal: { code: 'cooldown', message } };
    }
    throw error;
  }
}

async function fleetRefusal(
  tx: pg.PoolClient,
  execution: BoundExecution,
  { view, now }: NonNullable<Awaited<ReturnType<typeof readGuardView>>>,
): Promise<Refusal | null> {
  const facts = await readFleetFacts(tx, execution, now);
  return firstRefusal({ ...view, fleet: { ...view.fleet, ...facts } });
}

/** @param options `now`: the moment the guards were judged by, as none may run out between that and the intent. */
async function commitIntent(
  tx: pg.PoolClient,
  { job, view, actor }: BoundExecution,
  state: CapacityState,
  options: { readonly settleMs: number; readonly now: string },
): Promise<Attempt> {
  const action = view.target_instances > view.from_instances ? 'ScaleUp' : 'ScaleDown';
  const { rows } = await tx.query<Attempt>(
    `with moved as (update resources set epoch = epoch + 1 where id = $2 returning epoch)
    insert into attempts (decision_id, resource_id, job_id, no, epoch, from_instances, target_instances, action, state,
      intent_at, settle_after, fence, blocked, worker_version)
    select $1, $2, $3, (select count(*) + 1 from attempts where decision_id = $1), moved.epoch, $4, $5, $6, 'open',
      clock.now, clock_timestamp() + $7 * interval '1 millisecond', $8, tstzrange(clock.now, 'infinity'), $9
    from moved, (select $10::timestamptz as now) clock
    returning id::text, epoch::text, action, from_instances, target_instances, false as settled,
      floor(extract(epoch from intent_at) * 1000)::double precision as intent_at_ms, 0 as age_ms, fence`,
    [
      job.decision_id,
      view.resource.id,
      job.id,
      view.from_instances,
      view.target_instances,
      action,
      options.settleMs,
      JSON.stringify(state.fence),
      workerVersion,
      options.now,
    ],
  );
  const attempt = rows[0] as Attempt;
  await tx.query(`update scaling_decisions set state = 'executing' where id = $1`, [job.decision_id]);
  if (view.resource.actuation === 'floor')
    await recordFloor(tx, view.resource, { from: view.from_instances, target: view.target_instances });
  await appendEvent(tx, {
    resource_id: view.resource.id,
    decision_id: job.decision_id,
    attempt_id: attempt.id,
    phase: 'intent',
    action,
    previous_instances: view.from_instances,
    new_instances: view.target_instances,
    epoch: attempt.epoch,
    actor,
    request_id: job.request_id,
  });
  return attempt;
}

/**
 * Commits an attempt's outcome: attempt, event, decision, resource and, when `complete` says how, the job. An attempt
 * that another worker has settled meanwhile only gets a late report.
 * @returns the job's completion; null when the job goes on, or is another worker's by now.
 */
export async function settleAttempt(
  pool: pg.Pool,
  { job, view: { resource }, actor }: BoundExecution,
  { attempt, settlement }: { readonly attempt: Attempt; readonly settlement: Settlement },
  complete: ((event: EventRow) => JobCompletion) | null,
): Promise<JobCompletion | null> {
  return await withTransaction(pool, async (tx) => {
    const settled = await tx.query(
      // What was only seen may be somebody else's doing: ours could still arrive, so nothing begins before it cannot.
      `update attempts a set state = $2, effect_at = case when $2 = 'succeeded' then clock.now end,
        blocked = case when $2 = 'succeeded' then tstzrange(a.intent_at, greatest(clock.now + (
            -- Whatever wakes it from 0 waits for nothing.
            select case when a.target_instances = 0 then 0 else 1 end * least(r.cooldown_period, coalesce(r.scale_down_cooldown, r.cooldown_period)) from resources r
            where r.id = a.resource_id) * interval '1 second',
            case when $3 then a.settle_after end))
          else 'empty'::tstzrange end
      from (select clock_timestamp() as now) clock where a.id = $1 and a.state in ('open', 'unknown')`,
      [attempt.id, settlement.attemptState, settlement.mayStillArrive ?? false],
    );
    const late = settled.rowCount === 0;
    const success = settlement.attemptState === 'succeeded';
    const event = await appendEvent(tx, {
      resource_id: resource.id,
      decision_id: job.decision_id,
      attempt_id: attempt.id,
      phase: late ? 'late_report' : 'outcome',
      outcome: settlement.outcome,
      action: attempt.action,
      previous_instances: attempt.from_instances,
      new_instances: success ? attempt.target_instances : attempt.from_instances,
      success,
      error_code: settlement.error?.code ?? null,
      error_message: settlement.error?.message ?? null,
      execution_time_ms: Math.round(settlement.executionTimeMs),
      epoch: attempt.epoch,
      actor,
      request_id: job.request_id,
    });
    if (late) {
      // It took place all the same, and whatever takes place starts the cooldown.
      if (success)
        await tx.query(
          `update resources set last_effect_at = clock_timestamp(), last_effect_action = $2 where id = $1`,
          [resource.id, attempt.action],
        );
      return null;
    }
    if (success) {
      await tx.query(
        `update resources set current_instances = $2, last_effect_at = a.effect_at, last_effect_action = a.action,
          observed_at = now()
        from attempts a where resources.id = $1 and a.id = $3`,
        [resource.id, attempt.target_instances, attempt.id],
      );
    } else if (settlement.observed !== undefined) {
      await tx.query('update resources set current_instances = $2, observed_at = now() where id = $1', [
        resource.id,
        settlement.observed,
      ]);
    }
    await tx.query(`update scaling_decisions set state = $2, executed = ($2 = 'executed') where id = $1`, [
      job.decision_id,
      settlement.decisionState,
    ]);
    if (complete === null) return null;
    const completion = complete(event);
    await finishJobs(tx, [completion]);
    return completion;
  });
}

/** The write's outcome is not known: the resource stays closed to other targets until a read-back settles it. */
export async function markUnknown(
  pool: pg.Pool,
  { job, view, actor }: BoundExecution,
  attempt: Attempt,
  error: JobError,
): Promise<void> {
  await withTransaction(pool, async (tx) => {
    const marked = await tx.query(`update attempts set state = 'unknown' where id = $1 and state = 'open'`, [
      attempt.id,
    ]);
    if (marked.rowCount === 0) return;
    await appendEvent(tx, {
      resource_id: view.resource.id,
      decision_id: job.decision_id,
      attempt_id: attempt.id,
      phase: 'control',
      outcome: 'unknown',
      action: attempt.action,
      previous_instances: attempt.from_instances,
      new_instances: attempt.target_instances,
      error_code: error.code,
      error_message: error.message,
      epoch: attempt.epoch,
      actor,
      request_id: job.request_id,
    });
  });
}
