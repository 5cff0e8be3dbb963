import { bound } from './bound.ts';
import { estimateConfidence, forecastConfidence, unknownConfidence } from './confidence.ts';
import { checkSamples, reportQuality } from './data-quality.ts';
import { describeUnresponsive, highestRequired, measureDemand, type Proposal } from './demand.ts';
import { DecidingView, hold, protect } from './holds.ts';
import { limitStep } from './limit-step.ts';
import { explainResponses, isNews, learnResponses } from './metric-response.ts';
import { type CheckedForecast, checkForecast } from './own-forecast.ts';
import { type CheckedPrediction, checkPrediction } from './prediction.ts';
import { explainDecision, explainWithoutDemand } from './reason.ts';
import {
  type Evidence,
  explainForecast,
  type Recommendation,
  recommend,
  withoutStaleDemand,
} from './recommend.ts';
import { checkZero, type ZeroState } from './scale-to-zero.ts';
import { stabilize } from './stabilize.ts';
import { type Stage, Trail } from './stage.ts';
import { tolerate } from './tolerance.ts';
import type {
  Candidate,
  EngineDecision,
  EngineInput,
  EnginePolicy,
  Explanation,
  ReasonCode,
} from './types.ts';
import { percent } from './wording.ts';

/** Changes whenever the same input may give another decision. */
export const engineVersion = '1.6.0';

/**
 * Samples, policy and history in, a decision with its reasons out. Pure: the same input gives the same decision, bit
 * for bit. Data that is missing, stale, partial or in a doubtful unit never scales in; only bounds a resource is outside
 * of turn a decision round.
 */
export function decide(input: EngineInput): EngineDecision {
  const { currentInstances: current, policy } = input;
  const data = checkSamples(input.samples, policy, input.nowMs, input.deliveryDelayMs ?? null);
  const learnt = learnResponses(data.samples, input.responses ?? null);
  const own = checkForecast(input, data, learnt.current);
  const prediction = directPrediction(checkPrediction(input), own);
  const evidence = { data, prediction, own, responses: learnt.current };
  const recommendation = recommend(evidence, policy, current);
  const zero = checkZero(input, data, prediction.usable, own);
  const atZero = stageAtZero(current, zero, recommendation);
  const trail = new Trail(current);
  trail.add('data_quality', atZero === null ? reportQuality(data, current) : { capacity: current });
  if (recommendation === null) addWithoutDemand(trail, evidence, policy);
  else addDemand(trail, evidence, recommendation, policy);
  // Silence has been watched for longer than any window, and what wakes it waits for none.
  if (atZero !== null || recommendation === null) addSettled(trail, atZero ?? { capacity: trail.capacity });
  else addRecommendation(trail, input, evidence, recommendation);
  trail.add('step_limit', limitStep(trail.capacity, current, policy));
  trail.add('bounds', bound(trail.capacity, input, data, zero));
  const view = new DecidingView(trail.capacity, input);
  trail.add('cooldown', hold('cooldown', view, trail.capacity));
  trail.add('rate_limit', hold('rate_limit', view, trail.capacity));
  trail.add('pause', hold('pause', view, trail.capacity));
  trail.add('protection', protect(view, trail.capacity, input.protections ?? []));
  const responses = isNews(learnt.stored, input.responses ?? null) ? learnt.stored : null;
  return { ...conclude(input, evidence, { recommendation, atZero }, trail), responses };
}

/** Where nothing measured asks for a count. */
function addWithoutDemand(trail: Trail, { data, responses }: Evidence, policy: EnginePolicy): void {
  const capacity = trail.capacity;
  const detail = describeUnresponsive(data.samples.at(-1), responses, policy);
  trail.add('demand', detail === '' ? { capacity } : { capacity, code: 'unresponsive', detail });
  trail.add('forecast', { capacity });
}

function addDemand(
  trail: Trail,
  { data, prediction, own, responses }: Evidence,
  recommendation: Recommendation,
  policy: EnginePolicy,
): void {
  const measured = measureDemand(recommendation.measured);
  const unresponsive = describeUnresponsive(data.samples.at(-1), responses, policy);
  const detail = unresponsive === '' ? measured.detail : `${measured.detail}; ${unresponsive}`;
  trail.add('demand', detail === undefined ? measured : { ...measured, detail });
  trail.add('forecast', explainForecast(recommendation, own.usable === null ? prediction.why : own.why));
}

function addSettled(trail: Trail, stage: Stage): void {
  trail.add('recommendation', stage);
  trail.add('tolerance', { capacity: trail.capacity });
  trail.add('stabilization', { capacity: trail.capacity });
}

function addRecommendation(
  trail: Trail,
  input: EngineInput,
  { data }: Evidence,
  recommendation: Recommendation,
): void {
  const { currentInstances: current, policy } = input;
  trail.add('recommendation', withoutStaleDemand(recommendation, data, current));
  trail.add('tolerance', tolerate(trail.capacity, current, recommendation, policy));
  trail.add('stabilization', stabilize(trail.capacity, input, data, recommendation));
}

/** With a minimum of 0: what silence or, at 0, demand makes of the count; null where neither says anything. */
function stageAtZero(
  current: number,
  zero: ZeroState | null,
  known: Recommendation | null = null,
): Stage | null {
  if (zero === null) return null;
  if (zero.state === 'silent' && current > 0) return { capacity: 0, code: 'idle', detail: zero.detail };
  if (current > 0) return null;
  if (zero.state === 'unknown' && known === null) return null;
  if (zero.state !== 'active') return { capacity: 0, detail: zero.detail };
  const capacity = Math.max(1, highestRequired(known?.predicted ?? []));
  return { capacity, code: 'woken', detail: `nothing runs, and ${zero.detail}` };
}

function conclude(
  input: EngineInput,
  { data, prediction, own, responses }: Evidence,
  { recommendation, atZero }: { recommendation: Recommendation | null; atZero: Stage | null },
  trail: Trail,
): Omit<EngineDecision, 'responses'> {
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
    reason:
      recommendation === null
        ? explainWithoutDemand(current, trail)
        : explainDecision(input, { data, prediction, recommendation, atZero }, trail),
    confidence: confidence.value,
    explanation: {
      candidates: recommendation === null ? [] : candidatesOf(recommendation),
      stages: trail.records,
      binding: trail.binding,
      wanted: atZero?.capacity ?? recommendation?.wanted ?? null,
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
      blocks: input.observed?.blocks ?? [],
      responses: explainResponses(responses, input.policy),
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
  return {
    usable: null,
    proven: false,
    why: `it is weighed in the forecast, with a weight of ${percent(most)}`,
  };
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
