import { forecastConfidence } from '../../engine/confidence.ts';
import { decide } from '../../engine/decide.ts';
import type {
  EngineDecision,
  EngineForecast,
  EnginePolicy,
  EngineSample,
  MetricResponses,
} from '../../engine/types.ts';
import { ResourceForecaster, shapeOf } from '../../forecaster/resource-forecaster.ts';
import type { PolicyMaker, PolicyOptions, Statement } from '../policy.ts';

const unlimited = 1_000_000;
/** What the stabilization window and an hour need. */
const keptMs = 31 * 60_000;
/** Shares of the count that is expected to be needed, where a confidence may be anything from 0 to 1. */
const sharesAround = [0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2];

/** Risk mode without step limits or cooldown. */
export function defaultPolicy(options: PolicyOptions): EnginePolicy {
  return {
    version: 1,
    minInstances: options.minInstances,
    maxInstances: options.maxInstances,
    targetCpuRatio: options.target,
    targetMemoryRatio: 0.8,
    planning: 'risk',
    limitRatio: 0.9,
    toleratedRisk: options.risk,
    maxScaleUpStep: unlimited,
    maxScaleDownStep: unlimited,
    scaleUpCooldownMs: 0,
    scaleDownCooldownMs: 0,
    maxActionsPerHour: unlimited,
    tolerance: 0.1,
    stabilizationWindowMs: 300_000,
    provisioningDelayMs: options.delayMs,
    decisionIntervalMs: options.stepMs,
    scaleUpPausedUntilMs: null,
    scaleDownPausedUntilMs: null,
  };
}

/** The platform's defaults: at most 3 up and 2 down at once, five minutes of cooldown, twelve changes an hour. */
export function limitedPolicy(options: PolicyOptions): EnginePolicy {
  return {
    ...defaultPolicy(options),
    maxScaleUpStep: 3,
    maxScaleDownStep: 2,
    scaleUpCooldownMs: 300_000,
    scaleDownCooldownMs: 300_000,
    maxActionsPerHour: 12,
  };
}

/** The production engine on the production forecaster. */
export function scalerWith(policyFor: (options: PolicyOptions) => EnginePolicy): PolicyMaker {
  return (options) => {
    const policy = policyFor(options);
    const forecaster = new ResourceForecaster(shapeOf(policy), ['cpu']);
    const samples: EngineSample[] = [];
    const actions: { atMs: number; action: 'ScaleUp' | 'ScaleDown' }[] = [];
    let forecast = forecaster.forecast(policy);
    let decision: EngineDecision;
    let responses: MetricResponses | null = null;
    return {
      decide({ atMs, utilisation, ready, total }) {
        if (utilisation !== null) {
          const sample = { atMs, cpuRatio: utilisation, memoryRatio: null, instances: ready };
          samples.push(sample);
          forecaster.advance([sample], policy);
        }
        while (samples[0] !== undefined && samples[0].atMs < atMs - keptMs) samples.shift();
        while (actions[0] !== undefined && actions[0].atMs < atMs - 3_600_000) actions.shift();
        forecast = forecaster.forecast(policy);
        decision = decide({
          currentInstances: total,
          policy,
          samples,
          usePrediction: true,
          prediction: null,
          forecast,
          recentActions: actions,
          stopped: null,
          responses,
          nowMs: atMs,
        });
        responses = decision.responses ?? responses;
        const { targetInstances } = decision;
        if (targetInstances !== total)
          actions.push({ atMs, action: targetInstances > total ? 'ScaleUp' : 'ScaleDown' });
        return targetInstances;
      },
      stated() {
        const { stepMs, horizonSteps } = forecaster.shape;
        return {
          horizonSteps: Math.round((horizonSteps * stepMs) / options.stepMs),
          decided: statementOf(decision),
          around: forecast === null ? [] : statementsAround(forecast, policy),
        };
      },
      band() {
        const [cpu] = forecast?.metrics ?? [];
        if (cpu === undefined) return null;
        return { expected: cpu.expected, upper: cpu.upper, horizonSteps: forecaster.shape.horizonSteps };
      },
    };
  };
}

function statementOf({ confidence, targetInstances, explanation }: EngineDecision): Statement {
  return { confidence, atMost: explanation.confidence.withinRatio * targetInstances };
}

function statementsAround(forecast: EngineForecast, policy: EnginePolicy): Statement[] {
  const expected = (forecast.metrics[0]?.expected ?? 0) / policy.limitRatio;
  return sharesAround.map((share) => {
    const { value, withinRatio } = forecastConfidence(share * expected, forecast, policy);
    return { confidence: value, atMost: withinRatio * share * expected };
  });
}
