import { doubles, floats, type StateArray, type Stateful } from './state.ts';

const hourMs = 3_600_000;
/** The day has a profile of its own: shorter periods are looked for here. */
const longestMs = 12 * hourMs;
/** What happened more than about so long ago no longer counts. */
const memoryMs = 3 * 24 * hourMs;
/** How fast the usual size of changes follows. */
const sizeRate = 0.01;
/** A burst counts as so many usual changes at most: one that never comes again is no period. */
const largest = 4;
/**
 * The autocorrelation that makes a period; one that is known is kept down to a share of that, and against one hardly
 * better.
 */
const enough = 0.15;
const keptShare = 0.7;
const hardlyBetter = 0.9;
/** How many times a period must have passed before it is one. */
const fewestTimes = 3;

/**
 * Finds what comes again and again within a day, as timers and cron jobs make it: the distance at which changes of
 * demand are most alike (the highest peak of their autocorrelation, exponentially forgotten). Clocks drift and need not
 * divide a day or an hour, so no period is taken for granted.
 */
export class Recurrence implements Stateful {
  readonly #least: number;
  readonly #most: number;
  readonly #rate: number;
  readonly #every: number;
  /** Changes in units of their usual size, a ring buffer. */
  readonly #changes: Float32Array;
  /** Mean product of changes that are so many steps apart. */
  readonly #products: Float32Array;
  /** Mean square, steps, usual size, period. */
  readonly #numbers = doubles(4);

  constructor(stepMs: number, horizonSteps: number) {
    this.#most = Math.max(1, Math.round(longestMs / stepMs));
    // Within the horizon changes overlap, and are alike for that.
    this.#least = Math.max(2 * horizonSteps, 3);
    this.#rate = stepMs / memoryMs;
    this.#every = Math.max(1, Math.round(hourMs / stepMs));
    this.#changes = floats(this.#most + 1);
    this.#products = floats(this.#most + 1);
  }

  /** In steps; 0 where nothing comes again. */
  get period(): number {
    return this.#numbers[3] as number;
  }

  /** @param change of demand over the last horizon. */
  add(step: number, change: number): void {
    const numbers = this.#numbers;
    const seen = (numbers[1] as number) + 1;
    numbers[1] = seen;
    const size =
      (numbers[2] as number) + Math.max(sizeRate, 1 / seen) * (Math.abs(change) - (numbers[2] as number));
    numbers[2] = size;
    const sized = size > 0 ? Math.max(-largest, Math.min(largest, change / size)) : 0;
    const rate = Math.max(this.#rate, 1 / seen);
    numbers[0] = (numbers[0] as number) + rate * (sized * sized - (numbers[0] as number));
    this.#correlate(step, sized, rate);
    if (step % this.#every === 0) this.#choose();
  }

  #correlate(step: number, change: number, rate: number): void {
    const changes = this.#changes;
    const products = this.#products;
    const at = step % changes.length;
    for (let lag = this.#least; lag <= this.#most; lag++) {
      const before = changes[lag > at ? at - lag + changes.length : at - lag] as number;
      const mean = products[lag] as number;
      products[lag] = mean + rate * (change * before - mean);
    }
    changes[at] = change;
  }

  #choose(): void {
    const products = this.#products;
    const seen = this.#numbers[1] as number;
    const known = this.period;
    // Of few steps much is alike by chance: four standard errors.
    const bar = Math.max(enough, 4 / Math.sqrt(seen)) * (this.#numbers[0] as number);
    let lowest = products[this.#least] as number;
    let best = 0;
    let period = 0;
    let isKept = false;
    const longest = Math.min(this.#most - 1, seen / fewestTimes);
    for (let lag = this.#least + 1; lag <= longest; lag++) {
      const product = products[lag] as number;
      if (product < lowest) lowest = product;
      // Slow waves are alike at every short distance: a peak stands out from what is nearer.
      const standsOut = Math.min(product, product - lowest);
      if (lag === known) isKept = standsOut > keptShare * bar;
      const isPeak = product > (products[lag - 1] as number) && product >= (products[lag + 1] as number);
      if (!isPeak || product <= best || standsOut <= bar) continue;
      best = product;
      period = lag;
    }
    if (isKept && (products[known] as number) > hardlyBetter * best) return;
    this.#numbers[3] = period;
  }

  state(): readonly StateArray[] {
    return [this.#changes, this.#products, this.#numbers];
  }
}
