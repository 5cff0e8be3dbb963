import type { EngineInput, EnginePrediction } from '../../shared/domain/scaling-decision.ts';

/** A prediction older than this says more about then than about soon. */
const oldestMs = 24 * 3_600_000;
const pastToleranceMs = 60_000;

export interface PredictionVerdict {
  readonly usable: EnginePrediction | null;
  readonly why: string;
}

/** Whether the prediction given may stand in for the newest sample: asked for, about the horizon, and plausible. */
export function checkPrediction(input: EngineInput): PredictionVerdict {
  const { prediction, nowMs, policy } = input;
  if (!input.usePrediction) return { usable: null, why: 'not asked for' };
  if (prediction === null) return { usable: null, why: 'none was written for the time ahead' };
  const horizonMs = policy.provisioningDelayMs + 2 * policy.decisionIntervalMs;
  const aheadMs = prediction.forMs - nowMs;
  if (!(aheadMs >= -pastToleranceMs && aheadMs <= horizonMs)) {
    return { usable: null, why: 'it is for a time outside the horizon' };
  }
  if (!(nowMs - prediction.madeAtMs <= oldestMs))
    return { usable: null, why: 'it was made more than a day ago' };
  const ratios = [prediction.cpuRatio, prediction.memoryRatio].filter((ratio) => ratio !== null);
  if (ratios.length === 0) return { usable: null, why: 'it has neither CPU nor memory' };
  if (!ratios.every((ratio) => Number.isFinite(ratio) && ratio >= 0 && ratio <= 100)) {
    return { usable: null, why: 'its values are not plausible' };
  }
  if (!(prediction.instances >= 1))
    return { usable: null, why: 'the instance count it was made for is not known' };
  return { usable: prediction, why: 'fresh' };
}
