import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';
import { ScalerError } from '../../shared/errors.ts';
import type { RedisConnection } from '../../shared/queues/connections.ts';

/** A process leases this share of a minute's requests from Redis at once, instead of asking for each request. */
const leaseShare = 1 / 200;
/**
 * Limits from 600 a minute up are counted in windows of 10 s: a burst exhausts a sixth of a minute's requests, and
 * the client may go on after seconds. A smaller limit in a short window would refuse harmless bursts.
 */
const shortWindowSeconds = 10;
const shortWindowMinLimit = 600;
const maxCachedKeys = 10_000;
const retryJitterMs = 3_000;

interface Lease {
  left: number;
  until: number;
}

/**
 * Requests a minute by key, counted in Redis for all API processes. While Redis is away each of the `replicas` allows
 * its share, so requests are never unlimited. Counted in leases: a process that stops loses up to 0.5 % of a minute's
 * requests.
 */
export class RateLimit {
  readonly #limiter: RateLimiterRedis;
  readonly #leaseSize: number;
  readonly #leases = new Map<string, Lease>();
  readonly #exhaustedUntil = new Map<string, number>();
  readonly #pending = new Map<string, Promise<void>>();

  constructor(redis: RedisConnection, keyPrefix: string, perMinute: number, replicas = 1) {
    const share = Math.max(1, Math.floor(perMinute / replicas));
    this.#leaseSize = Math.max(1, Math.floor(share * leaseShare));
    const duration = perMinute >= shortWindowMinLimit ? shortWindowSeconds : 60;
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

  /** Whether this process knows the key's window to be exhausted; does not ask Redis. */
  isExhausted(key: string): boolean {
    return (this.#exhaustedUntil.get(key) ?? 0) > performance.now();
  }

  /** Counts one request. @throws ScalerError 429 with the time to wait. */
  async consume(key: string): Promise<void> {
    for (;;) {
      const lease = this.#leases.get(key);
      if (lease !== undefined && lease.left > 0 && lease.until > performance.now()) {
        lease.left--;
        return;
      }
      // Concurrent requests share one lease.
      let pending = this.#pending.get(key);
      if (pending === undefined) {
        pending = this.#acquireLease(key).finally(() => this.#pending.delete(key));
        this.#pending.set(key, pending);
      }
      await pending;
    }
  }

  async #acquireLease(key: string): Promise<void> {
    try {
      const { msBeforeNext } = await this.#limiter.consume(key, this.#leaseSize);
      if (this.#leases.size >= maxCachedKeys) this.#leases.clear();
      this.#leases.set(key, { left: this.#leaseSize, until: performance.now() + Math.max(1, msBeforeNext) });
    } catch (error) {
      if (!(error instanceof RateLimiterRes)) {
        // Neither Redis nor memory could count: this request passes, and the next tries again.
        this.#leases.set(key, { left: 1, until: performance.now() + 1_000 });
        return;
      }
      if (this.#exhaustedUntil.size >= maxCachedKeys) this.#exhaustedUntil.clear();
      this.#exhaustedUntil.set(key, performance.now() + error.msBeforeNext);
      throw tooManyRequests(error.msBeforeNext);
    }
  }
}

/** 429. @param waitMs until the window ends. */
export function tooManyRequests(waitMs: number): ScalerError {
  return new ScalerError({
    code: 'rate_limited',
    message: 'Too many requests: slow down.',
    retry: 'after',
    httpStatus: 429,
    // Jitter, or all clients refused in a window would come back together at its end.
    retryAfterMs: Math.max(1_000, waitMs) + Math.random() * retryJitterMs,
  });
}
