import type { Redis } from 'ioredis';
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { ScalerError } from '../../shared/errors.ts';

/** A process asks Redis once for this share of a minute's requests, not once a request. */
const leaseShare = 1 / 200;
/**
 * Large limits are counted in short windows: a burst can use up a sixth of a minute's requests at once, not all of them,
 * and whoever went too far is heard again after seconds. A small limit in a short window would refuse harmless bursts.
 */
const shortWindowSeconds = 10;
const shortWindowFrom = 600;
const mostHeld = 10_000;
const spreadMs = 3_000;

interface Lease {
  left: number;
  until: number;
}

/**
 * Requests a minute, counted by key in Redis for all API processes; while Redis is away each of the `replicas` allows its
 * share: never unlimited. Counted in leases, so a process that stops may take half a percent of a minute with it.
 */
export class RateLimit {
  readonly #limiter: RateLimiterRedis;
  readonly #leaseSize: number;
  readonly #leases = new Map<string, Lease>();
  readonly #usedUpUntil = new Map<string, number>();
  readonly #asking = new Map<string, Promise<void>>();

  constructor(redis: Redis, keyPrefix: string, perMinute: number, replicas = 1) {
    const share = Math.max(1, Math.floor(perMinute / replicas));
    this.#leaseSize = Math.max(1, Math.floor(share * leaseShare));
    const duration = perMinute >= shortWindowFrom ? shortWindowSeconds : 60;
    const inWindow = (requests: number) => Math.max(1, Math.floor((requests * duration) / 60));
    this.#limiter = new RateLimiterRedis({
      storeClient: redis,
      keyPrefix,
      points: inWindow(perMinute),
      duration,
      insuranceLimiter: new RateLimiterMemory({ keyPrefix, points: inWindow(share), duration }),
      inMemoryBlockOnConsumed: inWindow(perMinute) + 1,
    });
  }

  /** True while the key is known to have used up its window; asks nobody. */
  isUsedUp(key: string): boolean {
    return (this.#usedUpUntil.get(key) ?? 0) > performance.now();
  }

  /** @throws ScalerError 429 with the time to wait. */
  async consume(key: string): Promise<void> {
    for (;;) {
      const lease = this.#leases.get(key);
      if (lease !== undefined && lease.left > 0 && lease.until > performance.now()) {
        lease.left--;
        return;
      }
      // Those who come meanwhile share the answer.
      let asking = this.#asking.get(key);
      if (asking === undefined) {
        asking = this.#ask(key).finally(() => this.#asking.delete(key));
        this.#asking.set(key, asking);
      }
      await asking;
    }
  }

  async #ask(key: string): Promise<void> {
    try {
      const { msBeforeNext } = await this.#limiter.consume(key, this.#leaseSize);
      if (this.#leases.size >= mostHeld) this.#leases.clear();
      this.#leases.set(key, { left: this.#leaseSize, until: performance.now() + Math.max(1, msBeforeNext) });
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) {
        // Neither Redis nor memory could count: one request passes, and the next asks again.
        this.#leases.set(key, { left: 1, until: performance.now() + 1_000 });
        return;
      }
      if (this.#usedUpUntil.size >= mostHeld) this.#usedUpUntil.clear();
      this.#usedUpUntil.set(key, performance.now() + error.msBeforeNext);
      throw tooManyRequests(error.msBeforeNext);
    }
  }
}

export function tooManyRequests(waitMs: number): ScalerError {
  return new ScalerError({
    code: 'rate_limited',
    message: 'Too many requests: slow down.',
    retry: 'after',
    httpStatus: 429,
    // All that are refused in a window would come back at its end together: they are spread over some seconds more.
    retryAfterMs: Math.max(1_000, waitMs) + Math.random() * spreadMs,
  });
}
