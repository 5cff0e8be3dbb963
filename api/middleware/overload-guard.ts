import { ScalerError } from '../../shared/errors.ts';
import type { Lane } from './queue-gate.ts';

/** What a request may expect to wait in this process before it is refused instead. Executions may wait longer. */
const waitLimitMs: Readonly<Record<Lane, number>> = { decide: 500, execute: 1_000 };
/** So few are never a queue, however slow. */
const fewInFlight = 32;
const bucketMs = 100;
const buckets = 10;
const longestRetrySeconds = 30;

interface Visit {
  readonly at: number;
}

/**
 * Refuses requests this process cannot answer soon: when the oldest it holds is over the limit, and those it holds are more
 * than it answered in as long. A burst it can work off passes, and so does one slow request among quick ones; a queue that
 * stands does not. Without it every answer would come, but after its client had given up.
 */
export class OverloadGuard {
  readonly #inside = new Set<Visit>();
  /** Answers of the last second, in tenths. */
  readonly #answered = new Array<number>(buckets).fill(0);
  #bucket = 0;
  readonly #notBegun: () => number;
  readonly #now: () => number;
  readonly #random: () => number;

  /**
   * @param notBegun how many requests have come that did not enter yet.
   * @param now milliseconds of a monotonic clock.
   */
  constructor(
    notBegun: () => number,
    now: () => number = () => performance.now(),
    random: () => number = Math.random,
  ) {
    this.#notBegun = notBegun;
    this.#now = now;
    this.#random = random;
  }

  /**
   * @param arrivedAt when the request came, by the same clock.
   * @param waits the client asked to wait for its job: such a request is refused like others, but is no sign of a queue.
   * @returns to be called when the request is answered, and told whether it was served: refusals are quick, and say nothing
   *   of how fast the queue moves. @throws ScalerError 503 with the time the queue needs.
   */
  enter(lane: Lane, waits: boolean, arrivedAt: number): (served: boolean) => void {
    const now = this.#now();
    this.#advance(now);
    const oldest = Math.min(arrivedAt, this.#oldest() ?? arrivedAt);
    const limitMs = waitLimitMs[lane];
    const held = this.#inside.size + this.#notBegun();
    if (now - oldest > limitMs && held >= fewInFlight) {
      const perSecond = this.#answered.reduce((sum, n) => sum + n, 0) / ((buckets * bucketMs) / 1_000);
      const seconds = perSecond === 0 ? longestRetrySeconds : held / perSecond;
      if (seconds * 1_000 > limitMs) throw this.#refusal(seconds);
    }
    if (waits) return () => {};
    const visit = { at: arrivedAt };
    this.#inside.add(visit);
    return (served) => {
      this.#inside.delete(visit);
      if (!served) return;
      this.#advance(this.#now());
      const index = this.#bucket % buckets;
      this.#answered[index] = (this.#answered[index] ?? 0) + 1;
    };
  }

  /** Sets keep the order of insertion: the first is the oldest. */
  #oldest(): number | null {
    for (const { at } of this.#inside) return at;
    return null;
  }

  #advance(now: number): void {
    const bucket = Math.floor(now / bucketMs);
    const steps = Math.min(buckets, bucket - this.#bucket);
    for (let step = 1; step <= steps; step++) this.#answered[(bucket - steps + step) % buckets] = 0;
    this.#bucket = bucket;
  }

  #refusal(seconds: number): ScalerError {
    return new ScalerError({
      code: 'overloaded',
      message:
        'This process has more requests than it can answer soon: try again later, or add API processes.',
      retry: 'after',
      httpStatus: 503,
      retryAfterMs: Math.min(longestRetrySeconds, Math.max(1, seconds)) * (0.5 + this.#random()) * 1_000,
    });
  }
}
