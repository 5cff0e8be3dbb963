import type { CheckedSamples } from './data-quality.ts';
import { type Ask, asksOf, forecastAsks, limitRatio, mostRequired, roundUp, worthOf } from './demand.ts';
import type { CheckedForecast } from './own-forecast.ts';
import type { Stage } from './stage.ts';
import type { EngineForecast, EnginePolicy, EnginePrediction, EngineSample } from './types.ts';

/** A silence longer than this is no longer the last minutes' demand: scaling out on it, too, ends. */
const longestSilenceMs = 15 * 60_000;

/** Everything the numbers ask for, before anything limits it. */
export interface Need {
  readonly measured: readonly Ask[];
  /** What predictions and forecasts ask for; empty when none is used. */
  readonly predicted: readonly Ask[];
  /** The ask that decides. */
  readonly chosen: Ask;
  /** The largest need of all, not rounded. */
  readonly unrounded: number;
  readonly wanted: number;
  /** A measured metric whose demand is hidden. */
  readonly hidden: Ask | undefined;
  /** Our own forecast, where it leads. */
  readonly forecast: EngineForecast | null;
}

export function weigh(
  newest: EngineSample,
  prediction: EnginePrediction | null,
  own: CheckedForecast,
  policy: EnginePolicy,
  current: number,
): Need {
  const forecast = own.usable;
  const leads = forecast !== null && !own.learning;
  const measured = asksOf(newest, policy, 'reactive', leads ? limitRatio : undefined).map((ask) =>
    forecast !== null && ask.saturated
      ? beyondSaturation(ask, forecast, newest.instances * worthOf(newest, ask.metric), current)
      : ask,
  );
  const predicted = [
    ...(forecast === null ? [] : forecastAsks(forecast, policy, current)),
    ...(prediction === null ? [] : asksOf(prediction, policy, 'prediction')),
  ];
  // The predicted ones first: they decide unless what is measured now needs more.
  const all = [...predicted, ...measured];
  const chosen = all.reduce((best, ask) => (isGreater(ask, best) ? ask : best));
  return {
    measured,
    predicted,
    chosen,
    unrounded: all.reduce((most, ask) => Math.max(most, ask.need), 0),
    wanted: chosen.required,
    hidden: measured.find((ask) => ask.saturated),
    forecast,
  };
}

/**
 * A forecast learns from what is visible. A metric that has been well above 1 before hides nothing; of one that may,
 * twice what serves now is wanted and, once that is on its way, one more at a time: up to four times.
 */
function beyondSaturation(ask: Ask, forecast: EngineForecast, serving: number, current: number): Ask {
  const capped = forecast.metrics.find((metric) => metric.metric === ask.metric)?.capped ?? true;
  if (!capped) {
    const need = ask.demand / ask.targetRatio;
    return { ...ask, need, required: roundUp(need), saturated: false };
  }
  const growing = Math.min(current + 1, 4 * serving);
  return growing > ask.required ? { ...ask, need: growing, required: growing } : ask;
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
  const source = need.forecast === null ? 'prediction' : 'forecast';
  const floor = predicted < capacity ? `, less than the ${capacity} needed now` : '';
  return { capacity, detail: `the ${source} needs ${predicted}${floor}` };
}

/** What is wanted, as far as what was measured is recent enough to want anything. */
export function recommend(need: Need, data: CheckedSamples, current: number): Stage {
  if (data.verdict !== 'stale' || (data.newestAgeMs ?? 0) <= longestSilenceMs)
    return { capacity: need.wanted };
  const capacity = Math.max(current, mostRequired(need.predicted));
  return capacity === need.wanted ? { capacity } : { capacity, code: 'stale_data', detail: data.why };
}
