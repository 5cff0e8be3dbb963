import { isRatio, isRelativeSize } from './data-quality.ts';
import type { EngineInput, EnginePrediction, PredictionOutcome } from './types.ts';
import { areSmall } from './unit-doubt.ts';

/** Forecasts are commonly written hourly or daily; an older one knows nothing of yesterday. */
const oldestMs = 24 * 3_600_000;
/** A prediction for this minute is still one for now. */
const pastToleranceMs = 60_000;
const futureToleranceMs = 5_000;

/** So many of the newest outcomes are a prediction's record. */
const recordLength = 3;
/** A prediction that is off by more than half of the larger of both, and by more than half an instance, has missed. */
const missShare = 0.5;
const missInstances = 0.5;

export interface CheckedPrediction {
  readonly usable: EnginePrediction | null;
  /** Its record speaks for it, or nobody keeps one. */
  readonly proven: boolean;
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
  if (policy.utilizationUnit === null && areSmall(ratios))
    return unusable('its values look like ratios: set utilization_unit to ratio or to percent');
  return judged(prediction, input.predictionOutcomes);
}

/** By the newest outcomes: mostly missed, it does not lead; mostly met, it leads; else it has to prove itself. */
function judged(
  prediction: EnginePrediction,
  outcomes: readonly PredictionOutcome[] | undefined,
): CheckedPrediction {
  if (outcomes === undefined) return { usable: prediction, proven: true, why: 'fresh' };
  const record = outcomes.slice(-recordLength);
  const missed = record.filter(isMiss);
  const met = record.length - missed.length;
  const last = missed.at(-1);
  if (last !== undefined && missed.length > 1 && missed.length > met) {
    const [predicted, measured] = [last.predicted.toFixed(1), last.measured.toFixed(1)];
    return unusable(
      `${missed.length} of its last ${record.length} outcomes missed: a demand of ${predicted} was predicted and ${measured} came`,
    );
  }
  if (met > missed.length) return { usable: prediction, proven: true, why: 'fresh' };
  return {
    usable: prediction,
    proven: false,
    why: 'fresh, but unproven: it leads in steps that wait for demand',
  };
}

function isMiss({ predicted, measured }: PredictionOutcome): boolean {
  const off = Math.abs(predicted - measured);
  return off > missInstances && off > missShare * Math.max(predicted, measured);
}

function unusable(why: string): CheckedPrediction {
  return { usable: null, proven: false, why };
}
