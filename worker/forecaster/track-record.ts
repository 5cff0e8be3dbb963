import { DelayLine, RunningMeans, type StateArray, type Stateful } from './state.ts';
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

/** The means that are kept. */
const mean = { bias: 0, absolute: 1, naive: 2, misses: 3, risk: 4, loss: 5, lastLoss: 6 } as const;

/** Keeps score of forecasts as their time comes. */
export class TrackRecord implements Stateful {
  /** Forecast, upper bound, last demand and risk of the last horizon. */
  readonly #pending: DelayLine;
  readonly #means: RunningMeans;
  /** 1 while trusted. */
  readonly #trusted = Float64Array.from([1]);

  constructor(horizonSteps: number, slotsPerDay: number) {
    this.#pending = new DelayLine(horizonSteps, 4);
    const rate = 1 / slotsPerDay;
    this.#means = new RunningMeans(rate, rate, rate, rate, rate, rate, rate);
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
    const pending = this.#pending;
    const dueForecast = pending.swap(0, forecast);
    const dueUpper = pending.swap(1, upper);
    const dueLast = pending.swap(2, demand);
    const dueRisk = pending.swap(3, risk);
    pending.next();
    if (!observed || Number.isNaN(dueForecast)) return;
    this.#means.add(mean.bias, dueForecast - demand);
    this.#means.add(mean.absolute, Math.abs(dueForecast - demand));
    this.#means.add(mean.naive, Math.abs((Number.isNaN(yesterday) ? dueLast : yesterday) - demand));
    this.#means.add(mean.misses, demand - dueUpper > roundingNoise * Math.max(1, demand) ? 1 : 0);
    this.#means.add(mean.risk, dueRisk);
    this.#means.add(mean.loss, pinball(demand, dueUpper, dueRisk));
    this.#means.add(mean.lastLoss, pinball(demand, dueLast, dueRisk));
    this.#judge(demand);
  }

  #judge(demand: number): void {
    if (this.#means.count(mean.absolute) < enoughSteps) return;
    const bar = this.trusted ? bars.lose : bars.regain;
    const misses = Math.max(bar.misses, bar.timesRisk * this.#means.value(mean.risk));
    const free = this.#means.value(mean.risk) * Math.max(freeInstances, freeShare * demand);
    const most = bar.pinballRatio * this.#means.value(mean.lastLoss) + free;
    const good = this.#means.value(mean.misses) <= misses && this.#means.value(mean.loss) <= most;
    this.#trusted[0] = good ? 1 : 0;
  }

  get trusted(): boolean {
    return this.#trusted[0] === 1;
  }

  get accuracy(): Accuracy {
    return {
      bias: this.#means.value(mean.bias),
      meanAbsoluteError: this.#means.value(mean.absolute),
      mase: ratio(this.#means.value(mean.absolute), this.#means.value(mean.naive)),
      coverage: 1 - this.#means.value(mean.misses),
      pinballRatio: ratio(this.#means.value(mean.loss), this.#means.value(mean.lastLoss)),
      steps: this.#means.count(mean.absolute),
    };
  }

  state(): readonly StateArray[] {
    return [...this.#pending.state(), ...this.#means.state(), this.#trusted];
  }
}

/** 0 / 0 is a forecast as good as the other: both never err. */
function ratio(value: number, other: number): number {
  if (value === other) return 1;
  return other > 0 ? value / other : Number.POSITIVE_INFINITY;
}
