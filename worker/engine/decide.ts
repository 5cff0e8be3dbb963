import type {
  Candidate,
  EngineDecision,
  EngineInput,
  EngineSample,
  Explanation,
  ReasonCode,
  StageName,
  StageRecord,
} from '../../shared/domain/scaling-decision.ts';
import { estimateConfidence } from './confidence.ts';
import { type CheckedSamples, checkSamples } from './data-quality.ts';
import { candidatesOf, isSaturated, requiredOf } from './demand.ts';
import { clamp, cooldownHold, type Hold, limitStep, pauseHold, rateHold, tolerate } from './limits.ts';
import { checkPrediction, type PredictionVerdict } from './prediction.ts';
import { stabilize } from './stabilize.ts';
import { recordStage, type Stage } from './stage.ts';

/** Changes whenever the same inputs may give another decision. */
export const engineVersion = '1.0.0';

/**
 * Samples, policy and history in, a decision with its reasons out. Pure: the same input gives the same decision, bit for
 * bit. Missing, stale or partial data never scales in; no limit ever turns a decision round.
 */
export function decide(input: EngineInput): EngineDecision {
  const data = checkSamples(input.samples, input.policy, input.nowMs);
  const prediction = checkPrediction(input);
  const trail = new Trail(input.currentInstances);
  const newest = data.samples.at(-1);
  const need = newest === undefined ? null : recommend(input, data, newest, prediction);
  trail.add('data_quality', { capacity: input.currentInstances, ...qualityNote(data) });
  if (need === null || newest === undefined)
    return hold(input, data, prediction, trail, [], noDataReason(data));

  const { candidates, required, saturated } = need;
  trail.add('demand', { capacity: need.reactive, ...(saturated ? { code: 'saturated' as const } : {}) });
  trail.add('forecast', { capacity: Math.max(need.reactive, need.predicted ?? 0) });
  trail.add('recommendation', { capacity: required });
  trail.add('tolerance', tolerate(required, input.currentInstances, input.policy, saturated));
  const trusted = data.verdict === 'fresh';
  if (!trusted && trail.capacity < input.currentInstances) {
    trail.add('stabilization', {
      capacity: input.currentInstances,
      code: data.verdict === 'stale' ? 'stale_data' : 'partial_data',
    });
  } else {
    trail.add(
      'stabilization',
      stabilize(trail.capacity, input.currentInstances, data.samples, input.policy, input.nowMs),
    );
  }
  applyLimits(input, trail);
  const holds = trail.capacity === input.currentInstances ? null : applyHolds(input, trail);
  return conclude(input, data, prediction, trail, candidates, required, holds);
}

interface Need {
  readonly candidates: readonly Candidate[];
  readonly reactive: number;
  readonly predicted: number | null;
  readonly required: number;
  readonly saturated: boolean;
}

/** The larger need of CPU and memory, now and, with a usable prediction, over the horizon. What is needed now is a floor. */
function recommend(
  input: EngineInput,
  data: CheckedSamples,
  newest: EngineSample,
  verdict: PredictionVerdict,
): Need {
  const stale = data.verdict === 'stale';
  const now = candidatesOf(newest, input.policy, 'reactive');
  const ahead = verdict.usable === null ? [] : candidatesOf(verdict.usable, input.policy, 'prediction');
  const reactive = stale ? 0 : requiredOf(newest, input.policy);
  const predicted = ahead.length === 0 ? null : Math.max(...ahead.map((candidate) => candidate.required));
  // Old samples say nothing about now: without a prediction nothing is wanted but what runs.
  const required = stale
    ? Math.max(input.currentInstances, predicted ?? 0)
    : Math.max(reactive, predicted ?? 0);
  const all = [...(stale ? [] : now), ...ahead];
  const best = all.reduce<Omit<Candidate, 'chosen'> | null>(
    (chosen, candidate) => (chosen === null || candidate.required > chosen.required ? candidate : chosen),
    null,
  );
  return {
    candidates: all.map((candidate) => ({ ...candidate, chosen: candidate === best })),
    reactive: stale ? input.currentInstances : reactive,
    predicted,
    required,
    saturated: !stale && isSaturated(newest),
  };
}

/** Bounds come first when the resource is outside them, so that it is led back whatever the demand; then the step. */
function applyLimits(input: EngineInput, trail: Trail): void {
  const current = input.currentInstances;
  const before = trail.capacity;
  const bounded = clamp(before, input.policy);
  const stepped = limitStep(bounded.capacity, current, input.policy);
  trail.add('bounds', bounded);
  trail.add('step_limit', stepped);
  const wanted = Math.sign(before - current);
  const outside = current < input.policy.minInstances || current > input.policy.maxInstances;
  if (!outside && wanted !== 0 && Math.sign(trail.capacity - current) === -wanted) {
    trail.add('bounds', { capacity: current, code: 'direction_kept' });
  }
}

/** May anything happen at all now? Every hold is recorded; the one that lasts longest is the answer. */
function applyHolds(input: EngineInput, trail: Trail): Hold | null {
  const up = trail.capacity > input.currentInstances;
  const found: [StageName, Hold | null][] = [
    ['cooldown', cooldownHold(input, up)],
    ['rate_limit', rateHold(input)],
    ['pause', pauseHold(input, up)],
  ];
  let longest: Hold | null = null;
  for (const [stage, held] of found) {
    if (held === null) {
      trail.add(stage, { capacity: trail.capacity });
      continue;
    }
    trail.add(stage, { capacity: input.currentInstances, code: held.code, detail: held.words });
    const later =
      longest === null ||
      held.untilMs === null ||
      (longest.untilMs !== null && held.untilMs > longest.untilMs);
    if (later) longest = held;
  }
  return longest;
}

function conclude(
  input: EngineInput,
  data: CheckedSamples,
  prediction: PredictionVerdict,
  trail: Trail,
  candidates: readonly Candidate[],
  wanted: number,
  held: Hold | null,
): EngineDecision {
  const current = input.currentInstances;
  const target = trail.capacity;
  const usedPrediction = candidates.some((candidate) => candidate.source === 'prediction');
  const code: ReasonCode = held?.code ?? trail.binding ?? plainCode(target, current);
  const lead =
    usedPrediction && prediction.usable !== null ? predictionWords(prediction.usable) : currentWords(data);
  return {
    decisionType: target > current ? 'scaleup' : target < current ? 'scaledown' : 'noaction',
    currentInstances: current,
    targetInstances: target,
    reasonCode: code,
    reason: `${lead}${consequence(input, trail, wanted, held, code)}`,
    confidence: estimateConfidence(target, data.samples, input.policy).value,
    explanation: explanationOf(input, data, prediction, trail, candidates, {
      wanted,
      binding: held?.code ?? trail.binding,
      earliestNextChangeMs: held?.untilMs ?? null,
      target,
      used: usedPrediction,
    }),
  };
}

/** No number can be named: keep what runs. */
function hold(
  input: EngineInput,
  data: CheckedSamples,
  prediction: PredictionVerdict,
  trail: Trail,
  candidates: readonly Candidate[],
  reason: string,
): EngineDecision {
  const current = input.currentInstances;
  return {
    decisionType: 'noaction',
    currentInstances: current,
    targetInstances: current,
    reasonCode: 'no_data',
    reason,
    confidence: 0.5,
    explanation: explanationOf(input, data, prediction, trail, candidates, {
      wanted: null,
      binding: 'no_data',
      earliestNextChangeMs: null,
      target: current,
      used: false,
    }),
  };
}

function explanationOf(
  input: EngineInput,
  data: CheckedSamples,
  prediction: PredictionVerdict,
  trail: Trail,
  candidates: readonly Candidate[],
  outcome: {
    wanted: number | null;
    binding: ReasonCode | null;
    earliestNextChangeMs: number | null;
    target: number;
    used: boolean;
  },
): Explanation {
  return {
    candidates,
    stages: trail.stages,
    binding: outcome.binding,
    wanted: outcome.wanted,
    earliestNextChangeMs: outcome.earliestNextChangeMs,
    dataQuality: {
      verdict: data.verdict,
      samplesUsed: data.samples.length,
      samplesDropped: data.dropped,
      newestSampleAgeMs: data.newestAgeMs,
    },
    confidence: estimateConfidence(outcome.target, data.samples, input.policy),
    prediction: { requested: input.usePrediction, used: outcome.used, why: prediction.why },
    engineVersion,
    policyVersion: input.policy.version,
  };
}

/** The number on its way through the stages. */
class Trail {
  readonly stages: StageRecord[] = [];
  capacity: number;
  /** The last stage's code that changed or held the number. */
  binding: ReasonCode | null = null;

  constructor(current: number) {
    this.capacity = current;
  }

  add(stage: StageName, result: Stage): void {
    this.stages.push(recordStage(stage, this.capacity, result));
    this.capacity = result.capacity;
    if (result.code !== undefined && stage !== 'data_quality') this.binding = result.code;
  }
}

function qualityNote(data: CheckedSamples): { code?: ReasonCode } {
  if (data.verdict === 'stale') return { code: 'stale_data' };
  if (data.verdict === 'partial') return { code: 'partial_data' };
  return data.verdict === 'none' ? { code: 'no_data' } : {};
}

function noDataReason(data: CheckedSamples): string {
  const unusable = data.dropped > 0 ? ` (${data.dropped} were not plausible)` : '';
  return `There are no usable metric samples${unusable}, so nothing changes: post metrics for this resource.`;
}

function plainCode(target: number, current: number): ReasonCode {
  if (target > current) return 'demand_above_capacity';
  return target < current ? 'demand_below_capacity' : 'demand_matches_capacity';
}

const percent = (ratio: number) => `${Math.round(ratio * 100)}%`;

function predictionWords(prediction: { cpuRatio: number | null; memoryRatio: number | null }): string {
  const parts = [];
  if (prediction.cpuRatio !== null) parts.push(`CPU: ${percent(prediction.cpuRatio)}`);
  if (prediction.memoryRatio !== null) parts.push(`Memory: ${percent(prediction.memoryRatio)}`);
  return `Predicted ${parts.join(', ')}`;
}

function currentWords(data: CheckedSamples): string {
  const newest = data.samples.at(-1);
  if (newest === undefined) return 'No metrics';
  const parts = [];
  if (newest.cpuRatio !== null) parts.push(`CPU: ${percent(newest.cpuRatio)}`);
  if (newest.memoryRatio !== null) parts.push(`Memory: ${percent(newest.memoryRatio)}`);
  return `Measured ${parts.join(', ')} on ${newest.instances}`;
}

const because: Partial<Record<ReasonCode, string>> = {
  within_tolerance: 'the difference is within the tolerance',
  stabilized: 'the stabilization window still holds a higher need',
  partial_data: 'the metrics are incomplete and scaling in needs complete ones',
  stale_data: 'the metrics are too old to scale in on',
  scale_up_step: 'the step limit allows no more at once',
  scale_down_step: 'the step limit allows no more at once',
  at_maximum: 'that is the maximum',
  at_minimum: 'that is the minimum',
  direction_kept: 'a limit would have turned the decision round',
  saturated: 'utilisation is at its ceiling and hides the true demand',
};

function consequence(
  input: EngineInput,
  trail: Trail,
  wanted: number,
  held: Hold | null,
  code: ReasonCode,
): string {
  const current = input.currentInstances;
  const target = trail.capacity;
  if (held !== null) return `: ${wanted} wanted, kept at ${current} as ${held.words}.`;
  const why = because[code];
  const tail = why === undefined ? '' : `, as ${why}`;
  if (target === current)
    return wanted === current ? `: ${current} is right.` : `: ${wanted} wanted, kept at ${current}${tail}.`;
  return `: ${target > current ? 'scaling up' : 'scaling down'} from ${current} to ${target}${wanted === target ? '' : ` (${wanted} wanted)`}${tail}.`;
}
