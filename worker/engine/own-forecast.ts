import type { CheckedSamples } from './data-quality.ts';
import { plannedRatio, responseOf } from './demand.ts';
import type {
  EngineForecast,
  EngineInput,
  EnginePolicy,
  MetricForecast,
  MetricResponse,
  MetricResponses,
} from './types.ts';

/**
 * Demand may move so far in this time that a forecast made before says nothing of now. A step is about as long as a
 * decision interval and named by its beginning: the newest there can be may be two of those old.
 */
const oldestMs = 15 * 60_000;
const oldestIntervals = 2;
/** Bounds on fewer outcomes than this are guesses. */
export const enoughResiduals = 20;
/** Until so much was observed, what is measured has to meet its target, too. */
const learningMs = 2 * 3_600_000;

export interface CheckedForecast {
  readonly usable: EngineForecast | null;
  readonly learning: boolean;
  readonly why: string;
}

/** Whether our own forecast may lead: asked for, of now, with outcomes to rest on, and as good as it says. */
export function checkForecast(
  input: EngineInput,
  data: CheckedSamples,
  responses: MetricResponses,
): CheckedForecast {
  const forecast = input.forecast ?? null;
  if (!input.usePrediction) return unusable('not asked for');
  if (forecast === null) return unusable(input.noForecast ?? 'there is none');
  if (!isPlausible(forecast)) return unusable('its values are not plausible');
  const ageMs = input.nowMs - forecast.madeAtMs;
  if (!(ageMs <= Math.max(oldestMs, oldestIntervals * data.intervalMs)))
    return unusable('it was made too long ago');
  if (data.verdict === 'none') return unusable('there are no samples to check it against');
  // Demand of a metric that does not answer fully to the count changes with the count: its forecast is of our own actions.
  const metrics = forecast.metrics.filter(({ metric }) =>
    answersFully(responses[metric], metric, input.policy),
  );
  if (metrics.length === 0) return unusable('what it forecasts does not respond to the count');
  const fewest = Math.min(...metrics.map((metric) => metric.residuals));
  if (fewest < enoughResiduals)
    return unusable(`it is learning: ${fewest} of ${enoughResiduals} outcomes seen`);
  const doubted = metrics.find((metric) => !metric.trusted);
  if (doubted !== undefined) return unusable(`it has lost trust: ${doubted.distrust ?? 'its record is bad'}`);
  const learning = forecast.observedMs < learningMs;
  return {
    usable: metrics.length === forecast.metrics.length ? forecast : { ...forecast, metrics },
    learning,
    why: learning ? 'it is learning, so targets are kept, too' : 'trusted',
  };
}

function answersFully(
  response: MetricResponse,
  metric: MetricForecast['metric'],
  policy: EnginePolicy,
): boolean {
  const kind = responseOf(response, plannedRatio(policy, metric));
  return kind === 'full' || kind === 'unknown';
}

function unusable(why: string): CheckedForecast {
  return { usable: null, learning: false, why };
}

function isPlausible(forecast: EngineForecast): boolean {
  return forecast.metrics.length > 0 && forecast.metrics.every(isPlausibleMetric);
}

function isPlausibleMetric(given: MetricForecast): boolean {
  const { demand, expected, upper, windowHighest, hourHighest, residuals, risk, distribution } = given;
  const amounts = [
    demand,
    expected,
    upper,
    windowHighest.upper,
    windowHighest.expected,
    hourHighest.upper,
    hourHighest.expected,
    residuals,
  ];
  return (
    amounts.every(isAmount) &&
    isProbability(risk) &&
    distribution.length > 0 &&
    distribution.every(([probability, atMost]) => isProbability(probability) && isAmount(atMost))
  );
}

function isAmount(value: number): boolean {
  return Number.isFinite(value) && value >= 0;
}

function isProbability(value: number): boolean {
  return value >= 0 && value <= 1;
}
