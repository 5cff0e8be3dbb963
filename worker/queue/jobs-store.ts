import type { Queryable } from '../../shared/db/pool.ts';
import type { JobError, JobKind, JobOutcome } from '../../shared/domain/job.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import type { JobQueueName } from '../../shared/queues/queues.ts';

/** A job as a worker holds it after the claim. `fence` goes into every later write. */
export interface ClaimedJob {
  readonly id: string;
  readonly kind: JobKind;
  readonly queue: JobQueueName;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly input: Record<string, unknown>;
  readonly notify: boolean;
  readonly fence: number;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly dispatch_seq: number;
  readonly expired: boolean;
  readonly waited_ms: number;
  readonly actor_key_id: string | null;
  readonly request_id: string | null;
}

/**
 * Claims what is due and belongs to `queue` (an entry on another one was forged, and its worker would do something else
 * with the job): queued, waiting for its retry, or abandoned by a worker whose lease ran out. A row that is
 * not in the answer is somebody else's or finished: that is an outcome, not an error.
 */
export async function claimJobs(
  db: Queryable,
  ids: readonly string[],
  leaseMs: number,
  queue?: JobQueueName,
): Promise<ClaimedJob[]> {
  const { rows } = await db.query<ClaimedJob>({
    name: 'claim_jobs',
    text: `update jobs set status = 'active', fence = fence + 1, checked_fence = fence + 1, attempts = attempts + 1,
        started_at = coalesce(started_at, now()), lease_until = now() + $2 * interval '1 millisecond'
      where id = any ($1::uuid[]) and $3::integer >= (select min_worker_version from fleet_settings)
        and ($4::text is null or queue = $4) and (
        (status in ('queued', 'retrying') and available_at <= now() + interval '50 milliseconds')
        or (status = 'active' and lease_until < now()))
      returning id, kind, queue, resource_id, decision_id, input, notify, fence, attempts, max_attempts, dispatch_seq,
        deadline_at < now() as expired, extract(epoch from now() - created_at)::double precision * 1000 as waited_ms, actor_key_id, request_id`,
    values: [ids, leaseMs, workerVersion, queue ?? null],
  });
  return rows;
}

/**
 * Keeps claimed jobs claimed for `leaseMs` more. One whose fence no longer holds is somebody else's by now, and stays
 * so.
 */
export async function renewLeases(
  db: Queryable,
  jobs: readonly { readonly id: string; readonly fence: number }[],
  leaseMs: number,
): Promise<void> {
  await db.query({
    name: 'renew_leases',
    text: `update jobs j set lease_until = now() + $3 * interval '1 millisecond' from unnest($1::uuid[], $2::integer[]) as v (id, fence)
      where j.id = v.id and j.status = 'active' and j.fence = v.fence`,
    values: [jobs.map(({ id }) => id), jobs.map(({ fence }) => fence), leaseMs],
  });
}

export interface JobCompletion {
  readonly id: string;
  readonly fence: number;
  readonly status: 'completed' | 'failed';
  readonly outcome: JobOutcome;
  readonly result: Record<string, unknown> | null;
  readonly error: JobError | null;
}

/** Finishes jobs whose fence still holds. @returns the ids that were finished by this call. */
export async function finishJobs(db: Queryable, completions: readonly JobCompletion[]): Promise<Set<string>> {
  if (completions.length === 0) return new Set();
  const { rows } = await db.query<{ id: string }>({
    name: 'finish_jobs',
    text: `update jobs j set status = v.status, outcome = v.outcome, result = v.result, error = v.error,
        finished_at = clock_timestamp(), lease_until = null
      from unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[]) as v (id, fence, status, outcome, result, error)
      where j.id = v.id and j.fence = v.fence and j.status = 'active'
      returning j.id`,
    values: [
      completions.map((completion) => completion.id),
      completions.map((completion) => completion.fence),
      completions.map((completion) => completion.status),
      completions.map((completion) => completion.outcome),
      completions.map((completion) =>
        completion.result === null ? null : JSON.stringify(completion.result),
      ),
      completions.map((completion) => (completion.error === null ? null : JSON.stringify(completion.error))),
    ],
  });
  return new Set(rows.map((row) => row.id));
}

/** `refund`: this run does not count as one of the job's attempts. */
export interface Postponement {
  readonly delayMs: number;
  readonly refund: boolean;
  readonly error: JobError;
}

/**
 * Gives a claimed job back for later.
 * @param refund true when the try is not to count (throttled, or waiting for an unknown outcome).
 */
export async function postponeJob(
  db: Queryable,
  job: { readonly id: string; readonly fence: number },
  { delayMs, refund, error }: Postponement,
): Promise<{ dispatch_seq: number } | null> {
  const { rows } = await db.query<{ dispatch_seq: number }>({
    name: 'postpone_job',
    text: `update jobs set status = 'retrying', lease_until = null, available_at = now() + $3 * interval '1 millisecond',
        attempts = attempts - $4::integer, error = $5, dispatch_seq = dispatch_seq + 1,
        dispatched_at = now() + $3 * interval '1 millisecond'
      where id = $1 and fence = $2 and status = 'active' returning dispatch_seq`,
    values: [job.id, job.fence, delayMs, refund ? 1 : 0, JSON.stringify(error)],
  });
  return rows[0] ?? null;
}

export interface DueJob {
  readonly id: string;
  readonly queue: JobQueueName;
  readonly seq: number;
}

/**
 * Rows the queue seems to have lost: due, dispatched before `before` (epoch ms of this queue's oldest waiting entry, or
 * null when it has none) and at least 5 s ago. Marks them dispatched again; several relays may run at once.
 */
export async function takeLostJobs(
  db: Queryable,
  queue: JobQueueName,
  beforeMs: number | null,
  limit: number,
): Promise<DueJob[]> {
  const { rows } = await db.query<DueJob>({
    name: 'take_lost_jobs',
    text: `update jobs set dispatch_seq = dispatch_seq + 1, dispatched_at = now()
      where id in (
        select id from jobs where queue = $1 and not finished and status in ('queued', 'retrying') and available_at <= now()
          and dispatched_at < now() - interval '5 seconds'
          and ($2::double precision is null or dispatched_at < to_timestamp($2 / 1000.0) - interval '2 seconds')
        order by available_at limit $3 for update skip locked)
      returning id, queue, dispatch_seq as seq`,
    values: [queue, beforeMs, limit],
  });
  return rows;
}

/**
 * Gives back jobs whose worker died. One that was begun `poisonClaims` times without an outcome is dead: it takes
 * its workers down with it.
 */
export async function releaseAbandonedJobs(
  db: Queryable,
  poisonClaims: number,
): Promise<{ released: DueJob[]; poisoned: string[] }> {
  const { rows } = await db.query<DueJob & { poisoned: boolean }>({
    name: 'release_abandoned_jobs',
    text: `with abandoned as (
        select id, attempts >= $1 and not exists (
          select 1 from attempts a where a.job_id = jobs.id and a.state in ('open', 'unknown')) as poisoned
        from jobs where not finished and status = 'active' and lease_until < now() order by lease_until limit 500 for update skip locked)
      update jobs j set
        status = case when a.poisoned then 'failed' else 'retrying' end,
        outcome = case when a.poisoned then 'dead' end,
        finished_at = case when a.poisoned then clock_timestamp() end,
        error = jsonb_build_object('code', case when a.poisoned then 'poison' else 'worker_lost' end, 'http_status', 500, 'message',
          case when a.poisoned then 'The job was begun ' || j.attempts || ' times and no worker lived to finish it: look at the workers'' logs, then replay it.'
          else 'The worker that held the job went away; another one takes over.' end),
        lease_until = null, fence = fence + 1, available_at = now(), dispatch_seq = dispatch_seq + 1, dispatched_at = now()
      from abandoned a where j.id = a.id
      returning j.id, j.queue, j.dispatch_seq as seq, a.poisoned`,
    values: [poisonClaims],
  });
  return {
    released: rows.filter((row) => !row.poisoned).map(({ poisoned: _, ...job }) => job),
    poisoned: rows.filter((row) => row.poisoned).map((row) => row.id),
  };
}

/** Locks those of the jobs that are still claimed under their fence. @returns their ids. */
export async function lockHeldJobs(tx: Queryable, jobs: readonly ClaimedJob[]): Promise<Set<string>> {
  const { rows } = await tx.query<{ id: string }>({
    name: 'lock_held_jobs',
    text: `select j.id from jobs j join unnest($1::uuid[], $2::integer[]) as v (id, fence) on j.id = v.id and j.fence = v.fence
      where j.status = 'active' order by j.id for update of j`,
    values: [jobs.map((job) => job.id), jobs.map((job) => job.fence)],
  });
  return new Set(rows.map((row) => row.id));
}
