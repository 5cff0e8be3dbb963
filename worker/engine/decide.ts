import { bound } from './bound.ts';
import { estimateConfidence, forecastConfidence, unknownConfidence } from './confidence.ts';
import { type CheckedSamples, checkSamples, reportQuality } from './data-quality.ts';
import { measureDemand, type Proposal } from './demand.ts';
import { DecidingView, hold, protect } from './holds.ts';
import { limitStep } from './limit-step.ts';
import { type CheckedForecast, checkForecast } from './own-forecast.ts';
import { type CheckedPrediction, checkPrediction } from './prediction.ts';
import { describeMeasured, explainDecision, explainNoData } from './reason.ts';
import { explainForecast, type Recommendation, recommend, withoutStaleDemand } from './recommend.ts';
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
 * Samples, policy and history in, a decision with its reasons out. Pure: the same input gives the same decision, bit
 * for bit. Data that is missing, stale or partial never scales in; only bounds a resource is outside of turn a decision
 * round.
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
    return conclude(input, data, prediction, own, null, trail, explainNoData(data, current));
  }

  const direct = directPrediction(prediction, own);
  const recommendation = recommend(newest, direct.usable, own, policy, current);
  trail.add('demand', measureDemand(recommendation.measured));
  trail.add('forecast', explainForecast(recommendation, own.usable === null ? direct.why : own.why));
  trail.add('recommendation', withoutStaleDemand(recommendation, data, current));
  trail.add('tolerance', tolerate(trail.capacity, current, recommendation, policy));
  trail.add('stabilization', stabilize(trail.capacity, input, data, recommendation));
  trail.add('step_limit', limitStep(trail.capacity, current, policy));
  trail.add('bounds', bound(trail.capacity, input, data));
  const view = new DecidingView(trail.capacity, input);
  trail.add('cooldown', hold('cooldown', view, trail.capacity));
  trail.add('rate_limit', hold('rate_limit', view, trail.capacity));
  trail.add('pause', hold('pause', view, trail.capacity));
  trail.add('protection', protect(view, trail.capacity, input.protections ?? []));

  const seen = describeMeasured(data, newest, direct.usable, recommendation, current);
  return conclude(
    input,
    data,
    direct,
    own,
    recommendation,
    trail,
    explainDecision(input, seen, recommendation, trail),
  );
}

function conclude(
  input: EngineInput,
  data: CheckedSamples,
  prediction: CheckedPrediction,
  own: CheckedForecast,
  recommendation: Recommendation | null,
  trail: Trail,
  reason: string,
): EngineDecision {
  const current = input.currentInstances;
  const target = trail.capacity;
  const confidence =
    recommendation === null
      ? unknownConfidence(input.policy)
      : recommendation.forecast !== null
        ? forecastConfidence(target, recommendation.forecast, input.policy)
        : estimateConfidence(target, data, recommendation.chosen.metric, input.policy);
  return {
    decisionType: target > current ? 'scaleup' : target < current ? 'scaledown' : 'noaction',
    currentInstances: current,
    targetInstances: target,
    reasonCode: trail.binding ?? plainCode(target, current),
    reason,
    confidence: confidence.value,
    explanation: {
      candidates: recommendation === null ? [] : candidatesOf(recommendation),
      stages: trail.records,
      binding: trail.binding,
      wanted: recommendation === null ? null : recommendation.wanted,
      earliestNextChangeMs: target === current ? trail.heldUntilMs : null,
      dataQuality: {
        verdict: data.verdict,
        samplesUsed: data.samples.length,
        samplesDropped: data.dropped,
        newestSampleAgeMs: data.newestAgeMs,
      },
      confidence,
      prediction: explainPrediction(input, prediction, recommendation),
      forecast: { used: recommendation !== null && recommendation.forecast !== null, why: own.why },
      engineVersion,
      policyVersion: input.policy.version,
    },
  };
}

/** Once the forecast knows what predictions are worth here, they count through it, with the weight they have earned. */
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

function candidatesOf(recommendation: Recommendation): Candidate[] {
  return [...recommendation.measured, ...recommendation.predicted].map((proposal: Proposal) => ({
    source: proposal.source,
    metric: proposal.metric,
    demand: proposal.demand,
    required: proposal.required,
    chosen: proposal === recommendation.chosen,
  }));
}

function explainPrediction(
  input: EngineInput,
  prediction: CheckedPrediction,
  recommendation: Recommendation | null,
): Explanation['prediction'] {
  const requested = input.usePrediction;
  if (prediction.usable === null) return { requested, used: false, why: prediction.why };
  if (recommendation === null)
    return { requested, used: false, why: 'there are no samples to check it against' };
  if (recommendation.chosen.source === 'prediction') return { requested, used: true, why: prediction.why };
  return { requested, used: true, why: 'what is measured needs more than it, and that is the floor' };
}
