import { DelayLine, RunningMean, type StateArray, type Stateful } from './state.ts';
import { pinball } from './upper-bound.ts';

/** How well forecasts did, as means over about the last day. Demand is in instances' worth of work. */
export interface Accuracy {
  /** Mean of forecast minus what came; positive: too high. */
  readonly bias: number;
  readonly meanAbsoluteError: number;
  /** Mean absolute error ÷ that of the seasonal-naive forecast (the same time yesterday; the last value on day one). */
  readonly mase: number;
  /** Share of steps at or under the upper bound. */
  readonly coverage: number;
  /** Mean pinball loss of the upper bound ÷ that of the last value with no margin. */
  readonly pinballRatio: number;
  readonly steps: number;
}

/** A record shorter than this proves nothing, either way. */
const enoughSteps = 60;

/**
 * Trust is lost when the bound is exceeded in so large a share of steps, or its loss is so many times that of the last
 * value with no margin at all; it is regained, in shadow, at a stricter bar, so that it does not flap.
 */
const bars = {
  lose: { misses: 0.1, timesRisk: 5, pinballRatio: 2 },
  regain: { misses: 0.05, timesRisk: 3, pinballRatio: 1.2 },
} as const;

/**
 * On a flat line the last value never errs, and nothing compares well with it. A margin of half an instance, or of a
 * twentieth of the demand, is not held against a bound.
 */
const freeInstances = 0.5;
const freeShare = 0.05;
/** A millionth above the bound is the arithmetic's, not the demand's. */
const roundingNoise = 1e-6;

/** Keeps score of forecasts as their time comes. */
export class TrackRecord implements Stateful {
  readonly #forecasts: DelayLine;
  readonly #uppers: DelayLine;
  readonly #lasts: DelayLine;
  readonly #risks: DelayLine;
  readonly #bias: RunningMean;
  readonly #absolute: RunningMean;
  readonly #naive: RunningMean;
  readonly #misses: RunningMean;
  readonly #risk: RunningMean;
  readonly #loss: RunningMean;
  readonly #lastLoss: RunningMean;
  /** 1 while trusted. */
  readonly #trusted = Float64Array.from([1]);

  constructor(horizonSteps: number, slotsPerDay: number) {
    this.#forecasts = new DelayLine(horizonSteps);
    this.#uppers = new DelayLine(horizonSteps);
    this.#lasts = new DelayLine(horizonSteps);
    this.#risks = new DelayLine(horizonSteps);
    const rate = 1 / slotsPerDay;
    this.#bias = new RunningMean(rate);
    this.#absolute = new RunningMean(rate);
    this.#naive = new RunningMean(rate);
    this.#misses = new RunningMean(rate);
    this.#risk = new RunningMean(rate);
    this.#loss = new RunningMean(rate);
    this.#lastLoss = new RunningMean(rate);
  }

  /** @param yesterday demand at the same time a day ago; NaN on day one. */
  add(
    demand: number,
    yesterday: number,
    forecast: number,
    upper: number,
    risk: number,
    observed: boolean,
  ): void {
    const dueForecast = this.#forecasts.push(forecast);
    const dueUpper = this.#uppers.push(upper);
    const dueLast = this.#lasts.push(demand);
    const dueRisk = this.#risks.push(risk);
    if (!observed || Number.isNaN(dueForecast)) return;
    this.#bias.add(dueForecast - demand);
    this.#absolute.add(Math.abs(dueForecast - demand));
    this.#naive.add(Math.abs((Number.isNaN(yesterday) ? dueLast : yesterday) - demand));
    this.#misses.add(demand - dueUpper > roundingNoise * Math.max(1, demand) ? 1 : 0);
    this.#risk.add(dueRisk);
    this.#loss.add(pinball(demand, dueUpper, dueRisk));
    this.#lastLoss.add(pinball(demand, dueLast, dueRisk));
    this.#judge(demand);
  }

  #judge(demand: number): void {
    if (this.#absolute.count < enoughSteps) return;
    const bar = this.trusted ? bars.lose : bars.regain;
    const misses = Math.max(bar.misses, bar.timesRisk * this.#risk.value);
    const free = this.#risk.value * Math.max(freeInstances, freeShare * demand);
    const most = bar.pinballRatio * this.#lastLoss.value + free;
    const good = this.#misses.value <= misses && this.#loss.value <= most;
    this.#trusted[0] = good ? 1 : 0;
  }

  get trusted(): boolean {
    return this.#trusted[0] === 1;
  }

  get accuracy(): Accuracy {
    return {
      bias: this.#bias.value,
      meanAbsoluteError: this.#absolute.value,
      mase: ratio(this.#absolute.value, this.#naive.value),
      coverage: 1 - this.#misses.value,
      pinballRatio: ratio(this.#loss.value, this.#lastLoss.value),
      steps: this.#absolute.count,
    };
  }

  state(): readonly StateArray[] {
    return [
      this.#forecasts,
      this.#uppers,
      this.#lasts,
      this.#risks,
      this.#bias,
      this.#absolute,
      this.#naive,
      this.#misses,
      this.#risk,
      this.#loss,
      this.#lastLoss,
    ]
      .flatMap((part) => part.state())
      .concat(this.#trusted);
  }
}

/** 0 / 0 is a forecast as good as the other: both never err. */
function ratio(value: number, other: number): number {
  if (value === other) return 1;
  return other > 0 ? value / other : Number.POSITIVE_INFINITY;
}
