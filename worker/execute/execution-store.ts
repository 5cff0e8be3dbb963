import type pg from 'pg';
import type { EventRow } from '../../shared/db/event-row.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import type { JobError } from '../../shared/domain/job.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import { finishJobs, type JobCompletion } from '../queue/jobs-store.ts';
import { appendEvent } from './events-store.ts';
import type { BoundExecution, Execution, ExecutionView } from './types.ts';

/** Reads what an execution is about. Null when there is no such decision. */
export async function loadExecution(db: pg.Pool, decisionId: string): Promise<ExecutionView | null> {
  const { rows } = await db.query({
    name: 'load_execution',
    text: `select d.state as decision_state, d.decision_type, d.current_instances as from_instances, d.target_instances,
        d.expires_at < clock_timestamp() as expired,
        case when r.id is null then null else json_build_object('id', r.id, 'name', r.name,
          'cloud_provider', r.cloud_provider, 'region', r.region, 'cluster', r.cluster, 'actuation', r.actuation,
          'epoch', r.epoch::text) end as resource,
        case when a.id is null then null else json_build_object('id', a.id::text, 'epoch', a.epoch::text,
          'action', a.action, 'from_instances', a.from_instances, 'target_instances', a.target_instances,
          'settled', a.settle_after < clock_timestamp(),
          'intent_at_ms', floor(extract(epoch from a.intent_at) * 1000),
          'age_ms', floor(extract(epoch from clock_timestamp() - a.intent_at) * 1000),
          'fence', a.fence) end as attempt,
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

/**
 * Ends a job whose decision has no attempt open. One that ends with an error leaves a `refused` event.
 * @returns false, with nothing changed, when the claim is lost or another worker has begun an attempt meanwhile: that
 *   one has to be resolved first, and its resource would be locked for good if the job were over.
 */
export async function finishWithoutAttempt(
  pool: pg.Pool,
  execution: Execution,
  completion: JobCompletion,
  decisionState: 'failed' | 'expired' | 'superseded' | null,
): Promise<boolean> {
  const decisionId = execution.job.decision_id as string;
  return await withTransaction(pool, async (tx) => {
    if (await attemptIsOpen(tx, decisionId)) return false;
    const finished = await finishJobs(tx, [completion]);
    if (finished.size === 0) return false;
    if (decisionState !== null) {
      await tx.query(
        `update scaling_decisions set state = $2 where id = $1 and state in ('pending', 'executing')`,
        [decisionId, decisionState],
      );
    }
    if (completion.error !== null) await appendRefusal(tx, execution, completion.error);
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
  { job, view, actor }: Execution,
  error: JobError,
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
    error_code: error.code,
    error_message: error.message,
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
  { job, view, actor }: BoundExecution,
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
          memory_request = coalesce($7::numeric, r.memory_request), observed_state = $9::json
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
      observedState(state),
    ],
  });
}

/** What a look showed besides the size; null when there is nothing of note. */
function observedState({ blocks, removable, mix }: CapacityState): string | null {
  if (blocks.length === 0 && removable === undefined && mix === undefined) return null;
  return JSON.stringify({ blocks, removable: removable ?? null, mix: mix ?? null });
}
