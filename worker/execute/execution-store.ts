import type pg from 'pg';
import type { EventRow } from '../../shared/db/event-row.ts';
import { constraintOf, withTransaction } from '../../shared/db/pool.ts';
import { lockForIntent } from '../../shared/db/protection-lock.ts';
import { activeFreezes, type FreezeWindow, freezeOf } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import type { JobError } from '../../shared/domain/job.ts';
import { cloudScope, scopesOf } from '../../shared/domain/protection-scope.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import { type ClaimedJob, finishJobs, type JobCompletion } from '../queue/jobs-store.ts';
import { refusalOfActor } from './actor-store.ts';
import { appendEvent } from './events-store.ts';
import { fleetRefusal } from './fleet-guards.ts';

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
  readonly resource: {
    readonly id: string;
    readonly name: string;
    readonly cloud_provider: 'aws' | 'kubernetes';
    readonly region: string | null;
    readonly cluster: string | null;
    readonly actuation: 'desired' | 'floor';
    readonly epoch: string;
  } | null;
  readonly attempt: OpenAttempt | null;
  /** Of the resource's region or cluster: calls failed lately, or are held. */
  readonly circuit: 'closed' | 'failing' | 'open';
}

type BoundView = ExecutionView & { readonly resource: NonNullable<ExecutionView['resource']> };

export interface OpenAttempt {
  readonly id: string;
  readonly epoch: string;
  readonly action: 'ScaleUp' | 'ScaleDown';
  readonly from_instances: number;
  readonly target_instances: number;
  readonly settled: boolean;
  readonly intent_at_ms: number;
  readonly age_ms: number;
  /** What the write was conditional on; empty where the cloud has no such thing. */
  readonly fence: CapacityState['fence'];
}

/** Why an execution may not begin now; `lasting` when the decision is over with it. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly context?: Record<string, unknown>;
  readonly lasting?: 'expired' | 'superseded';
}

export type BeginResult =
  | { readonly kind: 'begun'; readonly attempt: OpenAttempt }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'busy' }
  /** The region's or cluster's circuit opened meanwhile. */
  | { readonly kind: 'circuit_open' };

/** Reads what an execution is about. Null when there is no such decision. */
export async function loadExecution(db: pg.Pool, decisionId: string): Promise<ExecutionView | null> {
  const { rows } = await db.query({
    name: 'load_execution',
    text: `select d.state as decision_state, d.decision_type, d.current_instances as from_instances, d.target_instances,
        d.expires_at < clock_timestamp() as expired,
        case when r.id is null then null else json_build_object('id', r.id, 'name', r.name, 'cloud_provider', r.cloud_provider,
          'region', r.region, 'cluster', r.cluster, 'actuation', r.actuation, 'epoch', r.epoch::text) end as resource,
        case when a.id is null then null else json_build_object('id', a.id::text, 'epoch', a.epoch::text, 'action', a.action,
          'from_instances', a.from_instances, 'target_instances', a.target_instances, 'settled', a.settle_after < clock_timestamp(),
          'intent_at_ms', floor(extract(epoch from a.intent_at) * 1000),
          'age_ms', floor(extract(epoch from clock_timestamp() - a.intent_at) * 1000), 'fence', a.fence) end as attempt,
        case when c.open_until is not null then 'open' when c.failures > 0 then 'failing' else 'closed' end as circuit
      from scaling_decisions d
      left join resources r on r.id = d.resource_id
      left join circuits c on c.scope = 'scope:' || r.cloud_provider || ':' || coalesce(r.region, r.cluster, '')
      left join attempts a on a.decision_id = d.id and a.state in ('open', 'unknown')
      where d.id = $1`,
    values: [decisionId],
  });
  return (rows[0] as ExecutionView | undefined) ?? null;
}

interface GuardRow {
  decision_state: string;
  expired: boolean;
  newer_begun: boolean;
  epoch_moved: boolean;
  min_instances: number;
  max_instances: number;
  step: number;
  cooldown_left_ms: number;
  /** Until when a write whose answer was lost, though its size was seen, may still be on its way. */
  settles_at_ms: number | null;
  actions_last_hour: number;
  max_actions_per_hour: number;
  next_slot_ms: number | null;
  paused_until: string | null;
  stop_scope: string | null;
  stop_reason: string | null;
  other_open: boolean;
  now_ms: number;
  /** The same to the microsecond. */
  now: string;
  freezes: FreezeWindow[] | null;
  /** Changes of direction in the last half hour, this one included. */
  reversals: number;
  max_reversals: number;
  circuit_open: boolean;
}

/**
 * T1: every guard once more, by the database's clock, then the intent: attempt row, intent event, epoch. When this has
 * committed, exactly one request may be sent.
 */
export async function beginAttempt(
  pool: pg.Pool,
  job: ClaimedJob,
  view: BoundView,
  state: CapacityState,
  options: { readonly settleMs: number; readonly actor: string; readonly stopped: boolean },
): Promise<BeginResult> {
  const action = view.target_instances > view.from_instances ? 'ScaleUp' : 'ScaleDown';
  try {
    return await withTransaction(pool, async (tx): Promise<BeginResult> => {
      const locked = await tx.query('select 1 from scaling_decisions where id = $1 for update skip locked', [
        job.decision_id,
      ]);
      if (locked.rowCount === 0) return { kind: 'busy' };
      await tx.query('select 1 from resources where id = $1 for update', [view.resource.id]);
      await lockForIntent(tx);
      const guard = await readGuards(tx, job, view, action);
      if (guard === null)
        return {
          kind: 'refused',
          refusal: {
            code: 'resource_not_found',
            message: 'The resource was deleted.',
            lasting: 'superseded',
          },
        };
      if (guard.circuit_open) return { kind: 'circuit_open' };
      const forbidden = await refusalOfActor(tx, job.actor_key_id, view.resource.id);
      if (forbidden !== null) return { kind: 'refused', refusal: { code: 'forbidden', message: forbidden } };
      const refusal =
        refusalOf(guard, view, state, action, options.stopped) ??
        (await fleetRefusal(tx, view, action, guard.now, options.actor, job.request_id));
      if (refusal === 'busy') return { kind: 'busy' };
      if (refusal !== null) {
        if (refusal.lasting !== undefined) {
          await tx.query(`update scaling_decisions set state = $2 where id = $1 and state = 'pending'`, [
            job.decision_id,
            refusal.lasting,
          ]);
        }
        return { kind: 'refused', refusal };
      }
      const { rows } = await tx.query(
        `with moved as (
          update resources set epoch = epoch + 1 where id = $2 returning epoch)
        insert into attempts (decision_id, resource_id, job_id, no, epoch, from_instances, target_instances, action, state, intent_at,
          settle_after, fence, blocked, worker_version)
        select $1, $2, $3, (select count(*) + 1 from attempts where decision_id = $1), moved.epoch, $4, $5, $6, 'open', clock.now,
          clock_timestamp() + $7 * interval '1 millisecond', $8, tstzrange(clock.now, 'infinity'), $9
        -- The moment the guards were judged by: none of them may have run out between that and the intent.
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
          guard.now,
        ],
      );
      const attempt = rows[0] as OpenAttempt;
      await tx.query(`update scaling_decisions set state = 'executing' where id = $1`, [job.decision_id]);
      await appendEvent(tx, {
        resource_id: view.resource.id,
        decision_id: job.decision_id,
        attempt_id: attempt.id,
        phase: 'intent',
        action,
        previous_instances: view.from_instances,
        new_instances: view.target_instances,
        epoch: attempt.epoch,
        actor: options.actor,
        request_id: job.request_id,
      });
      return { kind: 'begun', attempt };
    });
  } catch (error) {
    // The last guards: another attempt is open, or the cooldown constraint disagrees with what we read.
    const broken = constraintOf(error);
    if (broken?.constraint === 'attempts_one_open') return { kind: 'busy' };
    if (broken?.constraint === 'attempts_cooldown') {
      return {
        kind: 'refused',
        refusal: {
          code: 'cooldown',
          message: 'The resource changed too recently: decide again after its cooldown.',
        },
      };
    }
    throw error;
  }
}

async function readGuards(
  tx: pg.PoolClient,
  job: ClaimedJob,
  view: BoundView,
  action: 'ScaleUp' | 'ScaleDown',
): Promise<GuardRow | null> {
  const { rows } = await tx.query<GuardRow>({
    name: 'read_guards',
    text: `with clock as (select clock_timestamp() as now)
      select d.state as decision_state, d.expires_at < clock.now as expired, r.epoch <> $3::bigint as epoch_moved,
        exists (select 1 from scaling_decisions n where n.resource_id = r.id and n.seq > d.seq
          and (n.state in ('executing', 'executed') or exists (select 1 from attempts a where a.decision_id = n.id))) as newer_begun,
        r.min_instances, r.max_instances, case $4 when 'ScaleUp' then r.max_scale_up_step else r.max_scale_down_step end as step,
        case when r.last_effect_at = '-infinity' then 0 else extract(epoch from r.last_effect_at
          + case $4 when 'ScaleUp' then r.cooldown_period else coalesce(r.scale_down_cooldown, r.cooldown_period) end * interval '1 second'
          - clock.now)::double precision * 1000 end as cooldown_left_ms,
        (select floor(extract(epoch from max(a.settle_after)) * 1000)::double precision from attempts a where a.resource_id = r.id
          and a.state = 'succeeded' and a.settle_after > clock.now and upper(a.blocked) >= a.settle_after) as settles_at_ms,
        (select count(*)::integer from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown', 'succeeded')
          and coalesce(a.effect_at, a.intent_at) > clock.now - interval '1 hour') as actions_last_hour,
        (select floor(extract(epoch from min(coalesce(a.effect_at, a.intent_at)) + interval '1 hour') * 1000)::double precision from attempts a
          where a.resource_id = r.id and a.state in ('open', 'unknown', 'succeeded')
          and coalesce(a.effect_at, a.intent_at) > clock.now - interval '1 hour') as next_slot_ms,
        r.max_actions_per_hour,
        case when pause.until > clock.now then to_char(pause.until at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end as paused_until,
        stop.scope as stop_scope, stop.reason as stop_reason, floor(extract(epoch from clock.now) * 1000)::double precision as now_ms, clock.now::text as now,
        (select json_agg(json_build_object('id', f.id, 'scope', f.scope, 'direction', f.direction, 'schedule', f.schedule, 'time_zone', f.time_zone,
          'duration_minutes', f.duration_minutes, 'starts_at_ms', floor(extract(epoch from f.starts_at) * 1000),
          'ends_at_ms', floor(extract(epoch from f.ends_at) * 1000), 'reason', f.reason)) from freezes f where f.scope = any ($5::text[])) as freezes,
        (select count(*)::integer from (
          select a.action, lead(a.action, 1, $4) over (order by a.intent_at) as next_action from attempts a
          where a.resource_id = r.id and a.state in ('open', 'unknown', 'succeeded') and a.intent_at > clock.now - interval '30 minutes') turns
          where action <> next_action) as reversals,
        r.max_reversals_per_half_hour as max_reversals,
        exists (select 1 from circuits c where c.scope = $6 and c.open_until is not null) as circuit_open,
        exists (select 1 from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown')) as other_open
      from scaling_decisions d join resources r on r.id = d.resource_id cross join clock
      cross join lateral (select case $4 when 'ScaleUp' then r.scale_up_paused_until else r.scale_down_paused_until end as until) pause
      left join lateral (select s.scope, s.reason from active_stops s where s.scope = any ($5::text[]) order by s.scope limit 1) stop on true
      where d.id = $1 and r.id = $2`,
    values: [
      job.decision_id,
      view.resource.id,
      view.resource.epoch,
      action,
      scopesOf(view.resource),
      cloudScope(view.resource),
    ],
  });
  return rows[0] ?? null;
}

/** The first guard that says no, in the order of how lasting it is. A pure function of what T1 read under its locks. */
export function refusalOf(
  guard: GuardRow,
  view: Pick<BoundView, 'from_instances' | 'target_instances' | 'resource'>,
  state: Pick<CapacityState, 'min' | 'max'>,
  action: 'ScaleUp' | 'ScaleDown',
  stopped: boolean,
): Refusal | 'busy' | null {
  const target = view.target_instances;
  if (guard.decision_state === 'executing' || guard.other_open) return 'busy';
  if (guard.decision_state !== 'pending') {
    return {
      code: `decision_${guard.decision_state}`,
      message: `The decision is ${guard.decision_state}: decide again.`,
    };
  }
  if (guard.expired)
    return {
      code: 'decision_expired',
      message: 'The decision is too old to carry out: decide again.',
      lasting: 'expired',
    };
  if (guard.newer_begun) {
    return {
      code: 'decision_superseded',
      message: 'A newer decision of this resource was begun: decide again.',
      lasting: 'superseded',
    };
  }
  if (guard.epoch_moved) return 'busy';
  if (stopped || guard.stop_scope !== null) {
    const where = stopped ? 'this worker (SCALER_STOP)' : guard.stop_scope;
    return {
      code: 'stopped',
      message: `Executions are stopped for ${where}: ${guard.stop_reason ?? 'set by the operator'}.`,
      context: { scope: where },
    };
  }
  const freeze = freezeOf(
    activeFreezes(guard.freezes ?? [], guard.now_ms),
    scopesOf(view.resource),
    action === 'ScaleUp' ? 'up' : 'down',
  );
  if (freeze !== null) {
    const until = isoOrNull(freeze.untilMs);
    return {
      code: 'frozen',
      message: `${action} is frozen for ${freeze.window.scope}${until === null ? '' : ` until ${until}`}: ${freeze.window.reason}.`,
      context: { scope: freeze.window.scope, freeze_id: freeze.window.id, earliest: until },
    };
  }
  const min = Math.max(guard.min_instances, state.min);
  const max = Math.min(guard.max_instances, state.max ?? Number.POSITIVE_INFINITY);
  // A resource outside its bounds may come back towards them in steps; nothing may move it further out.
  if (
    (action === 'ScaleUp' && target > max) ||
    (action === 'ScaleDown' && target < min) ||
    target < state.min ||
    target > (state.max ?? target)
  ) {
    return {
      code: 'out_of_bounds',
      message: `${target} is outside ${min} to ${max}, the narrower of the resource's bounds and the cloud's own: change the bounds or decide again.`,
      context: { min, max, target },
    };
  }
  if (Math.abs(target - view.from_instances) > guard.step) {
    return {
      code: 'step_too_large',
      message: `A change of ${Math.abs(target - view.from_instances)} exceeds the step limit of ${guard.step}: decide again.`,
    };
  }
  if (guard.paused_until !== null) {
    return {
      code: 'paused',
      message: `${action} is paused until ${guard.paused_until}.`,
      context: { earliest: guard.paused_until },
    };
  }
  if (guard.cooldown_left_ms > 0) {
    const seconds = Math.ceil(guard.cooldown_left_ms / 1_000);
    return {
      code: 'cooldown',
      message: `The last change is too recent: ${seconds} s of cooldown are left.`,
      context: { retry_after_seconds: seconds },
    };
  }
  if (guard.settles_at_ms !== null) {
    const earliest = isoOrNull(guard.settles_at_ms);
    return {
      code: 'settling',
      message: `The answer to the last write was lost, and until ${earliest} a copy of it could still arrive and undo this change: decide again then.`,
      context: { earliest },
    };
  }
  if (guard.actions_last_hour >= guard.max_actions_per_hour) {
    return {
      code: 'rate_limited',
      message: `${guard.actions_last_hour} changes in the last hour reach the limit of ${guard.max_actions_per_hour}.`,
      context: { earliest: isoOrNull(guard.next_slot_ms) },
    };
  }
  // Capacity that swings is held high: scaling out is never refused for it.
  if (action === 'ScaleDown' && guard.reversals > guard.max_reversals) {
    return {
      code: 'flapping',
      message: `This would be the change of direction number ${guard.reversals} within half an hour, and ${guard.max_reversals} are allowed: look at what drives it, then decide again.`,
      context: { reversals: guard.reversals, max_reversals: guard.max_reversals },
    };
  }
  return null;
}

export interface Closing {
  readonly attemptState: 'succeeded' | 'not_applied' | 'rejected' | 'superseded';
  readonly outcome: string;
  readonly decisionState: 'executed' | 'pending' | 'failed' | 'superseded' | 'expired';
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly executionTimeMs: number;
  readonly actor: string;
  /** What the cloud said last, when it is known. */
  readonly observed?: number;
  /** A success that was seen, not answered: the request itself may be on its way until `settle_after`. */
  readonly mayStillLand?: boolean;
}

/**
 * T2: the outcome. Closes the attempt if it is still open or unknown, and with it event, decision, resource and, when
 * `complete` says how, the job. An attempt somebody else has resolved meanwhile only gets a late report.
 */
export async function closeAttempt(
  pool: pg.Pool,
  job: ClaimedJob,
  resourceId: string,
  attempt: OpenAttempt,
  closing: Closing,
  complete: ((event: EventRow) => JobCompletion) | null,
): Promise<JobCompletion | null> {
  return await withTransaction(pool, async (tx) => {
    const closed = await tx.query(
      // What was only seen may be somebody else's doing: ours could still arrive, so nothing else begins before it no longer can.
      `update attempts a set state = $2, effect_at = case when $2 = 'succeeded' then clock.now end,
        blocked = case when $2 = 'succeeded' then tstzrange(a.intent_at, greatest(clock.now
            + (select least(r.cooldown_period, coalesce(r.scale_down_cooldown, r.cooldown_period)) from resources r where r.id = a.resource_id) * interval '1 second',
            case when $3 then a.settle_after end))
          else 'empty'::tstzrange end
      from (select clock_timestamp() as now) clock where a.id = $1 and a.state in ('open', 'unknown')`,
      [attempt.id, closing.attemptState, closing.mayStillLand ?? false],
    );
    const late = closed.rowCount === 0;
    const success = closing.attemptState === 'succeeded';
    const event = await appendEvent(tx, {
      resource_id: resourceId,
      decision_id: job.decision_id,
      attempt_id: attempt.id,
      phase: late ? 'late_report' : 'outcome',
      outcome: closing.outcome,
      action: attempt.action,
      previous_instances: attempt.from_instances,
      new_instances: success ? attempt.target_instances : attempt.from_instances,
      success,
      error_code: closing.error?.code ?? null,
      error_message: closing.error?.message ?? null,
      execution_time_ms: Math.round(closing.executionTimeMs),
      epoch: attempt.epoch,
      actor: closing.actor,
      request_id: job.request_id,
    });
    if (late) {
      // It took place all the same, and whatever takes place starts the cooldown.
      if (success)
        await tx.query(
          `update resources set last_effect_at = clock_timestamp(), last_effect_action = $2 where id = $1`,
          [resourceId, attempt.action],
        );
      return null;
    }
    if (success) {
      await tx.query(
        `update resources set current_instances = $2, last_effect_at = a.effect_at, last_effect_action = a.action, observed_at = now()
        from attempts a where resources.id = $1 and a.id = $3`,
        [resourceId, attempt.target_instances, attempt.id],
      );
    } else if (closing.observed !== undefined) {
      await tx.query('update resources set current_instances = $2, observed_at = now() where id = $1', [
        resourceId,
        closing.observed,
      ]);
    }
    await tx.query(`update scaling_decisions set state = $2, executed = ($2 = 'executed') where id = $1`, [
      job.decision_id,
      closing.decisionState,
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
  resourceId: string,
  attempt: OpenAttempt,
  job: Pick<ClaimedJob, 'decision_id' | 'request_id'>,
  error: JobError,
  actor: string,
): Promise<void> {
  await withTransaction(pool, async (tx) => {
    const marked = await tx.query(`update attempts set state = 'unknown' where id = $1 and state = 'open'`, [
      attempt.id,
    ]);
    if (marked.rowCount === 0) return;
    await appendEvent(tx, {
      resource_id: resourceId,
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

/**
 * Finishes an execution that never began an attempt. One that was refused leaves a word in the history.
 * @returns false, with nothing changed, when the claim is lost or another worker has begun an attempt meanwhile: that one
 *   has to be resolved first, and its resource would be locked for good if the job were over.
 */
export async function finishWithoutAttempt(
  pool: pg.Pool,
  completion: JobCompletion,
  decision: { readonly id: string; readonly state: 'failed' | 'expired' | 'superseded' } | null,
  refused?: { readonly job: ClaimedJob; readonly view: ExecutionView | null; readonly actor: string },
): Promise<boolean> {
  return await withTransaction(pool, async (tx) => {
    const decisionId = decision?.id ?? refused?.job.decision_id ?? null;
    if (decisionId !== null && (await attemptIsOpen(tx, decisionId))) return false;
    const finished = await finishJobs(tx, [completion]);
    if (finished.size === 0) return false;
    if (decision !== null) {
      await tx.query(
        `update scaling_decisions set state = $2 where id = $1 and state in ('pending', 'executing')`,
        [decision.id, decision.state],
      );
    }
    if (refused !== undefined) await appendRefusal(tx, completion, refused);
    return true;
  });
}

/** Locks the decision, so that none begins until the commit. @returns whether an attempt of it is open or unknown. */
async function attemptIsOpen(tx: pg.PoolClient, decisionId: string): Promise<boolean> {
  await tx.query('select 1 from scaling_decisions where id = $1 for update', [decisionId]);
  const open = await tx.query(
    `select 1 from attempts where decision_id = $1 and state in ('open', 'unknown')`,
    [decisionId],
  );
  return (open.rowCount ?? 0) > 0;
}

async function appendRefusal(
  tx: pg.PoolClient,
  completion: JobCompletion,
  {
    job,
    view,
    actor,
  }: { readonly job: ClaimedJob; readonly view: ExecutionView | null; readonly actor: string },
): Promise<void> {
  const { from_instances = null, target_instances = null } = view ?? {};
  await appendEvent(tx, {
    resource_id: job.resource_id,
    decision_id: job.decision_id,
    phase: 'control',
    outcome: 'refused',
    action:
      from_instances === null || target_instances === null || from_instances === target_instances
        ? null
        : target_instances > from_instances
          ? 'ScaleUp'
          : 'ScaleDown',
    previous_instances: from_instances,
    new_instances: from_instances,
    success: false,
    error_code: completion.error?.code ?? null,
    error_message: completion.error?.message ?? null,
    actor,
    request_id: job.request_id,
  });
}

/**
 * The cloud has the wanted size already, and not through us: recorded, but no cooldown begins.
 * @returns null, with nothing changed, as finishWithoutAttempt returns false.
 */
export async function finishSatisfied(
  pool: pg.Pool,
  job: ClaimedJob,
  view: BoundView,
  actor: string,
  complete: (event: EventRow) => JobCompletion,
): Promise<JobCompletion | null> {
  const decisionId = job.decision_id as string;
  return await withTransaction(pool, async (tx) => {
    if (await attemptIsOpen(tx, decisionId)) return null;
    const decided = await tx.query(
      `update scaling_decisions set state = 'executed', executed = true where id = $1 and state = 'pending'`,
      [decisionId],
    );
    if (decided.rowCount === 0) return null;
    const event = await appendEvent(tx, {
      resource_id: view.resource.id,
      decision_id: job.decision_id,
      phase: 'outcome',
      outcome: 'already_satisfied',
      action: view.target_instances > view.from_instances ? 'ScaleUp' : 'ScaleDown',
      previous_instances: view.target_instances,
      new_instances: view.target_instances,
      success: true,
      execution_time_ms: 0,
      actor,
      request_id: job.request_id,
    });
    const completion = complete(event);
    await finishJobs(tx, [completion]);
    return completion;
  });
}

/**
 * Stores what the cloud said, unless one of our attempts moved the resource since `epoch` was read. A change nobody
 * here made becomes an `observed` event.
 */
export async function recordObservation(
  db: Pick<pg.Pool, 'query'>,
  resource: { readonly id: string; readonly epoch: string },
  state: CapacityState,
  actor: string,
): Promise<void> {
  await db.query({
    name: 'record_observation',
    text: `with before as (
        select r.id, r.current_instances, r.observed_at from resources r where r.id = $1 and r.epoch = $2::bigint
          and not exists (select 1 from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown')) for update),
      updated as (
        update resources r set current_instances = $3, observed_ready = $4, observed_at = now(),
          instance_type = coalesce($5, r.instance_type), cpu_request = coalesce($6::numeric, r.cpu_request),
          memory_request = coalesce($7::numeric, r.memory_request)
        from before where r.id = before.id returning r.id, before.current_instances as was, before.observed_at)
      insert into scaling_events (resource_id, phase, outcome, action, previous_instances, new_instances, actor)
      select id, 'observed', case when observed_at is null then 'first_observation' else 'external_change' end,
        case when $3 > was then 'ScaleUp' else 'ScaleDown' end, was, $3, $8 from updated where was <> $3`,
    values: [
      resource.id,
      resource.epoch,
      state.desired,
      state.ready,
      state.instanceType,
      state.cpuRequest,
      state.memoryRequest,
      actor,
    ],
  });
}
