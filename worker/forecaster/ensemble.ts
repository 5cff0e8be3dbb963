import type { Expert, Moment } from './expert.ts';
import { HoltWintersExpert } from './holt-winters-expert.ts';
import { PredictedExpert } from './predicted-expert.ts';
import { ProfileExpert } from './profile-expert.ts';
import { RegressionExpert } from './regression-expert.ts';
import { SmoothingExpert } from './smoothing-expert.ts';
import { doubles, type StateArray, type Stateful } from './state.ts';

/** How fast the record of an expert forgets, and how sharply a worse record is punished. */
const lossRate = 0.003;
const sharpness = 30;

/**
 * Experts weighted by exp(-30 (L / best L - 1)), where L is the running mean of their absolute error at the horizon.
 */
export class Ensemble implements Stateful {
  readonly experts: readonly Expert[];
  /** The expert whose forecast one of the bounds follows. */
  readonly holtWinters = 3;
  /** The expert that says what another service predicts: the last, after all of our own. */
  readonly prediction = 5;
  /** What each expert said at the last step, and its weight in the mix. */
  readonly forecasts: Float64Array;
  readonly weights: Float64Array;
  readonly #losses: Float64Array;
  readonly #counts: Float64Array;
  /** Mean distance between the experts' forecasts and the mix: where they differ, uncertainty is high. */
  disagreement = 0;
  /** What each said over the last horizon, a row a step. */
  readonly #pending: Float64Array;
  readonly #cursor = doubles(1);

  constructor(horizonSteps: number, slotsPerDay: number) {
    this.experts = [
      new SmoothingExpert(0.9),
      new SmoothingExpert(0.3),
      new ProfileExpert(horizonSteps),
      new HoltWintersExpert(horizonSteps, slotsPerDay),
      new RegressionExpert(horizonSteps),
      new PredictedExpert(),
    ];
    const count = this.experts.length;
    this.forecasts = doubles(count);
    this.weights = doubles(count);
    this.#losses = doubles(count);
    this.#counts = doubles(count);
    this.#pending = doubles(count * horizonSteps).fill(Number.NaN);
  }

  /** @param observed false for a made-up step, whose errors say nothing. */
  forecast(moment: Moment, observed: boolean): number {
    const { experts, forecasts } = this;
    const row = (this.#cursor[0] as number) * experts.length;
    for (let index = 0; index < experts.length; index++) {
      const due = this.#pending[row + index] as number;
      if (observed && !Number.isNaN(due)) this.#score(index, Math.abs(moment.demand - due));
      const forecast = (experts[index] as Expert).forecast(moment);
      forecasts[index] = forecast;
      this.#pending[row + index] = forecast;
    }
    this.#cursor[0] = row + experts.length === this.#pending.length ? 0 : (this.#cursor[0] as number) + 1;
    return this.#mix();
  }

  #score(index: number, loss: number): void {
    const count = (this.#counts[index] as number) + 1;
    this.#counts[index] = count;
    const mean = this.#losses[index] as number;
    this.#losses[index] = mean + Math.max(lossRate, 1 / count) * (loss - mean);
  }

  #mix(): number {
    const { forecasts, weights } = this;
    // The best of those with a forecast: next to one without, that was nearly always right, none would have a weight.
    let best = Number.POSITIVE_INFINITY;
    for (let index = 0; index < forecasts.length; index++) {
      if (Number.isNaN(forecasts[index] as number)) continue;
      if ((this.#counts[index] as number) > 0 && (this.#losses[index] as number) < best)
        best = this.#losses[index] as number;
    }
    let total = 0;
    let sum = 0;
    for (let index = 0; index < forecasts.length; index++) {
      const forecast = forecasts[index] as number;
      const weight = Number.isNaN(forecast) ? 0 : this.#weightOf(index, best);
      weights[index] = weight;
      total += weight;
      if (weight > 0) sum += weight * forecast;
    }
    for (let index = 0; index < weights.length; index++) weights[index] = (weights[index] as number) / total;
    const mixed = sum / total;
    this.disagreement = this.#distanceFrom(mixed);
    return mixed;
  }

  /** Predictions of others do not count: who writes nonsense must not widen bounds. */
  #distanceFrom(mixed: number): number {
    let distance = 0;
    for (let index = 0; index < this.prediction; index++) {
      distance += Math.abs((this.forecasts[index] as number) - mixed);
    }
    return distance / this.prediction;
  }

  #weightOf(index: number, best: number): number {
    // Nobody has a record yet: the last value is the least risky.
    if (best === Number.POSITIVE_INFINITY) return index === 0 ? 1 : 0;
    if (this.#counts[index] === 0) return 0;
    const loss = this.#losses[index] as number;
    if (loss <= best) return 1;
    return best > 0 ? Math.exp(-sharpness * (loss / best - 1)) : 0;
  }

  get predictionOutcomes(): number {
    return this.#counts[this.prediction] as number;
  }

  state(): readonly StateArray[] {
    return [
      ...this.experts.flatMap((expert) => expert.state()),
      this.forecasts,
      this.weights,
      this.#losses,
      this.#counts,
      this.#pending,
      this.#cursor,
    ];
  }
}
