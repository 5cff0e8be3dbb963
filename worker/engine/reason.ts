import type { CheckedSamples } from './data-quality.ts';
import type { Load, Proposal } from './demand.ts';
import type { Recommendation } from './recommend.ts';
import type { Trail } from './stage.ts';
import type { EngineInput, EnginePrediction, EngineSample } from './types.ts';
import { instances, percent, seconds } from './wording.ts';

/** One plain sentence: what was seen, what happens, what would meet the target, and what stood in the way. */
export function explainDecision(
  input: EngineInput,
  seen: string,
  recommendation: Recommendation,
  { capacity: target, because }: Trail,
): string {
  const current = input.currentInstances;
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
export function describeMeasured(
  data: CheckedSamples,
  newest: EngineSample,
  prediction: EnginePrediction | null,
  recommendation: Recommendation,
  current: number,
): string {
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

export function explainNoData(data: CheckedSamples, current: number): string {
  return `The count stays at ${current} because ${data.why}: post metrics for this resource.`;
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
