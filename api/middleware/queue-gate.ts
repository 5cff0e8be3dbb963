import type pg from 'pg';
import { ScalerError } from '../../shared/errors.ts';
import { countWaiting, type WaitingJobs } from '../jobs/jobs-store.ts';

/** Priority class of a request: executions still pass when decisions are refused. */
export type Lane = 'decide' | 'execute';

const pollMs = 1_000;
/** While closed it polls more often, so that it opens in small steps; but polls for at most a tenth of the time. */
const closedPollMs = 100;
const pollTimeFactor = 10;
/** A decision that waits longer is stale when it is made; its job's deadline is 15 minutes. */
const maxWaitSeconds = 300;
/** Time constant of the moving average of the drain rate. */
const drainAverageMs = 5_000;
const maxRetrySeconds = 60;
const defaultRetrySeconds = 5;

/**
 * Admission control by queue depth: refuses new jobs while too many wait, or wait too long. Decisions and other
 * computations are refused when `maxWaiting` jobs of any kind wait; executions only when as many executions do, so a
 * flood of decisions never blocks an execution. Jobs this process accepted since the last poll count as waiting.
 */
export class QueueGate {
  readonly #pool: pg.Pool;
  readonly #maxWaiting: number;
  readonly #accepted: () => number;
  readonly #random: () => number;
  #waiting: WaitingJobs | null = null;
  #acceptedAtPoll = 0;
  #polledAt = Number.NEGATIVE_INFINITY;
  #pollDurationMs = 0;
  #drainPerSecond: number | null = null;
  #polling: Promise<void> | null = null;

  /**
   * @param maxWaiting jobs that may wait.
   * @param accepted how many jobs this process has accepted so far; only its growth counts.
   */
  constructor(pool: pg.Pool, maxWaiting: number, accepted: () => number, random: () => number = Math.random) {
    this.#pool = pool;
    this.#maxWaiting = maxWaiting;
    this.#accepted = accepted;
    this.#random = random;
  }

  /** Lets a request through. @throws ScalerError 503 with the time the backlog needs to drain. */
  async pass(lane: Lane): Promise<void> {
    const age = performance.now() - this.#polledAt;
    const closed = this.#isClosed(lane);
    if (age > (closed ? Math.max(closedPollMs, this.#pollDurationMs * pollTimeFactor) : pollMs)) {
      this.#polling ??= this.#poll().finally(() => {
        this.#polling = null;
      });
      // A refusal needs a fresh count; what may pass need not wait for one.
      if ((closed && age > pollMs) || age === Number.POSITIVE_INFINITY) await this.#polling;
    }
    if (!this.#isClosed(lane)) return;
    throw new ScalerError({
      code: 'queue_full',
      message:
        `Too many jobs are waiting (limit ${this.#maxWaiting} jobs, ${maxWaitSeconds} s): ` +
        'try again later, or add workers.',
      retry: 'after',
      httpStatus: 503,
      retryAfterMs: this.#retryAfterSeconds() * 1_000,
    });
  }

  #isClosed(lane: Lane): boolean {
    if (this.#waiting === null) return false;
    if (lane === 'execute') return this.#waiting.executions >= this.#maxWaiting;
    const since = this.#accepted() - this.#acceptedAtPoll;
    return (
      this.#waiting.total + since >= this.#maxWaiting || this.#waiting.oldestDecideSeconds > maxWaitSeconds
    );
  }

  /** Depth ÷ drain rate, with ±50 % jitter: clients refused together must not come back together. */
  #retryAfterSeconds(): number {
    const depth = this.#waiting?.total ?? 0;
    const rate = this.#drainPerSecond;
    const seconds = rate === null ? defaultRetrySeconds : rate <= 0 ? maxRetrySeconds : depth / rate;
    return Math.min(maxRetrySeconds, Math.max(1, seconds)) * (0.5 + this.#random());
  }

  async #poll(): Promise<void> {
    const startedAt = performance.now();
    const accepted = this.#accepted();
    try {
      const before = this.#waiting;
      // Twice the limit: several API processes may have passed it together.
      const seen = await countWaiting(this.#pool, this.#maxWaiting * 2, before?.at ?? null);
      const elapsedMs = startedAt - this.#polledAt;
      if (before !== null) this.#averageDrain(before.total - seen.left, seen.left === 0, elapsedMs);
      this.#waiting = seen;
      this.#acceptedAtPoll = accepted;
    } catch {
      // PostgreSQL is away, which the request itself will report, or too busy: the last count stays in force.
    }
    this.#polledAt = startedAt;
    this.#pollDurationMs = performance.now() - startedAt;
  }

  /** @param emptied nothing was left, so the rate is only a lower bound of what the workers can do. */
  #averageDrain(taken: number, emptied: boolean, elapsedMs: number): void {
    const perSecond = taken / (elapsedMs / 1_000);
    const known = this.#drainPerSecond;
    if (emptied && perSecond <= (known ?? 0)) return;
    const weight = 1 - Math.exp(-elapsedMs / drainAverageMs);
    this.#drainPerSecond = known === null ? perSecond : known + weight * (perSecond - known);
  }
}
