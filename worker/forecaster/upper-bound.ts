import { SlotProfile } from './slot-profile.ts';
import { SortedWindow } from './sorted-window.ts';
import { addToMean, doubles, type StateArray, type Stateful } from './state.ts';

/** Under this many residuals a quantile says nothing: three scales are taken instead. */
const enoughResiduals = 20;

/**
 * Where the numbers of a bound are: forecast and scale of this step; size of errors upwards, fast and slow, and the
 * bound's pinball loss (mean and count each); the pool's and the profile's own; which of the rows is due, and the rows:
 * forecast, scale and bound of each step of the last horizon. One array: each has a header to be read, too.
 */
const at = {
  forecast: 0,
  scale: 1,
  fast: 2,
  slow: 4,
  loss: 6,
  pool: 8,
  profile: 10,
  due: 11,
  rows: 12,
} as const;
const [fastRate, slowRate] = [0.02, 0.002];

/** How residuals are made comparable before they are pooled. */
export interface BoundOptions {
  readonly horizonSteps: number;
  readonly slotsPerDay: number;
  /** In units of the local scale, or as they are. */
  readonly scaled: boolean;
  readonly poolSize: number;
  /** How many steps the deviation by time of day is smoothed over, on each side. */
  readonly slotRadius: number;
  /** The probabilities that `atLevel` is asked for. */
  readonly levels: readonly number[];
}

/**
 * What a bound needs to know of a step. One object, filled anew each step: this runs for every sample of every
 * resource.
 */
export interface BoundStep {
  demand: number;
  /** Slow mean of demand. */
  level: number;
  slot: number;
  slotAhead: number;
  /** False for a made-up step. */
  observed: boolean;
  /** How far apart the experts are about the horizon. */
  disagreement: number;
  /** Whether this step's error joins the pool; the pool takes one every five minutes. */
  pooled: boolean;
  risk: number;
}

/**
 * Turns a forecast into a bound that demand stays under with a given probability: the forecast plus the quantile of its
 * own past errors at the same horizon (split conformal prediction; Lei et al., "Distribution-Free Predictive Inference
 * for Regression", JASA 113, 2018). Scaled, the errors are pooled in units of how far above forecasts demand is just
 * now and at that time of day, and of how far apart the experts are.
 */
export class UpperBound implements Stateful {
  readonly #scaled: boolean;
  readonly #levels: readonly number[];
  readonly #pool: SortedWindow;
  readonly #bySlot: SlotProfile;
  readonly #lossRate: number;
  readonly #numbers: Float64Array;

  constructor(options: BoundOptions) {
    const { horizonSteps, slotsPerDay, poolSize, slotRadius, levels } = options;
    this.#scaled = options.scaled;
    this.#levels = levels;
    // What a bound is worth shows in rare events: it takes two days of them.
    this.#lossRate = 1 / (2 * slotsPerDay);
    this.#numbers = doubles(at.rows + 3 * horizonSteps);
    this.#numbers.fill(Number.NaN, at.rows);
    this.#numbers[at.due] = at.rows;
    this.#pool = new SortedWindow(poolSize, levels, this.#numbers, at.pool);
    this.#bySlot = new SlotProfile(options.scaled ? slotsPerDay : 1, slotRadius, this.#numbers, at.profile);
  }

  /** Takes in what happened and what is forecast now. */
  update(step: BoundStep, forecast: number): void {
    const numbers = this.#numbers;
    const row = numbers[at.due] as number;
    const error = step.demand - (numbers[row] as number);
    const dueScale = numbers[row + 1] as number;
    const due = numbers[row + 2] as number;
    const scale = this.#scaled ? this.#scaleAt(step, forecast) : 1;
    numbers[at.forecast] = forecast;
    numbers[at.scale] = scale;
    if (step.observed && !Number.isNaN(error)) {
      // Only what was above the forecast: a burst that ends early is no reason for a margin. Twice, as the other half
      // counts nothing.
      const size = 2 * Math.max(error, 0);
      addToMean(numbers, at.fast, fastRate, size);
      addToMean(numbers, at.slow, slowRate, size);
      if (this.#scaled) this.#bySlot.learn(step.slot, size);
      if (step.pooled) this.#pool.add(error / dueScale);
    }
    numbers[row] = forecast;
    numbers[row + 1] = scale;
    numbers[row + 2] = this.at(1 - step.risk);
    if (step.observed && !Number.isNaN(due))
      addToMean(numbers, at.loss, this.#lossRate, pinball(step.demand, due, step.risk));
    numbers[at.due] = row + 3 === numbers.length ? at.rows : row + 3;
  }

  #scaleAt(step: BoundStep, forecast: number): number {
    const lately = this.#numbers[at.fast] as number;
    const longer = this.#numbers[at.slow] as number;
    const usual = this.#bySlot.periods > 0 ? this.#bySlot.at(step.slotAhead) : longer;
    const floor = 0.03 * Math.max(forecast, 0.2 * step.level);
    const errors = 0.4 * lately + 0.2 * longer + 0.4 * usual;
    return Math.max(floor + errors + 0.5 * step.disagreement, 1e-6);
  }

  /** The demand not exceeded with this probability; never under half of what is forecast. */
  at(probability: number): number {
    const forecast = this.#numbers[at.forecast] as number;
    const margin = this.#isLearning
      ? this.#guess(probability)
      : (this.#numbers[at.scale] as number) * this.#pool.quantile(probability);
    return Math.max(forecast / 2, forecast + margin);
  }

  /** The same for the probability `levels[index]`. */
  atLevel(index: number): number {
    if (this.#isLearning) return this.at(this.#levels[index] as number);
    const forecast = this.#numbers[at.forecast] as number;
    return Math.max(
      forecast / 2,
      forecast + (this.#numbers[at.scale] as number) * this.#pool.quantileAt(index),
    );
  }

  get #isLearning(): boolean {
    return this.#pool.size < enoughResiduals;
  }

  /** The margin while there are too few residuals. */
  #guess(probability: number): number {
    // A median is no margin: three scales are for the far side of the distribution.
    if (probability <= 0.5) return 0;
    const forecast = this.#numbers[at.forecast] as number;
    const spread = this.#scaled
      ? (this.#numbers[at.scale] as number)
      : Math.max(this.#numbers[at.fast] as number, this.#numbers[at.slow] as number);
    return 3 * Math.max(spread, 0.05 * forecast) * (2 * probability - 1);
  }

  /** After demand has fallen for good: only errors since count, and they are as large as they have been lately. */
  forget(keptResiduals: number): void {
    const lately = this.#numbers[at.fast] as number;
    this.#pool.keepNewest(keptResiduals);
    this.#numbers[at.slow] = Math.min(this.#numbers[at.slow] as number, lately);
    if (this.#scaled) this.#bySlot.lowerTo(lately);
  }

  /** Running mean of the bound's pinball loss. */
  get loss(): number {
    return this.#numbers[at.loss] as number;
  }

  get residuals(): number {
    return this.#pool.size;
  }

  state(): readonly StateArray[] {
    return [...this.#pool.state(), ...this.#bySlot.state(), this.#numbers];
  }
}

/** Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978, for the quantile 1 - risk. */
export function pinball(demand: number, bound: number, risk: number): number {
  return demand > bound ? (1 - risk) * (demand - bound) : risk * (bound - demand);
}
