import type { EngineInput, EnginePolicy } from '../../shared/domain/scaling-decision.ts';
import type { Stage } from './stage.ts';

/** No change for a difference the metrics' noise can make; as the HPA's tolerance, on the ratio wanted / current. */
export function tolerate(wanted: number, current: number, policy: EnginePolicy, urgent: boolean): Stage {
  if (wanted === current || urgent || current === 0) return { capacity: wanted };
  if (current < policy.minInstances || current > policy.maxInstances) return { capacity: wanted };
  // 11 / 10 - 1 is a little more than 0.1 in binary.
  if (Math.abs(wanted / current - 1) > policy.tolerance + 1e-9) return { capacity: wanted };
  return { capacity: current, code: 'within_tolerance' };
}

/** How far one decision may go. */
export function limitStep(wanted: number, current: number, policy: EnginePolicy): Stage {
  if (wanted > current + policy.maxScaleUpStep) {
    return { capacity: current + policy.maxScaleUpStep, code: 'scale_up_step' };
  }
  if (wanted < current - policy.maxScaleDownStep) {
    return { capacity: current - policy.maxScaleDownStep, code: 'scale_down_step' };
  }
  return { capacity: wanted };
}

/** Minimum and maximum; a resource outside them is led back before anything else is considered. */
export function clamp(wanted: number, policy: EnginePolicy): Stage {
  if (wanted > policy.maxInstances) return { capacity: policy.maxInstances, code: 'at_maximum' };
  if (wanted < policy.minInstances) return { capacity: policy.minInstances, code: 'at_minimum' };
  return { capacity: wanted };
}

export interface Hold {
  readonly code: 'cooldown' | 'rate_limited' | 'paused' | 'stopped';
  readonly words: string;
  /** When it ends; null when nobody knows. */
  readonly untilMs: number | null;
}

const hourMs = 3_600_000;

/** Too soon after the last change? The cooldown is that of the direction wanted now. */
export function cooldownHold(input: EngineInput, up: boolean): Hold | null {
  const cooldownMs = up ? input.policy.scaleUpCooldownMs : input.policy.scaleDownCooldownMs;
  const last = Math.max(Number.NEGATIVE_INFINITY, ...input.recentActions.map((action) => action.atMs));
  const untilMs = last + cooldownMs;
  if (!(untilMs > input.nowMs)) return null;
  const seconds = Math.ceil((untilMs - input.nowMs) / 1_000);
  return { code: 'cooldown', words: `${seconds} s of the cooldown are left`, untilMs };
}

export function rateHold(input: EngineInput): Hold | null {
  const recent = input.recentActions
    .map((action) => action.atMs)
    .filter((atMs) => atMs > input.nowMs - hourMs)
    .sort((a, b) => a - b);
  const limit = input.policy.maxActionsPerHour;
  if (recent.length < limit) return null;
  const untilMs = (recent[recent.length - limit] as number) + hourMs;
  return {
    code: 'rate_limited',
    words: `${recent.length} changes in the last hour reach the limit of ${limit}`,
    untilMs,
  };
}

export function pauseHold(input: EngineInput, up: boolean): Hold | null {
  if (input.stopped !== null) {
    return {
      code: 'stopped',
      words: `scaling is stopped for ${input.stopped.scope} (${input.stopped.reason})`,
      untilMs: null,
    };
  }
  const untilMs = up ? input.policy.scaleUpPausedUntilMs : input.policy.scaleDownPausedUntilMs;
  if (untilMs === null || untilMs <= input.nowMs) return null;
  return { code: 'paused', words: `scaling ${up ? 'up' : 'down'} is paused`, untilMs };
}
