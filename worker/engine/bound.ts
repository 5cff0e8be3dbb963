import type { CheckedSamples } from './data-quality.ts';
import type { ZeroState } from './scale-to-zero.ts';
import { doubtCode } from './stabilize.ts';
import type { Stage } from './stage.ts';
import type { EngineInput } from './types.ts';

/** The bounds, and what can go of the cloud object: EC2 ends neither protected instances nor those in standby. */
export function bound(
  stepped: number,
  input: EngineInput,
  data: CheckedSamples,
  zero: ZeroState | null,
): Stage {
  const stage = withinBounds(stepped, input, data, zero);
  const { currentInstances: current } = input;
  const removable = input.observed?.removable ?? null;
  if (removable === null || current - stage.capacity <= removable) return stage;
  const detail = `only ${removable} of ${current} can go, the others are protected from scale-in or in standby`;
  return { capacity: current - removable, code: 'protected_instances', detail };
}

/**
 * Minimum and maximum. Without a signal that can bring it back, a minimum of 0 is one of 1. A resource outside them is led back whatever its demand, one step at a time: whoever set the
 * bounds knew. But not downwards on data that is not fresh: too many for a few minutes is the smaller mistake.
 */
function withinBounds(
  stepped: number,
  input: EngineInput,
  data: CheckedSamples,
  zero: ZeroState | null,
): Stage {
  const { currentInstances: current, policy } = input;
  const { minInstances: min, maxInstances: max } = policy;
  // Whoever knows nothing changes nothing.
  if (data.verdict === 'none' && stepped === current) return { capacity: current };
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
  if (stepped <= 1 && current > 0 && keepsLast(zero, stepped))
    return {
      capacity: Math.min(1, max),
      code: 'at_minimum',
      detail: `the last instance stays: ${zero.detail}`,
    };
  if (stepped < min && current >= min) {
    return { capacity: min, code: 'at_minimum', detail: `the minimum is ${min}` };
  }
  return { capacity: stepped };
}

/** Whether the last instance has to stay, and that has to be said. */
function keepsLast(zero: ZeroState | null, stepped: number): zero is ZeroState {
  if (zero === null || zero.state === 'silent') return false;
  return stepped === 0 || zero.state === 'unknown';
}
