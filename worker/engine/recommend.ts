import type { CheckedSamples } from './data-quality.ts';
import {
  demandAt,
  forecastProposals,
  highestRequired,
  limitRatio,
  type Proposal,
  proposalsOf,
  relativeSize,
  roundUp,
} from './demand.ts';
import type { CheckedForecast } from './own-forecast.ts';
import type { CheckedPrediction } from './prediction.ts';
import type { Stage } from './stage.ts';
import type { EngineForecast, EnginePolicy, MetricResponses } from './types.ts';

/** A silence longer than this is no longer the last minutes' demand: scaling out on it, too, ends. */
const longestSilenceMs = 15 * 60_000;

/** Everything the numbers ask for, before anything limits it. */
export interface Recommendation {
  readonly measured: readonly Proposal[];
  /** What predictions and forecasts ask for; empty when none is used. */
  readonly predicted: readonly Proposal[];
  /** The proposal that decides. */
  readonly chosen: Proposal;
  /** The largest need of all, not rounded. */
  readonly unrounded: number;
  readonly wanted: number;
  /** A measured metric whose demand is hidden. */
  readonly saturated: Proposal | undefined;
  /** Our own forecast, where it leads. */
  readonly forecast: EngineForecast | null;
  readonly responses: MetricResponses;
}

/** What a recommendation is made of. */
export interface Evidence {
  readonly data: CheckedSamples;
  readonly prediction: CheckedPrediction;
  readonly own: CheckedForecast;
  readonly responses: MetricResponses;
}

/** @returns null where nothing asks for anything: no sample, or none of a metric that responds to the count. */
export function recommend(
  { data, prediction, own, responses }: Evidence,
  policy: EnginePolicy,
  current: number,
): Recommendation | null {
  const newest = data.samples.at(-1);
  if (newest === undefined) return null;
  const forecast = own.usable;
  const leads = forecast !== null && !own.learning;
  const yardstick = { policy, responses, planned: leads ? limitRatio : undefined };
  const measured = proposalsOf(newest, 'reactive', yardstick).map((proposal) =>
    forecast !== null && proposal.saturated
      ? beyondSaturation(
          proposal,
          forecast,
          newest.instances * relativeSize(newest, proposal.metric),
          current,
        )
      : proposal,
  );
  const predicted = [
    ...(forecast === null ? [] : forecastProposals(forecast, policy, current)),
    ...(prediction.usable === null ? [] : predictedProposals(prediction, data, policy)),
  ];
  // The predicted ones first: they decide unless what is measured now needs more.
  const all = [...predicted, ...measured];
  const [first] = all;
  if (first === undefined) return null;
  const chosen = all.reduce((best, proposal) => (isGreater(proposal, best) ? proposal : best), first);
  return {
    measured,
    predicted,
    chosen,
    unrounded: all.reduce((most, proposal) => Math.max(most, proposal.unrounded), 0),
    wanted: chosen.required,
    saturated: measured.find((proposal) => proposal.saturated),
    forecast,
    responses,
  };
}

/**
 * What a prediction asks for. One without a record that speaks for it goes no more than a step beyond what the highest
 * measured demand needs: each step waits for the demand to follow.
 */
function predictedProposals(
  { usable, proven }: CheckedPrediction,
  data: CheckedSamples,
  policy: EnginePolicy,
): readonly Proposal[] {
  if (usable === null) return [];
  const proposals = proposalsOf(usable, 'prediction', { policy });
  if (proven) return proposals;
  return proposals.map((proposal) => {
    const highest = data.samples.reduce(
      (most, sample) => Math.max(most, demandAt(sample, proposal.metric)),
      0,
    );
    const most = roundUp(highest / proposal.targetRatio) + policy.maxScaleUpStep;
    if (proposal.required <= most) return proposal;
    return { ...proposal, required: most, unrounded: most, visible: most };
  });
}

/**
 * A forecast learns from what is visible. A metric that has been well above 1 before hides nothing; of one that may,
 * twice what serves now is wanted and, once that is on its way, one more at a time: up to four times.
 */
function beyondSaturation(
  proposal: Proposal,
  forecast: EngineForecast,
  serving: number,
  current: number,
): Proposal {
  const capped = forecast.metrics.find((metric) => metric.metric === proposal.metric)?.capped ?? true;
  if (!capped) {
    const unrounded = proposal.demand / proposal.targetRatio;
    return { ...proposal, unrounded, required: roundUp(unrounded), saturated: false };
  }
  const growing = Math.min(current + 1, 4 * serving);
  return growing > proposal.required ? { ...proposal, unrounded: growing, required: growing } : proposal;
}

function isGreater(proposal: Proposal, best: Proposal): boolean {
  if (proposal.required !== best.required) return proposal.required > best.required;
  return proposal.source === best.source && proposal.unrounded > best.unrounded;
}

/** The prediction replaces what is measured, except that what is needed right now is a floor under it. */
export function explainForecast(recommendation: Recommendation, why: string): Stage {
  const capacity = recommendation.wanted;
  if (recommendation.predicted.length === 0) return { capacity, detail: `no prediction: ${why}` };
  const predicted = highestRequired(recommendation.predicted);
  const source = recommendation.forecast === null ? 'prediction' : 'forecast';
  const floor = predicted < capacity ? `, less than the ${capacity} needed now` : '';
  return { capacity, detail: `the ${source} needs ${predicted}${floor}` };
}

/** What is wanted, as far as what was measured is recent enough to want anything. */
export function withoutStaleDemand(
  recommendation: Recommendation,
  data: CheckedSamples,
  current: number,
): Stage {
  if (data.verdict !== 'stale' || (data.newestAgeMs ?? 0) <= longestSilenceMs)
    return { capacity: recommendation.wanted };
  const capacity = Math.max(current, highestRequired(recommendation.predicted));
  return capacity === recommendation.wanted
    ? { capacity }
    : { capacity, code: 'stale_data', detail: data.why };
}
