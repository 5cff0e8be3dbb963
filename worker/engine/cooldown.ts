import type { Stage } from './stage.ts';
import type { EngineInput } from './types.ts';
import { seconds } from './wording.ts';

/** Too soon after the last change, in whichever direction that went? The cooldown is that of the direction asked for. */
export function coolDown(asked: number, input: EngineInput): Stage {
  const { currentInstances: current, policy, nowMs } = input;
  if (asked === current) return { capacity: current };
  const cooldownMs = asked > current ? policy.scaleUpCooldownMs : policy.scaleDownCooldownMs;
  let lastMs = Number.NEGATIVE_INFINITY;
  for (const action of input.recentActions) lastMs = Math.max(lastMs, momentOf(action.atMs, nowMs));
  const untilMs = lastMs + cooldownMs;
  if (untilMs <= nowMs) return { capacity: asked };
  const detail = `${seconds(untilMs - nowMs)} of the cooldown of ${seconds(cooldownMs)} are left`;
  return { capacity: current, code: 'cooldown', detail, untilMs };
}

/** An action at an unknown time may have been this moment. */
export function momentOf(atMs: number, nowMs: number): number {
  return Number.isFinite(atMs) ? atMs : nowMs;
}
