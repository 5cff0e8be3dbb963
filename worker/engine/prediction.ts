import { isRatio, isRelativeSize } from './data-quality.ts';
import type { EngineInput, EnginePrediction } from './types.ts';

/** Forecasts are commonly written hourly or daily; an older one knows nothing of yesterday. */
const oldestMs = 24 * 3_600_000;
/** A prediction for this minute is still one for now. */
const pastToleranceMs = 60_000;
const futureToleranceMs = 5_000;

export interface CheckedPrediction {
  readonly usable: EnginePrediction | null;
  readonly why: string;
}

/**
 * Whether the prediction may stand in for the newest sample: asked for, recent, for a time between now and the moment
 * capacity ordered at the next decision would serve, and plausible. One more interval is allowed, as predictions are
 * written on a grid of times.
 */
export function checkPrediction(input: EngineInput): CheckedPrediction {
  const { prediction, nowMs, policy } = input;
  if (!input.usePrediction) return unusable('not asked for');
  if (prediction === null) return unusable('none was written for the time ahead');
  const horizonMs = policy.provisioningDelayMs + 2 * policy.decisionIntervalMs;
  const aheadMs = prediction.forMs - nowMs;
  const ageMs = nowMs - prediction.madeAtMs;
  // Written so that NaN fails, too.
  if (!(aheadMs >= -pastToleranceMs && aheadMs <= horizonMs)) {
    return unusable('it is for a time outside the horizon');
  }
  if (!(ageMs >= -futureToleranceMs)) return unusable('it says it was made in the future');
  if (!(ageMs <= oldestMs)) return unusable('it was made more than a day ago');
  const ratios = [prediction.cpuRatio, prediction.memoryRatio].filter((ratio) => ratio !== null);
  if (ratios.length === 0) return unusable('it has neither CPU nor memory');
  const { cpuWorth = 1, memoryWorth = 1 } = prediction;
  if (!(ratios.every(isRatio) && isRelativeSize(cpuWorth) && isRelativeSize(memoryWorth)))
    return unusable('its values are not plausible');
  if (!(Number.isFinite(prediction.instances) && prediction.instances >= 1)) {
    return unusable('the instance count it was made for is not known');
  }
  return { usable: prediction, why: 'fresh' };
}

function unusable(why: string): CheckedPrediction {
  return { usable: null, why };
}
