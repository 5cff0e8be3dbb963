import type { CheckedSamples } from './data-quality.ts';
import type { Load, Proposal } from './demand.ts';
import type { CheckedPrediction } from './prediction.ts';
import type { Recommendation } from './recommend.ts';
import type { Stage, Trail } from './stage.ts';
import type { EngineInput, EnginePrediction, EngineSample } from './types.ts';
import { instances, percent, seconds } from './wording.ts';

/** What a decision was made from, as far as its sentence tells it. */
interface Seen {
  readonly data: CheckedSamples;
  readonly prediction: CheckedPrediction;
  readonly recommendation: Recommendation;
  /** What silence or demand at 0 made of it, where they did. */
  readonly atZero: Stage | null;
}

/** One plain sentence: what was seen, what happens, what would meet the target, and what stood in the way. */
export function explainDecision(
  { currentInstances: current }: EngineInput,
  { data, prediction, recommendation, atZero }: Seen,
  trail: Trail,
): string {
  const seen = describeMeasured(data, prediction.usable, recommendation, current);
  if (atZero !== null) return `${seen}. ${explainWithoutDemand(current, trail)}`;
  const { capacity: target, because } = trail;
  const { goal } = recommendation.chosen;
  if (target !== current) {
    const move = `${seen}: scaling ${target > current ? 'up' : 'down'} from ${current} to ${target}`;
    if (because === undefined) return `${move} for ${goal}.`;
    return recommendation.wanted === target
      ? `${move} because ${because}.`
      : `${move} because ${because}, where ${recommendation.wanted} would meet ${goal}.`;
  }
  if (because === undefined) return `${seen}: ${instances(current)} will do for ${goal}.`;
  const still = recommendation.wanted === current ? 'and' : 'but';
  return `${seen}: ${instances(recommendation.wanted)} would meet ${goal}, ${still} the count stays at ${current} because ${because}.`;
}

/** The sentence's beginning; with a prediction the platform's own words, to the letter. */
function describeMeasured(
  data: CheckedSamples,
  prediction: EnginePrediction | null,
  recommendation: Recommendation,
  current: number,
): string {
  const newest = data.samples.at(-1) as EngineSample;
  const ago = data.verdict === 'stale' ? ` ${seconds(data.newestAgeMs ?? 0)} ago` : '';
  const measured = `${ratios(newest)} on ${instances(newest.instances)}${ago}`;
  if (recommendation.forecast !== null) {
    const predicted = `Predicted ${forecastRatios(recommendation.predicted)}`;
    return recommendation.chosen.source === 'reactive'
      ? `${predicted}, but measured ${measured}`
      : `${predicted} on ${instances(current)}`;
  }
  if (prediction === null) return `Measured ${measured}`;
  const predicted = `Predicted ${ratios(prediction)}`;
  return recommendation.chosen.source === 'prediction'
    ? `${predicted} on ${instances(prediction.instances)}`
    : `${predicted}, but measured ${measured}`;
}

/** The sentence where nothing measured asks for a count. */
export function explainWithoutDemand(current: number, { capacity: target, because, binding }: Trail): string {
  if (target !== current)
    return `Scaling ${target > current ? 'up' : 'down'} from ${current} to ${target} because ${because}.`;
  if (because === undefined) return `The count stays at ${current}: nothing asks for more.`;
  const todo = binding === 'no_data' ? ': post metrics for this resource' : '';
  return `The count stays at ${current} because ${because}${todo}.`;
}

function forecastRatios(proposals: readonly Proposal[]): string {
  const of = (metric: Proposal['metric']) =>
    proposals.find((proposal) => proposal.metric === metric && proposal.source === 'forecast')?.ratio ?? null;
  return ratios({ cpuRatio: of('cpu'), memoryRatio: of('memory'), instances: 0 });
}

function ratios(load: Load): string {
  const parts = [];
  if (load.cpuRatio !== null) parts.push(`CPU: ${percent(load.cpuRatio)}`);
  if (load.memoryRatio !== null) parts.push(`Memory: ${percent(load.memoryRatio)}`);
  return parts.join(', ');
}
