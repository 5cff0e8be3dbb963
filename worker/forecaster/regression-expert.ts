import type { Expert, Moment } from './expert.ts';
import { doubles, type StateArray } from './state.ts';

const features = 9;
const forgetting = 0.999;
/** Features and errors in units of the local deviation; beyond these they are outliers, not information. */
const featureLimit = 8;
const errorLimit = 3;
/** Where the covariance has lost its meaning (wind-up, or numerical ruin), it starts again. */
const traceLimit = 1_000;

/**
 * Recursive least squares with exponential forgetting (Ljung, "System Identification", 2nd ed., 11.2) on differences of
 * smoothed levels, of yesterday, of what comes again within a day and of the day and week profiles, all in units of the
 * local mean deviation.
 */
export class RegressionExpert implements Expert {
  readonly name = 'regression';
  readonly #weights = doubles(features);
  readonly #covariance = doubles(features * features);
  /** Levels: base, slow, slower; mean deviation; steps. */
  readonly #levels = doubles(5);
  /** One row a step: features, base, scale. */
  readonly #rows: Float64Array;
  readonly #cursor = doubles(1);
  readonly #gain = doubles(features);

  constructor(horizonSteps: number) {
    this.#rows = doubles(horizonSteps * (features + 2)).fill(Number.NaN);
    this.#weights[4] = 0.5;
    this.#resetCovariance();
  }

  forecast(moment: Moment): number {
    const { demand } = moment;
    const row = (this.#cursor[0] as number) * (features + 2);
    const rows = this.#rows;
    // The row written one horizon ago is due, and its place is the next one to be written.
    if (!Number.isNaN(rows[row] as number)) this.#learn(row, demand);
    this.#smooth(demand);
    const [base, slow, slower, deviation] = this.#levels as unknown as [number, number, number, number];
    const scale = Math.max(deviation, 1e-3 * Math.abs(base), 1e-6);
    const { profileNow, profileAhead, weekChange, yesterdayChange, recurringChange, knowsDay } = moment;
    rows[row] = 1;
    rows[row + 1] = clip((demand - base) / scale, featureLimit);
    rows[row + 2] = clip((base - slow) / scale, featureLimit);
    rows[row + 3] = clip((slow - slower) / scale, featureLimit);
    rows[row + 4] = clip((profileAhead - profileNow) / scale, featureLimit);
    rows[row + 5] = knowsDay ? clip((profileNow - base) / scale, featureLimit) : 0;
    rows[row + 6] = clip(yesterdayChange / scale, featureLimit);
    rows[row + 7] = clip(weekChange / scale, featureLimit);
    rows[row + 8] = clip(recurringChange / scale, featureLimit);
    rows[row + features] = base;
    rows[row + features + 1] = scale;
    this.#cursor[0] = row + features + 2 === rows.length ? 0 : (this.#cursor[0] as number) + 1;
    let sum = 0;
    for (let index = 0; index < features; index++) {
      sum += (this.#weights[index] as number) * (rows[row + index] as number);
    }
    return Math.max(0, base + scale * sum);
  }

  #smooth(demand: number): void {
    const levels = this.#levels;
    const seen = (levels[4] as number) + 1;
    levels[4] = seen;
    const base = levels[0] as number;
    levels[0] = base + Math.max(0.6, 1 / seen) * (demand - base);
    levels[1] = (levels[1] as number) + Math.max(0.2, 1 / seen) * (demand - (levels[1] as number));
    levels[2] = (levels[2] as number) + Math.max(0.05, 1 / seen) * (demand - (levels[2] as number));
    const deviation = seen === 1 ? 0 : Math.abs(demand - base);
    levels[3] = (levels[3] as number) + Math.max(0.02, 1 / seen) * (deviation - (levels[3] as number));
  }

  #learn(row: number, demand: number): void {
    const rows = this.#rows;
    const p = this.#covariance;
    const gain = this.#gain;
    const weights = this.#weights;
    const target = (demand - (rows[row + features] as number)) / (rows[row + features + 1] as number);
    let expected = 0;
    let spread = forgetting;
    for (let i = 0; i < features; i++) {
      let sum = 0;
      for (let j = 0; j < features; j++) sum += (p[i * features + j] as number) * (rows[row + j] as number);
      gain[i] = sum;
      spread += sum * (rows[row + i] as number);
      expected += (weights[i] as number) * (rows[row + i] as number);
    }
    const error = clip(target - expected, errorLimit);
    let trace = 0;
    for (let i = 0; i < features; i++) {
      const share = (gain[i] as number) / spread;
      weights[i] = (weights[i] as number) + share * error;
      for (let j = 0; j <= i; j++) {
        const value = ((p[i * features + j] as number) - share * (gain[j] as number)) / forgetting;
        p[i * features + j] = value;
        p[j * features + i] = value;
      }
      trace += p[i * features + i] as number;
    }
    if (!(trace > 0 && trace <= traceLimit)) this.#resetCovariance();
  }

  #resetCovariance(): void {
    this.#covariance.fill(0);
    for (let index = 0; index < features; index++) this.#covariance[index * features + index] = 1;
  }

  state(): readonly StateArray[] {
    return [this.#weights, this.#covariance, this.#levels, this.#rows, this.#cursor];
  }
}

function clip(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}
