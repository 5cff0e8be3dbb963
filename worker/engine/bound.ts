import type { CheckedSamples } from './data-quality.ts';
import { doubtCode } from './stabilize.ts';
import type { Stage } from './stage.ts';
import type { EngineInput } from './types.ts';

/**
 * Minimum and maximum. A resource outside them is led back whatever its demand, one step at a time: whoever set the
 * bounds knew. But not downwards on data that is not fresh: too many for a few minutes is the smaller mistake.
 */
export function bound(stepped: number, input: EngineInput, data: CheckedSamples): Stage {
  const { currentInstances: current, policy } = input;
  const { minInstances: min, maxInstances: max } = policy;
  if (min > max) {
    const detail = `the minimum of ${min} is above the maximum of ${max}`;
    return { capacity: current, code: 'direction_kept', detail };
  }
  if (current > max) {
    if (data.verdict !== 'fresh') return { capacity: current, code: doubtCode(data), detail: data.why };
    const back = Math.max(max, current - policy.maxScaleDownStep);
    const detail = `${current} is above the maximum of ${max}`;
    if (stepped > back) return { capacity: back, code: 'above_maximum', detail };
  }
  if (current < min) {
    const back = Math.min(min, current + policy.maxScaleUpStep);
    const detail = `${current} is below the minimum of ${min}`;
    if (stepped < back) return { capacity: back, code: 'below_minimum', detail };
  }
  if (stepped > max && current <= max) {
    return { capacity: max, code: 'at_maximum', detail: `the maximum is ${max}` };
  }
  if (stepped < min && current >= min) {
    return { capacity: min, code: 'at_minimum', detail: `the minimum is ${min}` };
  }
  return { capacity: stepped };
}
