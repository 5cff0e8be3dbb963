import { forecastNeed, roundUp } from './demand.ts';
import type { Recommendation } from './recommend.ts';
import type { Stage } from './stage.ts';
import type { EnginePolicy } from './types.ts';
import { percent } from './wording.ts';

/** 1.1 - 1 is a little more than 0.1 in binary. */
const roundingNoise = 1e-9;

/** With a forecast, giving back less than this waits until it has been too many for an hour. */
const worthGivingBack = 0.3;

/**
 * No change for a difference that noise can make. As the HPA's tolerance it looks at utilisation over target, which is
 * need / current, before rounding to whole instances. Saturation is no noise, and bounds are not open to tolerance.
 */
export function tolerate(
  wanted: number,
  current: number,
  recommendation: Recommendation,
  policy: EnginePolicy,
): Stage {
  if (wanted === current || current === 0) return { capacity: wanted };
  if (current < policy.minInstances || current > policy.maxInstances) return { capacity: wanted };
  if (recommendation.forecast !== null) return tolerateForecast(wanted, current, recommendation, policy);
  if (recommendation.saturated !== undefined && wanted > current) return { capacity: wanted };
  const difference = Math.abs(recommendation.unrounded / current - 1);
  if (difference > policy.tolerance + roundingNoise) return { capacity: wanted };
  return {
    capacity: current,
    code: 'within_tolerance',
    detail: `the difference of ${percent(difference)} is within the tolerance of ${percent(policy.tolerance)}`,
  };
}

/**
 * A calibrated bound has its noise accounted for: scaling out is not tolerated away, one instance short is a breach
 * more. Scaling in by a little is, until an hour has agreed: it saves next to nothing and is soon taken back.
 */
function tolerateForecast(
  wanted: number,
  current: number,
  recommendation: Recommendation,
  policy: EnginePolicy,
): Stage {
  if (wanted > current) return { capacity: wanted };
  const metrics = recommendation.forecast?.metrics ?? [];
  const highest = (of: 'windowHighest' | 'hourHighest') =>
    Math.max(...metrics.map((metric) => roundUp(forecastNeed(metric[of], metric.metric, policy))));
  // What the stabilization window will leave of it.
  const share = (current - Math.max(wanted, highest('windowHighest'))) / current;
  if (share >= worthGivingBack - roundingNoise) return { capacity: wanted };
  if (highest('hourHighest') < current) return { capacity: wanted };
  return {
    capacity: current,
    code: 'within_tolerance',
    detail: `giving back ${percent(Math.max(share, 0))} waits until an hour has needed less`,
  };
}
