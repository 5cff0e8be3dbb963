import type { Redis } from 'ioredis';
import type pg from 'pg';
import { findFinishedJobs, type JobRow } from '../db/jobs-repository.ts';
import { Batcher } from './batcher.ts';

export type FinishedJob = Pick<JobRow, 'id' | 'status' | 'outcome' | 'result' | 'error'>;

/** Where workers tell that awaited jobs are finished. */
export function finishedChannel(prefix: string): string {
  return `${prefix}:finished`;
}

/** One message per batch, sent after the commit. Fire and forget: a waiter that misses it reads PostgreSQL. */
export async function publishFinished(
  redis: Redis,
  prefix: string,
  jobs: readonly FinishedJob[],
): Promise<void> {
  if (jobs.length > 0) await redis.publish(finishedChannel(prefix), JSON.stringify(jobs));
}

/** Lets requests wait for their jobs on one shared subscription. */
export class JobWaiters {
  /** Looks are shared by those who look at the same moment. */
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

  /** Resolves with the finished job, or null when `timeoutMs` ran out first. */
  async wait(jobId: string, timeoutMs: number): Promise<FinishedJob | null> {
    let timer: NodeJS.Timeout | undefined;
    let resolveWith: (job: FinishedJob | null) => void = () => {};
    const told = new Promise<FinishedJob | null>((resolve) => {
      resolveWith = resolve;
      timer = setTimeout(() => resolve(null), timeoutMs);
    });
    const waiters = this.#waiting.get(jobId) ?? new Set();
    waiters.add(resolveWith);
    this.#waiting.set(jobId, waiters);
    try {
      // The job may have finished before we listened.
      const before = await this.#finished.add(jobId);
      if (before !== null) return before;
      return (await told) ?? (await this.#finished.add(jobId));
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
      return; // Not ours: whoever can write to Redis must not be able to crash the API.
    }
    if (!Array.isArray(jobs)) return;
    for (const job of jobs) for (const resolve of this.#waiting.get(job?.id) ?? []) resolve(job);
  }
}
