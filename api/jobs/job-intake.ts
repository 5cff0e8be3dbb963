import type pg from 'pg';
import { type Idempotency, insertJobs, type NewJob } from '../../shared/db/jobs-store.ts';
import { databaseError, withTransaction } from '../../shared/db/pool.ts';
import { InvariantBroken } from '../../shared/errors.ts';
import { Batcher } from '../../shared/jobs/batcher.ts';
import { enqueue, packSize, type Queues } from '../../shared/queues/queues.ts';
import { insertIdempotencyKey, linkIdempotencyKey } from '../http/idempotency-store.ts';
import { resourceNotFound } from '../resources/resources-store.ts';
import { findRunningExecution } from './jobs-store.ts';

export type { Idempotency, NewJob } from '../../shared/db/jobs-store.ts';

/** What became of a submitted job; `replayed`: the Idempotency-Key was used before, with the same body. */
export type Submission =
  | { readonly kind: 'created'; readonly jobId: string }
  | { readonly kind: 'replayed'; readonly jobId: string }
  | { readonly kind: 'body_mismatch' }
  | { readonly kind: 'execution_running'; readonly jobId: string };

export type BatchSubmission =
  | { readonly kind: 'accepted'; readonly jobIds: readonly string[] }
  | { readonly kind: 'replayed'; readonly jobIds: readonly string[] }
  | { readonly kind: 'body_mismatch' };

/**
 * Each further try means that another execution of the decision ended meanwhile: more than two are no coincidence.
 */
const maxInsertTries = 5;

/**
 * Accepts jobs (transactional outbox): commits their rows, then enqueues them. Concurrent submissions share a commit.
 * While Redis is away jobs are delayed, never lost: the relay enqueues their rows later.
 */
export class JobIntake {
  readonly #pool: pg.Pool;
  readonly #queues: Queues;
  readonly #onQueueError: (error: unknown) => void;
  readonly #packSize: number;
  readonly #inserts: Batcher<NewJob, boolean>;
  #accepted = 0;

  /** @param decidePackSize how many decide jobs that arrive together travel as one queue entry. */
  constructor(
    pool: pg.Pool,
    queues: Queues,
    onQueueError: (error: unknown) => void,
    decidePackSize: number = packSize,
  ) {
    this.#pool = pool;
    this.#queues = queues;
    this.#onQueueError = onQueueError;
    this.#packSize = decidePackSize;
    this.#inserts = new Batcher((jobs) => this.#insertAndEnqueue(jobs));
  }

  /** Jobs this process has accepted so far. */
  get accepted(): number {
    return this.#accepted;
  }

  /**
   * @throws NotFound for a decide job whose resource does not exist.
   * @throws DependencyUnavailable when PostgreSQL is away: then the job was not accepted.
   */
  async submit(job: NewJob): Promise<Submission> {
    try {
      if (job.idempotency !== undefined) return await this.#submitIdempotent(job, job.idempotency);
      const created = await this.#inserts.add(job);
      if (created) return { kind: 'created', jobId: job.id };
    } catch (error) {
      throw databaseError(error);
    }
    return await this.#runningExecution(job);
  }

  /**
   * Accepts all jobs or none. A replayed idempotency key gets the ids of the first request.
   * @throws DependencyUnavailable when PostgreSQL is away: then none was accepted.
   */
  async submitMany(jobs: readonly NewJob[], idempotency?: Idempotency): Promise<BatchSubmission> {
    const ids = jobs.map((job) => job.id);
    try {
      const earlier = await withTransaction(this.#pool, async (tx) => {
        if (idempotency !== undefined) {
          const stored = await insertIdempotencyKey(tx, idempotency, null, { job_ids: ids });
          if (stored !== null) return stored;
        }
        const inserted = await insertJobs(tx, jobs);
        if (inserted.size !== jobs.length)
          throw new InvariantBroken('a batch of fresh job ids met existing rows');
        return null;
      });
      if (earlier !== null) {
        if (!earlier.same) return { kind: 'body_mismatch' };
        return { kind: 'replayed', jobIds: (earlier.body as { job_ids: string[] }).job_ids };
      }
    } catch (error) {
      throw databaseError(error);
    }
    await this.#enqueue(jobs);
    return { kind: 'accepted', jobIds: ids };
  }

  async #submitIdempotent(job: NewJob, idempotency: Idempotency): Promise<Submission> {
    const outcome = await withTransaction(this.#pool, async (tx): Promise<Submission> => {
      const stored = await insertIdempotencyKey(tx, idempotency, job.id, null);
      if (stored !== null)
        return stored.same ? { kind: 'replayed', jobId: stored.jobId as string } : { kind: 'body_mismatch' };
      // The execution in the way may end before it is looked up: then this one can start.
      for (let tried = 0; tried < maxInsertTries; tried++) {
        if ((await insertJobs(tx, [job])).size === 1) return { kind: 'created', jobId: job.id };
        // Thrown inside, so that the key is rolled back as well.
        if (job.kind === 'decide') throw resourceNotFound(job.resource_id);
        const running = job.decision_id === null ? null : await findRunningExecution(tx, job.decision_id);
        if (running === null) continue;
        await linkIdempotencyKey(tx, idempotency, running);
        return { kind: 'execution_running', jobId: running };
      }
      throw new InvariantBroken('a job was neither inserted nor found');
    });
    if (outcome.kind === 'created') await this.#enqueue([job]);
    return outcome;
  }

  async #runningExecution(job: NewJob): Promise<Submission> {
    if (job.kind === 'decide') throw resourceNotFound(job.resource_id);
    const running = job.decision_id === null ? null : await findRunningExecution(this.#pool, job.decision_id);
    // The execution in the way may have ended before it was looked up: then this one can start.
    if (running === null) return await this.submit(job);
    return { kind: 'execution_running', jobId: running };
  }

  async #insertAndEnqueue(jobs: readonly NewJob[]): Promise<boolean[]> {
    const inserted = await insertJobs(this.#pool, jobs);
    await this.#enqueue(jobs.filter((job) => inserted.has(job.id)));
    return jobs.map((job) => inserted.has(job.id));
  }

  async #enqueue(jobs: readonly NewJob[]): Promise<void> {
    if (jobs.length === 0) return;
    this.#accepted += jobs.length;
    try {
      await enqueue(
        this.#queues,
        jobs.map((job) => ({ id: job.id, queue: job.queue, seq: 0 })),
        this.#packSize,
      );
    } catch (error) {
      this.#onQueueError(error);
    }
  }
}
