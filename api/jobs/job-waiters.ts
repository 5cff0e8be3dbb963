import type { Redis } from 'ioredis';
import type pg from 'pg';
import { Batcher } from '../../shared/jobs/batcher.ts';
import { type FinishedJob, finishedChannel } from '../../shared/jobs/finished-jobs.ts';
import { findFinishedJobs } from './jobs-store.ts';

/** Lets requests wait for their jobs on one shared Redis subscription. */
export class JobWaiters {
  /** Concurrent lookups share one query. */
  readonly #finished: Batcher<string, FinishedJob | null>;
  readonly #waiting = new Map<string, Set<(job: FinishedJob) => void>>();

  /** @param subscriber a Redis connection of its own; it is put in subscriber mode. */
  constructor(pool: pg.Pool, subscriber: Redis, prefix: string) {
    this.#finished = new Batcher<string, FinishedJob | null>(async (ids) => {
      const found = new Map((await findFinishedJobs(pool, ids)).map((job) => [job.id, job]));
      return ids.map((id) => found.get(id) ?? null);
    });
    subscriber.on('message', (_channel, message) => this.#deliver(message));
    const subscribe = () => void subscriber.subscribe(finishedChannel(prefix)).catch(() => {});
    subscriber.on('ready', subscribe);
    if (subscriber.status === 'ready') subscribe();
  }

  /** Resolves with the finished job; null when `timeoutMs` ran out first. */
  async wait(jobId: string, timeoutMs: number): Promise<FinishedJob | null> {
    let timer: NodeJS.Timeout | undefined;
    let resolveWith: (job: FinishedJob | null) => void = () => {};
    const notified = new Promise<FinishedJob | null>((resolve) => {
      resolveWith = resolve;
      timer = setTimeout(() => resolve(null), timeoutMs);
    });
    const waiters = this.#waiting.get(jobId) ?? new Set();
    waiters.add(resolveWith);
    this.#waiting.set(jobId, waiters);
    try {
      // The job may have finished before this subscribed.
      const before = await this.#finished.add(jobId);
      if (before !== null) return before;
      return (await notified) ?? (await this.#finished.add(jobId));
    } finally {
      clearTimeout(timer);
      waiters.delete(resolveWith);
      if (waiters.size === 0) this.#waiting.delete(jobId);
    }
  }

  #deliver(message: string): void {
    let jobs: FinishedJob[];
    try {
      jobs = JSON.parse(message) as FinishedJob[];
    } catch {
      return; // A foreign message must not crash the API.
    }
    if (!Array.isArray(jobs)) return;
    for (const job of jobs) for (const resolve of this.#waiting.get(job?.id) ?? []) resolve(job);
  }
}
