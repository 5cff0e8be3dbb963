import { type Job, UnrecoverableError } from 'bullmq';
import type pg from 'pg';
import { isDatabaseAway } from '../../shared/db/pool.ts';
import { errorMessage } from '../../shared/errors.ts';
import { publishFinished } from '../../shared/jobs/finished-jobs.ts';
import type { Logger } from '../../shared/observability/logger.ts';
import type { Metrics } from '../../shared/observability/metrics.ts';
import type { RedisConnection } from '../../shared/queues/connections.ts';
import { enqueue, type JobQueueName, jobPayloadSchema, type Queues } from '../../shared/queues/queues.ts';
import { fullJitter } from '../resilience/backoff.ts';
import type { Claims } from './claims.ts';
import {
  type ClaimedJob,
  finishJobs,
  type JobCompletion,
  type Postponement,
  postponeJob,
} from './jobs-store.ts';

export interface RunDeps {
  readonly pool: pg.Pool;
  readonly queues: Queues;
  readonly publisher: RedisConnection;
  readonly prefix: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** How one claimed job ended, for the queue's own record. */
export type JobEnd = {
  readonly id: string;
  readonly state: 'finished' | 'postponed' | 'skipped';
  readonly failure?: string;
};

/**
 * A queue entry → the rows it names → their ends. The entry only wakes a worker: a forged, duplicate or stale one
 * finds nothing to claim and ends as skipped. It fails, visibly in Bull Board, when one of its jobs failed.
 */
export async function runEntry(
  entry: Job,
  claims: Claims,
  run: (job: ClaimedJob) => Promise<JobEnd>,
): Promise<Record<string, number>> {
  const payload = jobPayloadSchema.safeParse(entry.data);
  if (!payload.success) throw new UnrecoverableError('not an entry of this service: it names no jobs');
  const ends = await Promise.all(
    payload.data.ids.map(
      async (id): Promise<JobEnd> => (await claims.hold(id, run)) ?? { id, state: 'skipped' },
    ),
  );
  const failures = ends.filter((end) => end.failure !== undefined);
  if (failures.length > 0) {
    const reasons = failures.slice(0, 5).map((end) => `${end.id}: ${end.failure}`);
    throw new UnrecoverableError(`${failures.length} of ${ends.length} failed. ${reasons.join('; ')}`);
  }
  const count = (state: JobEnd['state']) => ends.filter((end) => end.state === state).length;
  return { finished: count('finished'), postponed: count('postponed'), skipped: count('skipped') };
}

/** Reports finished jobs to metrics, log and waiting clients. */
export function reportFinished(
  deps: RunDeps,
  queue: JobQueueName,
  jobs: readonly { job: ClaimedJob; completion: JobCompletion; startedAt: number }[],
): void {
  for (const { job, completion, startedAt } of jobs) {
    deps.metrics.jobs.inc({ queue, outcome: completion.outcome });
    deps.metrics.jobDuration.observe({ queue }, (performance.now() - startedAt) / 1_000);
    if (job.fence === 1) deps.metrics.jobWait.observe({ queue }, job.waited_ms / 1_000);
    const fields = {
      event: 'job.finished',
      queue,
      jobId: job.id,
      resourceId: job.resource_id,
      requestId: job.request_id,
      outcome: completion.outcome,
      attempt: job.attempts,
    };
    if (job.kind === 'execute' && completion.error !== null)
      deps.metrics.refused.inc({ code: completion.error.code });
    if (completion.error === null) deps.logger.debug(fields);
    else deps.logger.warn({ ...fields, code: completion.error.code, detail: completion.error.message });
  }
  const awaited = jobs
    .filter(({ job }) => job.notify)
    .map(({ completion: { id, status, outcome, result, error } }) => ({
      id,
      status,
      outcome,
      result,
      error,
    }));
  publishFinished(deps.publisher, deps.prefix, awaited).catch((error: unknown) => {
    deps.logger.debug(
      { event: 'publish.failed', detail: errorMessage(error) },
      'waiting clients will read PostgreSQL instead',
    );
  });
}

/** Postpones a job and enqueues it with the delay; the relay enqueues it when Redis is away. */
export async function postponeAndEnqueue(
  deps: RunDeps,
  job: ClaimedJob,
  postponement: Postponement,
): Promise<JobEnd> {
  const { delayMs, error } = postponement;
  const postponed = await postponeJob(deps.pool, job, postponement);
  if (postponed === null) return { id: job.id, state: 'skipped' };
  deps.logger.info({
    event: 'job.postponed',
    queue: job.queue,
    jobId: job.id,
    resourceId: job.resource_id,
    code: error.code,
    delayMs: Math.round(delayMs),
    attempt: job.attempts,
  });
  try {
    await enqueue(deps.queues, [
      { id: job.id, queue: job.queue, seq: postponed.dispatch_seq, delayMs: Math.ceil(delayMs) + 5 },
    ]);
  } catch (queueError) {
    deps.logger.warn(
      { event: 'enqueue.failed', jobId: job.id, detail: errorMessage(queueError) },
      'the relay enqueues it',
    );
  }
  return { id: job.id, state: 'postponed' };
}

/**
 * An unexpected error: retries with backoff while the job has attempts left, then the job is dead, with the reason.
 * @throws when PostgreSQL is away: then the lease runs out and the job is released by upkeep.
 */
export async function afterUnexpected(deps: RunDeps, job: ClaimedJob, error: unknown): Promise<JobEnd> {
  const away = isDatabaseAway(error);
  if (!away) {
    deps.metrics.unclassified.inc({ where: job.queue });
    deps.logger.error({
      event: 'job.error',
      queue: job.queue,
      jobId: job.id,
      resourceId: job.resource_id,
      err: error,
    });
  }
  const jobError = {
    code: away ? 'database_unavailable' : 'internal_error',
    message: away ? 'PostgreSQL was away.' : `Unexpected: ${errorMessage(error)}`,
    http_status: away ? 503 : 500,
  };
  if (away || job.attempts < job.max_attempts)
    return await postponeAndEnqueue(deps, job, {
      delayMs: fullJitter(1_000, job.attempts),
      refund: away,
      error: jobError,
    });
  const completion: JobCompletion = {
    id: job.id,
    fence: job.fence,
    status: 'failed',
    outcome: 'dead',
    result: null,
    error: jobError,
  };
  await finishJobs(deps.pool, [completion]);
  return { id: job.id, state: 'finished', failure: jobError.message };
}
