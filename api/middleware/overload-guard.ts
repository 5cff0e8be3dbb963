import { ScalerError } from '../../shared/errors.ts';
import type { Lane } from './queue-gate.ts';

/** How long a request may wait in this process before it is shed instead. Executions may wait longer. */
const waitLimitMs: Readonly<Record<Lane, number>> = { decide: 500, execute: 1_000 };
/** Fewer requests in flight are never shed, however slow they are. */
const minInFlight = 32;
const bucketMs = 100;
const buckets = 10;
const maxRetrySeconds = 30;

interface InFlight {
  readonly at: number;
}

/**
 * Load shedding: refuses requests when the oldest in flight is over the limit, and more are in flight than were
 * answered in as long. A burst passes, and so does one slow request among quick ones; a standing queue does not.
 * Without it every response would come after its client's timeout.
 */
export class OverloadGuard {
  readonly #inFlight = new Set<InFlight>();
  /** Answers of the last second, in tenths. */
  readonly #answered = new Array<number>(buckets).fill(0);
  #bucket = 0;
  readonly #waiting: () => number;
  readonly #now: () => number;
  readonly #random: () => number;

  /**
   * @param waiting how many requests wait to be handled.
   * @param now milliseconds of a monotonic clock.
   */
  constructor(
    waiting: () => number,
    now: () => number = () => performance.now(),
    random: () => number = Math.random,
  ) {
    this.#waiting = waiting;
    this.#now = now;
    this.#random = random;
  }

  /**
   * @param arrivedAt when the request came, by the same clock.
   * @param waits the client asked to wait for its job: shed like others, but its duration is no sign of overload.
   * @returns a function to call when the request is answered, with whether it was served: refusals are quick, and
   *   would distort the measured throughput.
   * @throws ScalerError 503 with the time the queue needs.
   */
  enter(lane: Lane, waits: boolean, arrivedAt: number): (served: boolean) => void {
    const now = this.#now();
    this.#advance(now);
    const oldest = Math.min(arrivedAt, this.#oldest() ?? arrivedAt);
    const limitMs = waitLimitMs[lane];
    const held = this.#inFlight.size + this.#waiting();
    if (now - oldest > limitMs && held >= minInFlight) {
      const perSecond = this.#answered.reduce((sum, n) => sum + n, 0) / ((buckets * bucketMs) / 1_000);
      const seconds = perSecond === 0 ? maxRetrySeconds : held / perSecond;
      if (seconds * 1_000 > limitMs) throw this.#refusal(seconds);
    }
    if (waits) return () => {};
    const entry = { at: arrivedAt };
    this.#inFlight.add(entry);
    return (served) => {
      this.#inFlight.delete(entry);
      if (!served) return;
      this.#advance(this.#now());
      const index = this.#bucket % buckets;
      this.#answered[index] = (this.#answered[index] ?? 0) + 1;
    };
  }

  /** Sets keep insertion order: the first is the oldest. */
  #oldest(): number | null {
    for (const { at } of this.#inFlight) return at;
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
      retryAfterMs: Math.min(maxRetrySeconds, Math.max(1, seconds)) * (0.5 + this.#random()) * 1_000,
    });
  }
}
