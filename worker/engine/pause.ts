import type { Stage } from './stage.ts';
import type { EngineInput } from './types.ts';
import { seconds } from './wording.ts';

/** Has a person said no? A stop forbids everything, a pause one direction. */
export function pause(asked: number, going: number, input: EngineInput): Stage {
  const { currentInstances: current, policy, stopped, nowMs } = input;
  if (asked === current) return { capacity: going };
  if (stopped !== null) {
    const detail = `scaling is stopped for ${stopped.scope} (${stopped.reason})`;
    return { capacity: current, code: 'stopped', detail };
  }
  const up = asked > current;
  const untilMs = up ? policy.scaleUpPausedUntilMs : policy.scaleDownPausedUntilMs;
  if (untilMs === null || untilMs <= nowMs) return { capacity: going };
  const left = Number.isFinite(untilMs) ? ` for ${seconds(untilMs - nowMs)} more` : '';
  const detail = `scaling ${up ? 'up' : 'down'} is paused${left}`;
  return { capacity: current, code: 'paused', detail, untilMs };
}
