import type { Selectors } from '../domain/api-key.ts';
import { workerVersion } from '../domain/worker-version.ts';
import { NotFound } from '../errors.ts';
import { type JobQueueName, jobQueueNames } from '../queues/queues.ts';
import { iso } from './iso-column.ts';
import { decodeCursor, encodeCursor } from './page-cursor.ts';
import type { Queryable } from './pool.ts';
import { coveredBy, selectorsParameter } from './selectors-repository.ts';

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

export interface NewJob {
  readonly id: string;
  readonly kind: JobKind;
  readonly queue: JobQueueName;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly input: Record<string, unknown>;
  readonly notify: boolean;
  /** Milliseconds from acceptance until the job is no longer worth doing. */
  readonly deadlineMs: number;
  readonly actor_key_id: string;
  readonly request_id: string;
  readonly remote_address: string | null;
  readonly replay_of?: string;
  readonly idempotency?: Idempotency;
}

export interface Idempotency {
  readonly key_id: string;
  readonly route: string;
  readonly key: string;
  readonly body_hash: Buffer;
}

const columns = `id, kind, queue, resource_id, decision_id, status, outcome, attempts, result, error, replay_of,
  ${iso('created_at')}, ${iso('started_at')}, ${iso('finished_at')}, ${iso('available_at')}`;

/**
 * Inserts jobs in one statement. Left out of the answer are ids that exist, second executions of a decision, and decide
 * jobs of resources that do not exist.
 */
export async function insertJobs(db: Queryable, jobs: readonly NewJob[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'insert_jobs',
    text: `insert into jobs (id, kind, queue, resource_id, decision_id, input, notify, deadline_at, actor_key_id, request_id, remote_address, replay_of)
      select j.id, j.kind, j.queue, j.resource_id, j.decision_id, j.input, j.notify, now() + j.deadline_ms * interval '1 millisecond',
        j.actor_key_id, j.request_id, j.remote_address, j.replay_of
      from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::jsonb[], $7::boolean[], $8::double precision[],
        $9::text[], $10::text[], $11::text[], $12::uuid[])
        as j (id, kind, queue, resource_id, decision_id, input, notify, deadline_ms, actor_key_id, request_id, remote_address, replay_of)
      where j.kind <> 'decide' or exists (select 1 from resources r where r.id = j.resource_id)
      on conflict do nothing
      returning id`,
    values: [
      jobs.map((job) => job.id),
      jobs.map((job) => job.kind),
      jobs.map((job) => job.queue),
      jobs.map((job) => job.resource_id),
      jobs.map((job) => job.decision_id),
      jobs.map((job) => JSON.stringify(job.input)),
      jobs.map((job) => job.notify),
      jobs.map((job) => job.deadlineMs),
      jobs.map((job) => job.actor_key_id),
      jobs.map((job) => job.request_id),
      jobs.map((job) => job.remote_address),
      jobs.map((job) => job.replay_of ?? null),
    ],
  });
  return new Set(rows.map((row) => row.id));
}

/** Those of the jobs that are finished. */
export async function findFinishedJobs(db: Queryable, ids: readonly string[]): Promise<JobRow[]> {
  const { rows } = await db.query<JobRow>({
    name: 'find_finished_jobs',
    text: `select ${columns} from jobs where id = any ($1::uuid[]) and status in ('completed', 'failed')`,
    values: [ids],
  });
  return rows;
}

/** The execution of this decision that is not finished, if there is one. */
export async function findRunningExecution(db: Queryable, decisionId: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>({
    name: 'find_running_execution',
    text: `select id from jobs where decision_id = $1 and kind = 'execute' and not finished`,
    values: [decisionId],
  });
  return rows[0]?.id ?? null;
}

export async function findJob(db: Queryable, id: string): Promise<JobRow | null> {
  const { rows } = await db.query<JobRow>({
    name: 'find_job',
    text: `select ${columns} from jobs where id = $1`,
    values: [id],
  });
  return rows[0] ?? null;
}

export interface JobFilter {
  readonly status?: JobStatus | undefined;
  readonly kind?: JobKind | undefined;
  readonly resource_id?: string | undefined;
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** Only jobs of resources these cover. */
  readonly selectors?: Selectors;
}

export function jobNotFound(id: string): NotFound {
  return new NotFound('job_not_found', `There is no job ${id}.`);
}

/** Newest first. Index: jobs_listing, or jobs_by_resource. */
export async function listJobs(
  db: Queryable,
  filter: JobFilter,
): Promise<{ jobs: JobRow[]; cursor: string | null }> {
  const [at, id] = filter.cursor === undefined ? [null, null] : decodeCursor(filter.cursor, 'moment');
  const { rows } = await db.query<JobRow & { exact_created_at: string }>({
    text: `select ${columns}, created_at::text as exact_created_at from jobs
      where ($1::text is null or status = $1) and ($2::text is null or kind = $2) and ($3::uuid is null or resource_id = $3)
        and ($4::timestamptz is null or (jobs.created_at, jobs.id) < ($4, $5::uuid))
        and ${coveredBy('$7', 'jobs.resource_id')}
      order by jobs.created_at desc, jobs.id desc limit $6`,
    values: [
      filter.status ?? null,
      filter.kind ?? null,
      filter.resource_id ?? null,
      at,
      id,
      filter.limit,
      selectorsParameter(filter.selectors),
    ],
  });
  const last = rows.at(-1);
  const cursor =
    rows.length < filter.limit || last === undefined ? null : encodeCursor([last.exact_created_at, last.id]);
  return { jobs: rows.map(({ exact_created_at: _, ...job }) => job), cursor };
}

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

/** Keeps claimed jobs claimed for `leaseMs` more. One whose fence no longer holds is somebody else's by now, and stays so. */
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

/**
 * Gives a claimed job back for later.
 * @param refund true when the try is not to count (throttled, or waiting for an unknown outcome).
 */
export async function postponeJob(
  db: Queryable,
  job: { readonly id: string; readonly fence: number },
  delayMs: number,
  refund: boolean,
  error: JobError,
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

/** Unfinished jobs by queue, as PostgreSQL has them. */
export async function countUnfinished(db: Queryable): Promise<Record<string, number>> {
  const { rows } = await db.query<{ queue: string; n: string }>({
    name: 'count_unfinished',
    text: `select queue, count(*) as n from jobs where not finished group by queue`,
  });
  return Object.fromEntries(rows.map((row) => [row.queue, Number(row.n)]));
}

export interface WaitingJobs {
  readonly total: number;
  readonly executions: number;
  /** Of those that were due at `since`, how many still wait: the others have been taken. */
  readonly left: number;
  /** How long the decide job that is due longest has waited; 0 when none is due. */
  readonly oldestDecideSeconds: number;
  /** When this was seen, by the database's clock, to the microsecond. */
  readonly at: string;
}

/** How many jobs wait, counted up to `most` a queue. Index: jobs_unfinished. */
export async function countWaiting(db: Queryable, most: number, since: string | null): Promise<WaitingJobs> {
  const { rows } = await db.query<{
    total: number;
    executions: number;
    left: number;
    oldest: number;
    at: string;
  }>({
    name: 'count_waiting',
    text: `select now()::text as at, coalesce(sum(w.n), 0)::integer as total,
        coalesce(sum(w.n) filter (where q.name like 'execute-%'), 0)::integer as executions, coalesce(sum(w.left), 0)::integer as left,
        coalesce(max(extract(epoch from now() - w.oldest)) filter (where q.name = 'decide'), 0)::double precision as oldest
      from unnest($1::text[]) as q (name) cross join lateral (
        select count(*) as n, count(*) filter (where available_at <= $3::timestamptz) as left,
          min(available_at) filter (where available_at <= now()) as oldest
        from (select available_at from jobs where queue = q.name and not finished and status in ('queued', 'retrying')
          order by available_at limit $2) one) w`,
    values: [jobQueueNames, most, since],
  });
  const row = rows[0] as (typeof rows)[number];
  return {
    total: row.total,
    executions: row.executions,
    left: row.left,
    oldestDecideSeconds: row.oldest,
    at: row.at,
  };
}

/** How long the longest-waiting due job has waited, in seconds; null when none waits. Index: jobs_unfinished. */
export async function oldestWaitSeconds(db: Queryable): Promise<number | null> {
  const { rows } = await db.query<{ seconds: number | null }>({
    name: 'oldest_wait',
    text: `select extract(epoch from now() - min(available_at))::double precision as seconds from jobs
      where not finished and status in ('queued', 'retrying') and available_at <= now()`,
  });
  return rows[0]?.seconds ?? null;
}
