import type { EnginePolicy } from '../../shared/domain/scaling-decision.ts';
import type { Need } from './recommend.ts';
import type { Stage } from './stage.ts';
import { percent } from './words.ts';

/** 1.1 - 1 is a little more than 0.1 in binary. */
const roundingNoise = 1e-9;

/**
 * No change for a difference that noise can make. As the HPA's tolerance it looks at utilisation over target, which is
 * need / current, before rounding to whole instances. Saturation is no noise, and bounds are not open to tolerance.
 */
export function tolerate(wanted: number, current: number, need: Need, policy: EnginePolicy): Stage {
  if (wanted === current || current === 0) return { capacity: wanted };
  if (current < policy.minInstances || current > policy.maxInstances) return { capacity: wanted };
  if (need.hidden !== undefined && wanted > current) return { capacity: wanted };
  const difference = Math.abs(need.unrounded / current - 1);
  if (difference > policy.tolerance + roundingNoise) return { capacity: wanted };
  return {
    capacity: current,
    code: 'within_tolerance',
    detail: `the difference of ${percent(difference)} is within the tolerance of ${percent(policy.tolerance)}`,
  };
}
