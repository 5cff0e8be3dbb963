import { SortedWindow } from './sorted-window.ts';
import { doubles, type StateArray, type Stateful } from './state.ts';

/** The probabilities at which the distribution of demand is kept. */
export const levels: readonly number[] = [
  0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.965, 0.975, 0.985, 0.992,
  0.997,
];

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
   * as on a flat line, the lowest of them counts: what came was at or under all of them. 0 is what came under the lowest.
   */
  readonly #outcomes: SortedWindow;
  /** The distributions of the last horizon, a row a step. */
  readonly #rows: Float64Array;
  readonly #cursor = doubles(1);

  constructor(horizonSteps: number, windowSize: number) {
    this.#outcomes = new SortedWindow(windowSize);
    this.#rows = doubles(horizonSteps * levels.length).fill(Number.NaN);
  }

  /** @param quantile the demand that is not exceeded with a probability, by the distribution forecast now. */
  update(demand: number, counted: boolean, quantile: (probability: number) => number): void {
    const rows = this.#rows;
    const at = (this.#cursor[0] as number) * levels.length;
    const known = !Number.isNaN(rows[at] as number);
    if (counted && known) this.#outcomes.add(placeOf(demand, rows.subarray(at, at + levels.length)));
    for (let index = 0; index < levels.length; index++) rows[at + index] = quantile(levels[index] as number);
    this.#cursor[0] = at + levels.length === rows.length ? 0 : (this.#cursor[0] as number) + 1;
  }

  /** The quantiles of the newest distribution, at `levels`. */
  get newest(): Float64Array {
    const cursor = this.#cursor[0] as number;
    const row = cursor === 0 ? this.#rows.length / levels.length - 1 : cursor - 1;
    return this.#rows.subarray(row * levels.length, (row + 1) * levels.length);
  }

  /** How often outcomes were under the lowest of the distribution: less than at or under it where demand is flat. */
  get underLowest(): number {
    const { size } = this.#outcomes;
    const lowest = levels[0] as number;
    if (size < enoughOutcomes) return lowest;
    return (this.#outcomes.countBelow(lowest / 4) + 0.5) / (size + 1);
  }

  /** How often outcomes were at or under what was given this probability. */
  calibrated(probability: number): number {
    const { size } = this.#outcomes;
    if (size < enoughOutcomes) return probability;
    return (this.#outcomes.countBelow(probability) + 0.5) / (size + 1);
  }

  state(): readonly StateArray[] {
    return [...this.#outcomes.state(), this.#rows, this.#cursor];
  }
}

function placeOf(demand: number, quantiles: Float64Array): number {
  const noise = roundingNoise * Math.max(1, demand);
  return demand + noise < (quantiles[0] as number) ? 0 : interpolate(quantiles, levels, demand - noise);
}

/** The probability of at most `demand` where `demands` are the quantiles at `probabilities`; both ascend. */
export function interpolate(
  demands: ArrayLike<number>,
  probabilities: ArrayLike<number>,
  demand: number,
): number {
  const last = demands.length - 1;
  const first = demands[0] as number;
  if (demand < first) return (probabilities[0] as number) / 2;
  if (demand >= (demands[last] as number)) return ((probabilities[last] as number) + 1) / 2;
  let low = 0;
  let high = last;
  // The last of equal quantiles: demand may sit on a step of the distribution.
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((demands[middle] as number) <= demand) low = middle;
    else high = middle;
  }
  const from = demands[low] as number;
  const share = (demand - from) / ((demands[high] as number) - from);
  return (
    (probabilities[low] as number) +
    share * ((probabilities[high] as number) - (probabilities[low] as number))
  );
}
