import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { coveredBy, selectorsParameter } from '../../shared/db/selectors-store.ts';
import type { Selectors } from '../../shared/domain/api-key.ts';
import type { JobKind, JobRow, JobStatus } from '../../shared/domain/job.ts';
import { NotFound } from '../../shared/errors.ts';
import { jobQueueNames } from '../../shared/queues/queues.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { decodeTimestampCursor, nextCursor } from '../http/page-cursor.ts';

const columns = `id, kind, queue, resource_id, decision_id, status, outcome, attempts, result, error, replay_of,
  ${iso('created_at')}, ${iso('started_at')}, ${iso('finished_at')}, ${iso('available_at')}`;

/** Of these jobs, the finished ones. */
export async function findFinishedJobs(db: Queryable, ids: readonly string[]): Promise<JobRow[]> {
  const { rows } = await db.query<JobRow>({
    name: 'find_finished_jobs',
    text: `select ${columns} from jobs where id = any ($1::uuid[]) and status in ('completed', 'failed')`,
    values: [ids],
  });
  return rows;
}

/** The id of this decision's unfinished execution job; null when there is none. */
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

/** @throws NotFound */
export async function getJob(db: Queryable, id: string): Promise<JobRow> {
  return await findOr404(findJob(db, id), () => jobNotFound(id));
}

export interface JobFilter {
  readonly status?: JobStatus | undefined;
  readonly kind?: JobKind | undefined;
  readonly resource_id?: string | undefined;
  readonly limit: number;
  readonly cursor?: string | undefined;
  /** Only jobs of the resources these cover. */
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
  const [at, id] = decodeTimestampCursor(filter.cursor);
  const { rows } = await db.query<JobRow & { exact_created_at: string }>({
    text: `select ${columns}, created_at::text as exact_created_at from jobs
      where ($1::text is null or status = $1) and ($2::text is null or kind = $2)
        and ($3::uuid is null or resource_id = $3)
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
  const cursor = nextCursor(rows, filter.limit, (row) => [row.exact_created_at, row.id]);
  return { jobs: rows.map(({ exact_created_at: _, ...job }) => job), cursor };
}

/** Unfinished jobs by queue, as PostgreSQL has them. */
export async function countUnfinished(db: Queryable): Promise<Record<string, number>> {
  const { rows } = await db.query<{ queue: string; n: string }>({
    name: 'count_unfinished',
    text: `select queue, count(*) as n from jobs where not finished group by queue`,
  });
  return Object.fromEntries(rows.map((row) => [row.queue, Number(row.n)]));
}

/** Jobs in the state queued or retrying, up to the limit of `countWaiting`. */
export interface WaitingJobs {
  readonly total: number;
  readonly executions: number;
  /** Jobs due at `since` that still wait; the others have been claimed. */
  readonly left: number;
  /** Wait of the oldest due decide job; 0 when none is due. */
  readonly oldestDecideSeconds: number;
  /** When this was read, by the database's clock, to the microsecond. */
  readonly at: string;
}

/** Waiting jobs, counted up to `maxPerQueue` in each queue. Index: jobs_unfinished. */
export async function countWaiting(
  db: Queryable,
  maxPerQueue: number,
  since: string | null,
): Promise<WaitingJobs> {
  const { rows } = await db.query<{
    total: number;
    executions: number;
    left: number;
    oldest: number;
    at: string;
  }>({
    name: 'count_waiting',
    text: `select now()::text as at, coalesce(sum(w.n), 0)::integer as total,
        coalesce(sum(w.n) filter (where q.name like 'execute-%'), 0)::integer as executions,
        coalesce(sum(w.left), 0)::integer as left,
        coalesce(max(extract(epoch from now() - w.oldest)) filter (where q.name = 'decide'), 0)::double precision
          as oldest
      from unnest($1::text[]) as q (name) cross join lateral (
        select count(*) as n, count(*) filter (where available_at <= $3::timestamptz) as left,
          min(available_at) filter (where available_at <= now()) as oldest
        from (select available_at from jobs
          where queue = q.name and not finished and status in ('queued', 'retrying')
          order by available_at limit $2) one) w`,
    values: [jobQueueNames, maxPerQueue, since],
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

/** Wait of the oldest due job, in seconds; null when none waits. Index: jobs_unfinished. */
export async function oldestWaitSeconds(db: Queryable): Promise<number | null> {
  const { rows } = await db.query<{ seconds: number | null }>({
    name: 'oldest_wait',
    text: `select extract(epoch from now() - min(available_at))::double precision as seconds from jobs
      where not finished and status in ('queued', 'retrying') and available_at <= now()`,
  });
  return rows[0]?.seconds ?? null;
}

/** The input a job was submitted with; null when there is no such job. */
export async function findJobInput(db: Queryable, id: string): Promise<Record<string, unknown> | null> {
  const { rows } = await db.query<{ input: Record<string, unknown> }>({
    name: 'find_job_input',
    text: 'select input from jobs where id = $1',
    values: [id],
  });
  return rows[0]?.input ?? null;
}
