import type pg from 'pg';
import { countWaiting } from '../../shared/db/jobs-repository.ts';
import { ScalerError } from '../../shared/errors.ts';

const lookEveryMs = 1_000;

/** Refuses new jobs while too many wait: a queue that only grows answers everybody too late. Looks once a second. */
export class QueueGate {
  readonly #pool: pg.Pool;
  readonly #most: number;
  #waiting = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | null = null;

  constructor(pool: pg.Pool, most: number) {
    this.#pool = pool;
    this.#most = most;
  }

  /** @throws ScalerError 503. */
  async pass(): Promise<void> {
    if (performance.now() - this.#lookedAt > lookEveryMs) {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = null;
      });
      // Those who come while it is known to be full wait for the look; the others need not.
      if (this.#waiting >= this.#most || this.#lookedAt === Number.NEGATIVE_INFINITY) await this.#looking;
    }
    if (this.#waiting < this.#most) return;
    throw new ScalerError({
      code: 'queue_full',
      message: `${this.#most} jobs or more are waiting: try again later, or add workers.`,
      retry: 'after',
      httpStatus: 503,
      retryAfterMs: 5_000,
    });
  }

  async #look(): Promise<void> {
    try {
      this.#waiting = await countWaiting(this.#pool, this.#most);
      this.#lookedAt = performance.now();
    } catch {
      // PostgreSQL is away: the request itself will say so.
      this.#waiting = 0;
    }
  }
}
