import { bound } from './bound.ts';
import { estimateConfidence, forecastConfidence, unknownConfidence } from './confidence.ts';
import { type CheckedSamples, checkSamples, reportQuality } from './data-quality.ts';
import { type Ask, measureDemand } from './demand.ts';
import { guardViewOf, hold, protect } from './holds.ts';
import { limitStep } from './limit-step.ts';
import { type CheckedForecast, checkForecast } from './own-forecast.ts';
import { type CheckedPrediction, checkPrediction } from './prediction.ts';
import { sayNothingKnown, sayReason, saySeen } from './reason.ts';
import { foresee, type Need, recommend, weigh } from './recommend.ts';
import { stabilize } from './stabilize.ts';
import { Trail } from './stage.ts';
import { tolerate } from './tolerance.ts';
import type { Candidate, EngineDecision, EngineInput, Explanation, ReasonCode, StageName } from './types.ts';
import { percent } from './wording.ts';

/** Changes whenever the same input may give another decision. */
export const engineVersion = '1.5.0';

const stagesAfterData: readonly StageName[] = [
  'demand',
  'forecast',
  'recommendation',
  'tolerance',
  'stabilization',
  'step_limit',
  'bounds',
  'cooldown',
  'rate_limit',
  'pause',
  'protection',
];

/**
 * Samples, policy and history in, a decision with its reasons out. Pure: the same input gives the same decision, bit for
 * bit. Data that is missing, stale or partial never scales in; only bounds a resource is outside of turn a decision round.
 */
export function decide(input: EngineInput): EngineDecision {
  const { currentInstances: current, policy } = input;
  const data = checkSamples(input.samples, policy, input.nowMs);
  const prediction = checkPrediction(input);
  const own = checkForecast(input, data);
  const trail = new Trail(current);
  trail.add('data_quality', reportQuality(data, current));
  const newest = data.samples.at(-1);
  if (newest === undefined) {
    for (const stage of stagesAfterData) trail.add(stage, { capacity: current });
    return conclude(input, data, prediction, own, null, trail, sayNothingKnown(data, current));
  }

  const direct = directPrediction(prediction, own);
  const need = weigh(newest, direct.usable, own, policy, current);
  trail.add('demand', measureDemand(need.measured));
  trail.add('forecast', foresee(need, own.usable === null ? direct.why : own.why));
  trail.add('recommendation', recommend(need, data, current));
  trail.add('tolerance', tolerate(trail.capacity, current, need, policy));
  trail.add('stabilization', stabilize(trail.capacity, input, data, need));
  trail.add('step_limit', limitStep(trail.capacity, current, policy));
  trail.add('bounds', bound(trail.capacity, input, data));
  const view = guardViewOf(trail.capacity, input);
  trail.add('cooldown', hold('cooldown', view, trail.capacity));
  trail.add('rate_limit', hold('rate_limit', view, trail.capacity));
  trail.add('pause', hold('pause', view, trail.capacity));
  trail.add('protection', protect(view, trail.capacity, input.protections ?? []));

  const seen = saySeen(data, newest, direct.usable, need, current);
  return conclude(input, data, direct, own, need, trail, sayReason(input, seen, need, trail));
}

function conclude(
  input: EngineInput,
  data: CheckedSamples,
  prediction: CheckedPrediction,
  own: CheckedForecast,
  need: Need | null,
  trail: Trail,
  reason: string,
): EngineDecision {
  const current = input.currentInstances;
  const target = trail.capacity;
  const confidence =
    need === null
      ? unknownConfidence(input.policy)
      : need.forecast !== null
        ? forecastConfidence(target, need.forecast, input.policy)
        : estimateConfidence(target, data, need.chosen.metric, input.policy);
  return {
    decisionType: target > current ? 'scaleup' : target < current ? 'scaledown' : 'noaction',
    currentInstances: current,
    targetInstances: target,
    reasonCode: trail.binding ?? plainCode(target, current),
    reason,
    confidence: confidence.value,
    explanation: {
      candidates: need === null ? [] : candidatesOf(need),
      stages: trail.records,
      binding: trail.binding,
      wanted: need === null ? null : need.wanted,
      earliestNextChangeMs: target === current ? trail.heldUntilMs : null,
      dataQuality: {
        verdict: data.verdict,
        samplesUsed: data.samples.length,
        samplesDropped: data.dropped,
        newestSampleAgeMs: data.newestAgeMs,
      },
      confidence,
      prediction: explainPrediction(input, prediction, need),
      forecast: { used: need !== null && need.forecast !== null, why: own.why },
      engineVersion,
      policyVersion: input.policy.version,
    },
  };
}

/** Once the forecast knows what predictions are worth here, they speak through it, with the weight they have earned. */
function directPrediction(prediction: CheckedPrediction, own: CheckedForecast): CheckedPrediction {
  if (prediction.usable === null || own.usable === null) return prediction;
  const weights = own.usable.metrics.map((metric) => metric.predictionWeight);
  const known = weights.filter((weight) => weight !== null);
  if (known.length < weights.length) return prediction;
  const most = Math.max(...known);
  return { usable: null, why: `it is weighed in the forecast, with a weight of ${percent(most)}` };
}

function plainCode(target: number, current: number): ReasonCode {
  if (target > current) return 'demand_above_capacity';
  return target < current ? 'demand_below_capacity' : 'demand_matches_capacity';
}

function candidatesOf(need: Need): Candidate[] {
  return [...need.measured, ...need.predicted].map((ask: Ask) => ({
    source: ask.source,
    metric: ask.metric,
    demand: ask.demand,
    required: ask.required,
    chosen: ask === need.chosen,
  }));
}

function explainPrediction(
  input: EngineInput,
  prediction: CheckedPrediction,
  need: Need | null,
): Explanation['prediction'] {
  const requested = input.usePrediction;
  if (prediction.usable === null) return { requested, used: false, why: prediction.why };
  if (need === null) return { requested, used: false, why: 'there are no samples to check it against' };
  if (need.chosen.source === 'prediction') return { requested, used: true, why: prediction.why };
  return { requested, used: true, why: 'what is measured needs more than it, and that is the floor' };
}
