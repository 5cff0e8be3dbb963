import type pg from 'pg';
import { ScalerError } from '../../shared/errors.ts';
import { countWaiting, type WaitingJobs } from '../jobs/jobs-store.ts';

/** What a request asks for: executions go on when decisions are refused already. */
export type Lane = 'decide' | 'execute';

const lookEveryMs = 1_000;
/** While it is full it looks more often, so that it opens in small steps; but never spends more than a tenth on looking. */
const lookAgainMs = 100;
const lookShare = 10;
/** A decision that waits longer is made from what nobody means any more; its job ends at 15 minutes anyway. */
const longestWaitSeconds = 300;
const drainMemoryMs = 5_000;
const longestRetrySeconds = 60;
const unknownRetrySeconds = 5;

/**
 * Refuses new jobs while too many wait, or wait too long: a queue that only grows answers everybody too late. Decisions
 * and all else that computes are refused when `most` jobs of any kind wait; executions only when as many executions do,
 * so a flood of questions never holds back an action. What this process accepted since it last looked counts.
 */
export class QueueGate {
  readonly #pool: pg.Pool;
  readonly #most: number;
  readonly #accepted: () => number;
  readonly #random: () => number;
  #seen: WaitingJobs | null = null;
  #acceptedWhenSeen = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #lookMs = 0;
  #drainPerSecond: number | null = null;
  #looking: Promise<void> | null = null;

  /**
   * @param most jobs that may wait.
   * @param accepted how many jobs this process has accepted so far; only its growth is looked at.
   */
  constructor(pool: pg.Pool, most: number, accepted: () => number, random: () => number = Math.random) {
    this.#pool = pool;
    this.#most = most;
    this.#accepted = accepted;
    this.#random = random;
  }

  /** @throws ScalerError 503 with the time the backlog needs to drain. */
  async pass(lane: Lane): Promise<void> {
    const age = performance.now() - this.#lookedAt;
    const closed = this.#isClosed(lane);
    if (age > (closed ? Math.max(lookAgainMs, this.#lookMs * lookShare) : lookEveryMs)) {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = null;
      });
      // What is known is too old to refuse by; those who may pass need not wait.
      if ((closed && age > lookEveryMs) || age === Number.POSITIVE_INFINITY) await this.#looking;
    }
    if (!this.#isClosed(lane)) return;
    throw new ScalerError({
      code: 'queue_full',
      message: `Too many jobs are waiting (limit ${this.#most} jobs, ${longestWaitSeconds} s): try again later, or add workers.`,
      retry: 'after',
      httpStatus: 503,
      retryAfterMs: this.#retryAfterSeconds() * 1_000,
    });
  }

  #isClosed(lane: Lane): boolean {
    if (this.#seen === null) return false;
    if (lane === 'execute') return this.#seen.executions >= this.#most;
    const since = this.#accepted() - this.#acceptedWhenSeen;
    return this.#seen.total + since >= this.#most || this.#seen.oldestDecideSeconds > longestWaitSeconds;
  }

  /** Depth ÷ drain rate, give or take half: clients that were refused together must not come back together. */
  #retryAfterSeconds(): number {
    const depth = this.#seen?.total ?? 0;
    const rate = this.#drainPerSecond;
    const seconds = rate === null ? unknownRetrySeconds : rate <= 0 ? longestRetrySeconds : depth / rate;
    return Math.min(longestRetrySeconds, Math.max(1, seconds)) * (0.5 + this.#random());
  }

  async #look(): Promise<void> {
    const startedAt = performance.now();
    const accepted = this.#accepted();
    try {
      const before = this.#seen;
      // Twice as many: several API processes may have passed the limit together.
      const seen = await countWaiting(this.#pool, this.#most * 2, before?.at ?? null);
      const elapsedMs = startedAt - this.#lookedAt;
      if (before !== null) this.#learnDrain(before.total - seen.left, seen.left === 0, elapsedMs);
      this.#seen = seen;
      this.#acceptedWhenSeen = accepted;
    } catch {
      // PostgreSQL is away, which the request itself will say, or too busy: then what was seen last still holds.
    }
    this.#lookedAt = startedAt;
    this.#lookMs = performance.now() - startedAt;
  }

  /** @param emptied nothing was left: the workers could have taken more. */
  #learnDrain(taken: number, emptied: boolean, elapsedMs: number): void {
    const perSecond = taken / (elapsedMs / 1_000);
    const known = this.#drainPerSecond;
    if (emptied && perSecond <= (known ?? 0)) return;
    const weight = 1 - Math.exp(-elapsedMs / drainMemoryMs);
    this.#drainPerSecond = known === null ? perSecond : known + weight * (perSecond - known);
  }
}
