import type {
  EngineForecast,
  EnginePolicy,
  EngineSample,
  MetricForecast,
} from '../../worker/engine/types.ts';
import type { DemandForecaster } from '../../worker/forecaster/demand-forecaster.ts';
import type { Moment } from '../../worker/forecaster/expert.ts';
import type { ResourceForecaster } from '../../worker/forecaster/resource-forecaster.ts';
import type { Stateful } from '../../worker/forecaster/state.ts';
import { now, policy } from './engine-input.ts';

/** Numbers in [0, 1) that are the same in every run (mulberry32). */
export function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Standard normal numbers (Box and Muller). */
export function normals(seed: number): () => number {
  const random = randoms(seed);
  return () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Every number that a part knows, NaN and -0 told apart. */
export function bytesOf(part: Stateful): string {
  return part
    .state()
    .map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64'))
    .join(' ');
}

/** A moment without demand, of which nothing is known. */
export function moment(values: Partial<Moment> = {}): Moment {
  return {
    demand: 0,
    slot: 0,
    slotAhead: 0,
    knowsDay: false,
    profileNow: 0,
    profileAhead: 0,
    weekChange: 0,
    yesterdayChange: 0,
    recurringChange: 0,
    predicted: Number.NaN,
    ...values,
  };
}

/** Takes one demand a step in, null for a gap, beginning at step `from`; `each` is asked after every step. */
export function feed(
  forecaster: DemandForecaster,
  demands: readonly (number | null)[],
  from = 0,
  each: (index: number) => void = () => {},
): void {
  for (const [index, demand] of demands.entries()) {
    const breached = demand === null ? null : false;
    forecaster.update(from + index, { demand, breached, predicted: Number.NaN }, 0.02);
    each(index);
  }
}

/** A quiet service's forecast: 4 expected, 5.4 in the worst case of fifty. */
export function metricForecast(values: Partial<MetricForecast> = {}): MetricForecast {
  const { upper = 5.4, expected = 4 } = values;
  return {
    metric: 'cpu',
    demand: 4,
    expected,
    upper,
    risk: 0.02,
    distribution: [
      [0.1, 3],
      [0.5, 4],
      [0.9, 5],
      [0.98, 5.4],
    ],
    windowHighest: { upper, expected },
    hourHighest: { upper, expected },
    capped: true,
    residuals: 500,
    trusted: true,
    distrust: null,
    predictionWeight: null,
    ...values,
  };
}

/** Made this minute after a week of observing, for three minutes ahead. */
export function engineForecast(
  metrics: readonly MetricForecast[] = [metricForecast()],
  values: Partial<EngineForecast> = {},
): EngineForecast {
  return { madeAtMs: now, forMs: now + 180_000, observedMs: 7 * 86_400_000, metrics, ...values };
}

/** A sample in the middle of a step. */
export function sampleAt(
  forecaster: ResourceForecaster,
  step: number,
  values: Partial<EngineSample> = {},
): EngineSample {
  const { stepMs } = forecaster.shape;
  return { atMs: (step + 0.5) * stepMs, cpuRatio: 0.5, memoryRatio: null, instances: 4, ...values };
}

/** Five-minute steps, so that a week of them is soon told. */
export function coarsePolicy(values: Partial<EnginePolicy> = {}): EnginePolicy {
  return policy({ decisionIntervalMs: 300_000, provisioningDelayMs: 300_000, planning: 'risk', ...values });
}
