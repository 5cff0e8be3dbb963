import type pg from 'pg';
import { errorMessage } from '../../shared/errors.ts';
import { Batcher } from '../../shared/jobs/batcher.ts';
import type { Logger } from '../../shared/observability/logger.ts';
import type { JobQueueName } from '../../shared/queues/queues.ts';
import { type ClaimedJob, claimJobs, renewLeases } from './jobs-store.ts';

/** Milliseconds. */
export interface LeaseTimes {
  /** How long a claim holds: the jobs of a worker that died are free again after this. */
  readonly lease: number;
  /** A fraction of the lease, so that a few renewals may fail. */
  readonly renewEvery: number;
  /** A job that takes longer is not waited for: its lease runs out, as if its worker had died. */
  readonly longest: number;
}

const leaseTimes: LeaseTimes = { lease: 12_000, renewEvery: 3_000, longest: 120_000 };

/**
 * What this worker has claimed of one queue, and keeps for as long as it works on it. A lease that ran out all the same
 * (a frozen process, PostgreSQL away) costs a second run, never a second effect: the fence of the first no longer
 * holds.
 */
export class Claims {
  readonly #pool: pg.Pool;
  readonly #logger: Logger;
  readonly #times: LeaseTimes;
  /** Jobs that arrive together are claimed by one statement. */
  readonly #claims: Batcher<string, ClaimedJob | null>;
  readonly #held = new Map<ClaimedJob, number>();
  #isRenewing = false;

  constructor(
    deps: { readonly pool: pg.Pool; readonly logger: Logger },
    queue: JobQueueName,
    times: LeaseTimes = leaseTimes,
  ) {
    this.#pool = deps.pool;
    this.#logger = deps.logger;
    this.#times = times;
    this.#claims = new Batcher(async (ids) => {
      const jobs = await claimJobs(deps.pool, [...new Set(ids)], times.lease, queue);
      const claimed = new Map(jobs.map((job) => [job.id, job]));
      // The same id twice in one batch is claimed once.
      return ids.map((id) => {
        const job = claimed.get(id) ?? null;
        claimed.delete(id);
        return job;
      });
    });
  }

  /**
   * Claims a job and holds it until `work` is over.
   * @returns null when there is nothing to claim: somebody else's, finished, or never there.
   * @throws when PostgreSQL is away, and what `work` throws.
   */
  async hold<Result>(id: string, work: (job: ClaimedJob) => Promise<Result>): Promise<Result | null> {
    const job = await this.#claims.add(id);
    if (job === null) return null;
    this.#held.set(job, performance.now());
    this.#renewLater();
    try {
      return await work(job);
    } finally {
      this.#held.delete(job);
    }
  }

  /** Most jobs are over long before their first renewal is due, so the timer runs only while jobs are held. */
  #renewLater(): void {
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    setTimeout(() => {
      void this.#renew().finally(() => {
        this.#isRenewing = false;
        if (this.#held.size > 0) this.#renewLater();
      });
    }, this.#times.renewEvery).unref();
  }

  async #renew(): Promise<void> {
    const now = performance.now();
    const { lease, renewEvery, longest } = this.#times;
    const due = [...this.#held].flatMap(([job, since]) =>
      now - since >= renewEvery / 2 && now - since < longest ? [job] : [],
    );
    if (due.length === 0) return;
    try {
      await renewLeases(this.#pool, due, lease);
    } catch (error) {
      this.#logger.debug(
        { event: 'lease.unrenewed', jobs: due.length, detail: errorMessage(error) },
        'the next turn tries again; a lease that runs out is released',
      );
    }
  }
}
