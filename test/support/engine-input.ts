import { checkSamples } from '../../worker/engine/data-quality.ts';
import type { CheckedForecast } from '../../worker/engine/own-forecast.ts';
import { type Recommendation, recommend } from '../../worker/engine/recommend.ts';
import type {
  EngineInput,
  EnginePolicy,
  EnginePrediction,
  EngineSample,
  MetricResponses,
} from '../../worker/engine/types.ts';

/** What the engine is given when nobody asks for a forecast. */
export const noForecast = { usable: null, learning: false, why: 'not asked for' };

/** The moment of every decision, unless a test names another. */
export const now = Date.UTC(2026, 0, 15, 12);

/** A policy with the defaults of the service. */
export function policy(values: Partial<EnginePolicy> = {}): EnginePolicy {
  return {
    version: 1,
    minInstances: 1,
    maxInstances: 20,
    targetCpuRatio: 0.7,
    targetMemoryRatio: 0.8,
    planning: 'target',
    limitRatio: 0.9,
    toleratedRisk: 0.02,
    maxScaleUpStep: 3,
    maxScaleDownStep: 2,
    scaleUpCooldownMs: 300_000,
    scaleDownCooldownMs: 300_000,
    maxActionsPerHour: 12,
    tolerance: 0.1,
    stabilizationWindowMs: 300_000,
    provisioningDelayMs: 120_000,
    decisionIntervalMs: 60_000,
    scaleUpPausedUntilMs: null,
    scaleDownPausedUntilMs: null,
    ...values,
  };
}

/** One sample a minute up to now, oldest first. */
export function minutes(
  count: number,
  sample: Partial<EngineSample> | ((index: number) => Partial<EngineSample>),
): EngineSample[] {
  return Array.from({ length: count }, (_, index) => ({
    atMs: now - (count - 1 - index) * 60_000,
    cpuRatio: 0.5,
    memoryRatio: null,
    instances: 4,
    ...(typeof sample === 'function' ? sample(index) : sample),
  }));
}

/** The same samples, `ms` earlier. */
export const aged = (samples: readonly EngineSample[], ms: number): EngineSample[] =>
  samples.map((sample) => ({ ...sample, atMs: sample.atMs - ms }));

/** Four instances at a half for a quarter of an hour, and nothing that holds a decision back. */
export function input(values: Partial<EngineInput> = {}): EngineInput {
  return {
    currentInstances: 4,
    policy: policy(),
    samples: minutes(15, {}),
    usePrediction: false,
    prediction: null,
    recentActions: [],
    stopped: null,
    nowMs: now,
    ...values,
  };
}

/** Nothing learnt yet of how metrics respond to the count. */
export const noResponses: MetricResponses = {
  throughMs: 0,
  cpu: { baseRatio: 0, changes: 0, unchanged: 0 },
  memory: { baseRatio: 0, changes: 0, unchanged: 0 },
};

/** What one sample and what is foreseen recommend. */
export function recommendationOf(
  newest: EngineSample,
  prediction: EnginePrediction | null,
  own: CheckedForecast,
  policy: EnginePolicy,
  current: number,
): Recommendation {
  const evidence = {
    data: checkSamples([newest], policy, newest.atMs),
    prediction: { usable: prediction, proven: true, why: 'fresh' },
    own,
    responses: noResponses,
  };
  return recommend(evidence, policy, current) as Recommendation;
}
