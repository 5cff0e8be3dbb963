import type { EngineForecast, EnginePolicy, EngineSample, MetricForecast } from '../engine/types.ts';
import { restore, save } from './checkpoint.ts';
import { DemandForecaster, type Observation } from './demand-forecaster.ts';
import { doubles, RunningMean, type StateArray, type Stateful } from './state.ts';

export type Metric = 'cpu' | 'memory';

/** A ratio from here on hides the demand. */
const saturatedRatio = 0.98;
/** Measurement errors apart, a ratio above this is of a metric that has no ceiling at 1. */
const cappedRatio = 1.05;
const hourMs = 3_600_000;
/** No stabilization window is longer. */
const longestWindowMs = 3_600_000;
/** After a silence longer than this, what was learnt is of another time: it starts again. */
const longestGapMs = 7 * 86_400_000;
/** Under so many outcomes a prediction's record proves nothing. */
const enoughPredictions = 20;

/** What of a policy changes what a forecaster learns: with another one it starts again. */
export interface ForecastShape {
  readonly stepMs: number;
  readonly horizonSteps: number;
}

/**
 * Steps of one decision interval, or of one sample where those come much less often, as near as divides a day; the
 * horizon is when a launch decided one step later is ready.
 */
export function shapeOf(policy: EnginePolicy, sampleIntervalMs: number | null = null): ForecastShape {
  const intervalMs = Math.max(policy.decisionIntervalMs, 15_000, usualInterval(policy, sampleIntervalMs));
  const steps = Math.max(1, Math.round(86_400_000 / intervalMs));
  const stepMs = 86_400_000 / divisorNear(steps);
  return { stepMs, horizonSteps: Math.max(1, Math.ceil(policy.provisioningDelayMs / stepMs) + 1) };
}

/** Intervals at which metrics are usually taken, in minutes. */
const usualMinutes = [1, 2, 3, 5, 10, 15, 20, 30, 60];
/** Samples that come this much less often than decisions leave most steps empty. */
const muchSlower = 1.5;

/**
 * The interval, in ms, of samples that come much less often than decisions; else 0. On a grid, so that a little jitter
 * changes nothing.
 */
export function usualInterval(policy: EnginePolicy, sampleIntervalMs: number | null): number {
  if (sampleIntervalMs === null || sampleIntervalMs <= muchSlower * policy.decisionIntervalMs) return 0;
  const off = (minutes: number) => Math.abs(Math.log(sampleIntervalMs / (minutes * 60_000)));
  return (
    60_000 * usualMinutes.reduce((nearest, minutes) => (off(minutes) < off(nearest) ? minutes : nearest))
  );
}

/** The nearest count of steps, not more, that divides a day into whole seconds. */
function divisorNear(steps: number): number {
  let count = steps;
  while (86_400 % count !== 0) count--;
  return count;
}

interface Series {
  readonly forecaster: DemandForecaster;
  /**
   * Upper bounds and expectations of the longest stabilization window, or of the horizon if longer: a ring buffer of
   * pairs.
   */
  readonly recent: Float64Array;
  readonly recentCursor: Float64Array;
  /** The highest ratio seen. */
  readonly highestRatio: Float64Array;
  /** Demand per request, where both were seen unsaturated. */
  readonly perRequest: RunningMean;
}

/** Forecasts CPU and memory demand of one resource from its samples. */
export class ResourceForecaster implements Stateful {
  readonly shape: ForecastShape;
  readonly #series = new Map<Metric, Series>();
  readonly #metrics: readonly Metric[];
  /** Step taken in last (-1: none), steps with a prediction's outcome. */
  readonly #numbers = Float64Array.from([-1, 0]);

  /** @param metrics those that its samples have; another set is another forecaster. */
  constructor(shape: ForecastShape, metrics: readonly Metric[]) {
    this.shape = shape;
    this.#metrics = metrics;
    const recentSteps = Math.max(shape.horizonSteps, Math.round(longestWindowMs / shape.stepMs) + 1);
    for (const metric of metrics) {
      this.#series.set(metric, {
        forecaster: new DemandForecaster(shape),
        recent: doubles(recentSteps * 2),
        recentCursor: doubles(1),
        highestRatio: doubles(1),
        perRequest: new RunningMean(0.01),
      });
    }
  }

  get metrics(): readonly Metric[] {
    return this.#metrics;
  }

  /** The time of the newest step, epoch ms; null before the first. */
  get newestMs(): number | null {
    const step = this.#numbers[0] as number;
    return step < 0 ? null : step * this.shape.stepMs;
  }

  /**
   * Takes in the samples of steps it has not seen. Samples of one step count as their mean; later ones for a step that
   * was taken in already come too late. A step without samples is a gap: it passes, and teaches nothing.
   * @param samples oldest first, one per moment, plausible.
   * @param predicted demand that another service predicts for the horizon, by metric.
   * @returns how many steps were taken in.
   */
  advance(
    samples: readonly EngineSample[],
    policy: EnginePolicy,
    predicted: Readonly<Partial<Record<Metric, number>>> = {},
  ): number {
    const { stepMs } = this.shape;
    let taken = 0;
    let index = 0;
    while (index < samples.length) {
      const step = Math.floor((samples[index] as EngineSample).atMs / stepMs);
      let end = index + 1;
      while (end < samples.length && Math.floor((samples[end] as EngineSample).atMs / stepMs) === step) end++;
      if (step > (this.#numbers[0] as number)) {
        taken += this.#takeGap(step, policy);
        const newest = end === samples.length;
        for (const metric of this.#metrics) {
          const observation = this.#observe(samples, index, end, metric, policy);
          const prediction = newest ? (predicted[metric] ?? Number.NaN) : Number.NaN;
          this.#take(metric, step, { ...observation, predicted: prediction }, policy);
        }
        this.#numbers[0] = step;
        taken++;
      }
      index = end;
    }
    return taken;
  }

  /** The steps between the last one and this one, of which nothing is known. */
  #takeGap(step: number, policy: EnginePolicy): number {
    const last = this.#numbers[0] as number;
    if (last < 0) return 0;
    if ((step - last) * this.shape.stepMs > longestGapMs) {
      const fresh = new ResourceForecaster(this.shape, this.#metrics);
      restore(this, save(fresh));
      return 0;
    }
    const nothing = { demand: null, breached: null, predicted: Number.NaN };
    for (let missing = last + 1; missing < step; missing++) {
      for (const metric of this.#metrics) this.#take(metric, missing, nothing, policy);
    }
    return step - last - 1;
  }

  #take(metric: Metric, step: number, observation: Observation, policy: EnginePolicy): void {
    const { forecaster, recent, recentCursor } = this.#series.get(metric) as Series;
    forecaster.update(step, observation, policy.toleratedRisk);
    const at = recentCursor[0] as number;
    recent[at] = forecaster.planned.upper;
    recent[at + 1] = forecaster.expected;
    recentCursor[0] = at + 2 === recent.length ? 0 : at + 2;
  }

  /**
   * Demand is instances × ratio, in today's instances. Where the ratio is at its ceiling, requests tell more, if they
   * have been seen before.
   */
  #observe(
    samples: readonly EngineSample[],
    from: number,
    to: number,
    metric: Metric,
    policy: EnginePolicy,
  ): { demand: number | null; breached: boolean | null } {
    const { perRequest, highestRatio } = this.#series.get(metric) as Series;
    let sum = 0;
    let ratios = 0;
    let count = 0;
    for (let index = from; index < to; index++) {
      const sample = samples[index] as EngineSample;
      const ratio = metric === 'cpu' ? sample.cpuRatio : sample.memoryRatio;
      if (ratio === null) continue;
      const worth = (metric === 'cpu' ? sample.cpuWorth : sample.memoryWorth) ?? 1;
      let demand = ratio * sample.instances * worth;
      if (ratio > (highestRatio[0] as number)) highestRatio[0] = ratio;
      const requests = sample.requests ?? null;
      if (requests !== null && requests > 0) {
        if (ratio < saturatedRatio) perRequest.add(demand / requests);
        else if (perRequest.count >= enoughPredictions)
          demand = Math.max(demand, requests * perRequest.value);
      }
      sum += demand;
      ratios += ratio;
      count++;
    }
    if (count === 0) return { demand: null, breached: null };
    return { demand: sum / count, breached: ratios / count > policy.limitRatio };
  }

  /** @returns null before the first step. Pure: asking changes nothing. */
  forecast(policy: EnginePolicy): EngineForecast | null {
    const newestMs = this.newestMs;
    if (newestMs === null) return null;
    const { stepMs, horizonSteps } = this.shape;
    const metrics = this.#metrics.map((metric) => this.#forecastOf(metric, policy));
    const [first] = this.#series.values();
    return {
      madeAtMs: newestMs,
      forMs: newestMs + horizonSteps * stepMs,
      observedMs: (first?.forecaster.observedSteps ?? 0) * stepMs,
      metrics,
    };
  }

  #forecastOf(metric: Metric, policy: EnginePolicy): MetricForecast {
    const series = this.#series.get(metric) as Series;
    const { forecaster } = series;
    const { stepMs, horizonSteps } = this.shape;
    const windowSteps = Math.max(horizonSteps, Math.round(policy.stabilizationWindowMs / stepMs) + 1);
    const hourSteps = Math.ceil(hourMs / stepMs);
    const { upper, risk } = forecaster.planned;
    return {
      metric,
      demand: forecaster.lastDemand,
      expected: forecaster.expected,
      upper,
      risk,
      distribution: forecaster.distribution,
      windowHighest: highest(series, windowSteps),
      hourHighest: highest(series, hourSteps),
      capped: (series.highestRatio[0] as number) <= cappedRatio,
      residuals: forecaster.residuals,
      trusted: forecaster.trusted,
      distrust: forecaster.trusted ? null : describeDistrust(forecaster),
      predictionWeight:
        forecaster.predictionOutcomes < enoughPredictions ? null : forecaster.predictionWeight,
    };
  }

  /** For those who want to know how it comes to its forecasts. */
  detail(metric: Metric): Pick<DemandForecaster, 'weights' | 'accuracy' | 'breachedShare'> | undefined {
    return this.#series.get(metric)?.forecaster;
  }

  state(): readonly StateArray[] {
    return [
      this.#numbers,
      ...[...this.#series.values()].flatMap(
        ({ forecaster, recent, recentCursor, highestRatio, perRequest }) => [
          ...forecaster.state(),
          recent,
          recentCursor,
          highestRatio,
          ...perRequest.state(),
        ],
      ),
    ];
  }
}

/** The highest pair values among the newest so many. */
function highest({ recent, recentCursor }: Series, steps: number): { upper: number; expected: number } {
  let upper = 0;
  let expected = 0;
  const count = Math.min(steps, recent.length / 2);
  let at = recentCursor[0] as number;
  for (let taken = 0; taken < count; taken++) {
    at = at === 0 ? recent.length - 2 : at - 2;
    upper = Math.max(upper, recent[at] as number);
    expected = Math.max(expected, recent[at + 1] as number);
  }
  return { upper, expected };
}

function describeDistrust({ accuracy }: DemandForecaster): string {
  const missed = Math.round((1 - accuracy.coverage) * 100);
  return `over the last day ${missed}% of outcomes were above its bound, whose loss was ${accuracy.pinballRatio.toFixed(1)} times that of the last value`;
}
