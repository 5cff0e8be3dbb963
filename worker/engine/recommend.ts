import type { EnginePolicy, EnginePrediction, EngineSample } from '../../shared/domain/scaling-decision.ts';
import type { CheckedSamples } from './data-quality.ts';
import { type Ask, asksOf, mostRequired } from './demand.ts';
import type { Stage } from './stage.ts';

/** A silence longer than this is no longer the last minutes' demand: scaling out on it, too, ends. */
const longestSilenceMs = 15 * 60_000;

/** Everything the numbers ask for, before anything limits it. */
export interface Need {
  readonly measured: readonly Ask[];
  /** Empty when no prediction is used. */
  readonly predicted: readonly Ask[];
  /** The ask that decides. */
  readonly chosen: Ask;
  /** The largest need of all, not rounded. */
  readonly unrounded: number;
  readonly wanted: number;
  /** A measured metric whose demand is hidden. */
  readonly hidden: Ask | undefined;
}

export function weigh(newest: EngineSample, prediction: EnginePrediction | null, policy: EnginePolicy): Need {
  const measured = asksOf(newest, policy, 'reactive');
  const predicted = prediction === null ? [] : asksOf(prediction, policy, 'prediction');
  // The prediction first: it decides unless what is measured now needs more.
  const all = [...predicted, ...measured];
  const chosen = all.reduce((best, ask) => (isGreater(ask, best) ? ask : best));
  return {
    measured,
    predicted,
    chosen,
    unrounded: all.reduce((most, ask) => Math.max(most, ask.need), 0),
    wanted: chosen.required,
    hidden: measured.find((ask) => ask.saturated),
  };
}

function isGreater(ask: Ask, best: Ask): boolean {
  if (ask.required !== best.required) return ask.required > best.required;
  return ask.source === best.source && ask.need > best.need;
}

/** The prediction replaces what is measured, except that what is needed right now is a floor under it. */
export function foresee(need: Need, why: string): Stage {
  const capacity = need.wanted;
  if (need.predicted.length === 0) return { capacity, detail: `no prediction: ${why}` };
  const predicted = mostRequired(need.predicted);
  const floor = predicted < capacity ? `, less than the ${capacity} needed now` : '';
  return { capacity, detail: `the prediction needs ${predicted}${floor}` };
}

/** What is wanted, as far as what was measured is recent enough to want anything. */
export function recommend(need: Need, data: CheckedSamples, current: number): Stage {
  if (data.verdict !== 'stale' || (data.newestAgeMs ?? 0) <= longestSilenceMs)
    return { capacity: need.wanted };
  const capacity = Math.max(current, mostRequired(need.predicted));
  return capacity === need.wanted ? { capacity } : { capacity, code: 'stale_data', detail: data.why };
}
