import { levels } from './calibration.ts';
import { doubles, type StateArray, type Stateful } from './state.ts';
import { type BoundOptions, type BoundStep, UpperBound } from './upper-bound.ts';

/** How sharply a bound with a worse pinball loss is punished. */
const boundSharpness = 16;

/** What each bound is laid over: demand at the horizon, in instances' worth of work. */
export interface BoundCentres {
  readonly ensemble: number;
  /** The ensemble's forecast, or the most of the last periods of what recurs within a day. */
  readonly recurring: number;
  readonly holtWinters: number;
  /** The most of the last days around this time. */
  readonly days: number;
}

/** Upper bounds over four forecasts, mixed by their pinball losses. */
export class BoundMix implements Stateful {
  readonly #ensemble: UpperBound;
  readonly #recurring: UpperBound;
  readonly #holtWinters: UpperBound;
  readonly #days: UpperBound;
  readonly #bounds: readonly UpperBound[];
  readonly #weights: Float64Array;

  constructor(options: Omit<BoundOptions, 'scaled' | 'levels'>) {
    this.#ensemble = new UpperBound({ ...options, scaled: true, levels });
    this.#recurring = new UpperBound({ ...options, scaled: false, levels: [] });
    this.#holtWinters = new UpperBound({ ...options, scaled: true, levels: [] });
    this.#days = new UpperBound({ ...options, scaled: false, levels: [] });
    this.#bounds = [this.#ensemble, this.#recurring, this.#holtWinters, this.#days];
    this.#weights = doubles(this.#bounds.length);
  }

  update(step: BoundStep, centres: BoundCentres): void {
    this.#ensemble.update(step, centres.ensemble);
    this.#recurring.update(step, centres.recurring);
    this.#holtWinters.update(step, centres.holtWinters);
    this.#days.update(step, centres.days);
    this.#weigh();
  }

  #weigh(): void {
    let best = Number.POSITIVE_INFINITY;
    for (const bound of this.#bounds) if (bound.loss < best) best = bound.loss;
    const weights = this.#weights;
    let total = 0;
    for (let index = 0; index < weights.length; index++) {
      const loss = (this.#bounds[index] as UpperBound).loss;
      const weight = loss <= best ? 1 : best > 0 ? Math.exp(-boundSharpness * (loss / best - 1)) : 0;
      weights[index] = weight;
      total += weight;
    }
    for (let index = 0; index < weights.length; index++) weights[index] = (weights[index] as number) / total;
  }

  /** Demand at the horizon that is not exceeded with this probability. */
  upper(probability: number): number {
    const weights = this.#weights;
    let sum = 0;
    for (let index = 0; index < weights.length; index++) {
      const weight = weights[index] as number;
      if (weight > 0) sum += weight * (this.#bounds[index] as UpperBound).at(probability);
    }
    return sum;
  }

  /**
   * Of the distribution: that of the ensemble's own errors, scaled. The mix is made for the far end, and in the middle
   * envelopes know less than a forecast. Bound once: a closure made anew each step would be garbage.
   */
  readonly quantileAt = (index: number): number => this.#ensemble.atLevel(index);

  /** Residuals that the bounds rest on. */
  get residuals(): number {
    return this.#ensemble.residuals;
  }

  /** After demand has fallen for good: only the newest residuals count. */
  forget(keptResiduals: number): void {
    for (const bound of this.#bounds) bound.forget(keptResiduals);
  }

  state(): readonly StateArray[] {
    return [...this.#bounds.flatMap((bound) => bound.state()), this.#weights];
  }
}
