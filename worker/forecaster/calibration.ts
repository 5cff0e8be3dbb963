import { doubles, floats, type StateArray, type Stateful } from './state.ts';

/** The probabilities at which the distribution of demand is kept. */
export const levels: readonly number[] = [
  0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.965, 0.975, 0.985, 0.992,
  0.997,
];

/** Where outcomes are counted: below a quarter of the lowest level, and below each level. */
const thresholds: readonly number[] = [(levels[0] as number) / 4, ...levels];

/** A millionth more or less is the arithmetic's, not the demand's. */
const roundingNoise = 1e-6;

/** Under so many outcomes what the bounds say is taken as it is. */
const enoughOutcomes = 50;

/**
 * Learns where outcomes fell within the distributions that were forecast, so that a probability that is stated is as
 * often right as it says: the recalibration of Kuleshov, Fenner and Ermon, "Accurate Uncertainties for Deep Learning
 * Using Calibrated Regression" (ICML 2018), over a sliding week.
 */
export class Calibration implements Stateful {
  /**
   * Probability integral transforms: the stated probability of not more than what then came. Where quantiles are equal,
   * as on a flat line, the lowest of them counts: what came was at or under all of them. 0 is what came under the
   * lowest.
   */
  readonly #outcomes: Float32Array;
  /** How many outcomes are below each threshold; then how many there are, and where the next goes. */
  readonly #counts = doubles(thresholds.length + 2);
  /** The distributions of the last horizon, a row a step. */
  readonly #rows: Float64Array;
  readonly #cursor = doubles(1);

  constructor(horizonSteps: number, windowSize: number) {
    this.#outcomes = floats(windowSize);
    this.#rows = doubles(horizonSteps * levels.length).fill(Number.NaN);
  }

  /**
   * @param quantileAt the demand that is not exceeded with the probability `levels[index]`, by the distribution
   * forecast now.
   */
  update(demand: number, counted: boolean, quantileAt: (index: number) => number): void {
    const rows = this.#rows;
    const at = (this.#cursor[0] as number) * levels.length;
    const known = !Number.isNaN(rows[at] as number);
    if (counted && known) this.#count(placeOf(demand, rows, at));
    for (let index = 0; index < levels.length; index++) rows[at + index] = quantileAt(index);
    this.#cursor[0] = at + levels.length === rows.length ? 0 : (this.#cursor[0] as number) + 1;
  }

  /** Takes an outcome in, and the oldest out. Counting is all that is asked of them, so they need not be sorted. */
  #count(place: number): void {
    const counts = this.#counts;
    const outcomes = this.#outcomes;
    const size = counts[thresholds.length] as number;
    const at = counts[thresholds.length + 1] as number;
    const oldest = size === outcomes.length ? (outcomes[at] as number) : Number.POSITIVE_INFINITY;
    outcomes[at] = place;
    const newest = outcomes[at] as number;
    for (let index = 0; index < thresholds.length; index++) {
      const threshold = thresholds[index] as number;
      if (newest < threshold) counts[index] = (counts[index] as number) + 1;
      if (oldest < threshold) counts[index] = (counts[index] as number) - 1;
    }
    if (size < outcomes.length) counts[thresholds.length] = size + 1;
    counts[thresholds.length + 1] = at + 1 === outcomes.length ? 0 : at + 1;
  }

  /** The quantile of the newest distribution at `levels[index]`. */
  newestAt(index: number): number {
    const cursor = this.#cursor[0] as number;
    const row = cursor === 0 ? this.#rows.length / levels.length - 1 : cursor - 1;
    return this.#rows[row * levels.length + index] as number;
  }

  /** How often outcomes were under the lowest of the distribution: less than at or under it where demand is flat. */
  get underLowest(): number {
    return this.#shareBelow(0, levels[0] as number);
  }

  /** How often outcomes were at or under what was given the probability `levels[index]`. */
  calibratedAt(index: number): number {
    return this.#shareBelow(index + 1, levels[index] as number);
  }

  #shareBelow(threshold: number, stated: number): number {
    const size = this.#counts[thresholds.length] as number;
    return size < enoughOutcomes ? stated : ((this.#counts[threshold] as number) + 0.5) / (size + 1);
  }

  state(): readonly StateArray[] {
    return [this.#outcomes, this.#counts, this.#rows, this.#cursor];
  }
}

function placeOf(demand: number, rows: Float64Array, from: number): number {
  const noise = roundingNoise * Math.max(1, demand);
  if (demand + noise < (rows[from] as number)) return 0;
  return interpolate(rows, from, levels, demand - noise);
}

/**
 * The probability of at most `demand` where `demands`, beginning at `from`, are the quantiles at `probabilities`; both
 * ascend.
 */
export function interpolate(
  demands: ArrayLike<number>,
  from: number,
  probabilities: ArrayLike<number>,
  demand: number,
): number {
  const last = probabilities.length - 1;
  const first = demands[from] as number;
  if (demand < first) return (probabilities[0] as number) / 2;
  if (demand >= (demands[from + last] as number)) return ((probabilities[last] as number) + 1) / 2;
  let low = 0;
  let high = last;
  // The last of equal quantiles: demand may sit on a step of the distribution.
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((demands[from + middle] as number) <= demand) low = middle;
    else high = middle;
  }
  const below = demands[from + low] as number;
  const share = (demand - below) / ((demands[from + high] as number) - below);
  return (
    (probabilities[low] as number) +
    share * ((probabilities[high] as number) - (probabilities[low] as number))
  );
}
