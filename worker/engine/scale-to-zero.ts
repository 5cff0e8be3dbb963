import type { CheckedSamples } from './data-quality.ts';
import type { CheckedForecast } from './own-forecast.ts';
import type { Activity, EngineInput, EnginePrediction } from './types.ts';
import { seconds } from './wording.ts';

const defaultSilenceMs = 900_000;
/** A forecast of less is the base load of an idle instance. */
const leastForecast = 0.1;

/** Whether the last instance may go, or the first has to come. */
export interface ZeroState {
  /** `silent`: nothing is asked for, none has to run. `active`: one at least has to. `unknown`: as it is, but never the last one. */
  readonly state: 'silent' | 'active' | 'unknown';
  /** A clause that fits behind "because". */
  readonly detail: string;
}

/**
 * For a minimum of 0. Going to 0 needs a signal that can bring the resource back (requests or, where they are used,
 * predictions), present and silent for the whole of `scaleToZeroAfterMs`, without gaps; any demand seen or foreseen wakes it.
 * @returns null for any other minimum.
 */
export function checkZero(
  input: EngineInput,
  data: CheckedSamples,
  prediction: EnginePrediction | null,
  own: CheckedForecast,
): ZeroState | null {
  if (input.policy.minInstances > 0) return null;
  const { nowMs, policy } = input;
  const silenceMs = policy.scaleToZeroAfterMs ?? defaultSilenceMs;
  const requests = input.activity?.requests ?? null;
  const predictions = input.usePrediction ? (input.activity?.predictions ?? null) : null;
  const sinceMs = nowMs - silenceMs;
  const active = (of: Activity | null) =>
    of !== null && of.lastActiveMs !== null && of.lastActiveMs >= sinceMs;
  if (active(requests)) {
    const ago = seconds(Math.max(0, nowMs - (requests?.lastActiveMs ?? nowMs)));
    return { state: 'active', detail: `requests were seen ${ago} ago` };
  }
  if (active(predictions) || (prediction !== null && foresees(prediction)))
    return { state: 'active', detail: 'demand is predicted' };
  if (forecasts(own)) return { state: 'active', detail: 'the forecast expects demand' };
  if (requests === null && predictions === null)
    return {
      state: 'unknown',
      detail:
        'neither requests nor predictions are there to bring it back from 0: post requests with the samples',
    };
  const heardSince = (of: Activity, freshMs: number) =>
    of.firstMs <= sinceMs && of.newestMs >= nowMs - freshMs;
  const requestsKnown =
    requests === null ||
    (heardSince(requests, data.staleAfterMs) && requests.longestGapMs <= data.staleAfterMs);
  if (!requestsKnown || !(predictions === null || heardSince(predictions, 0)))
    return { state: 'unknown', detail: `nobody knows of ${seconds(silenceMs)} of silence yet` };
  return { state: 'silent', detail: `nothing was asked for in the last ${seconds(silenceMs)}` };
}

function foresees({ cpuRatio }: EnginePrediction): boolean {
  return cpuRatio !== null && cpuRatio > 0;
}

function forecasts({ usable, learning }: CheckedForecast): boolean {
  const cpu = usable?.metrics.find(({ metric }) => metric === 'cpu');
  return !learning && cpu !== undefined && cpu.expected >= leastForecast && cpu.expected >= 2 * cpu.demand;
}
