import { momentOf } from './cooldown.ts';
import type { Stage } from './stage.ts';
import type { EngineInput } from './types.ts';

const hourMs = 3_600_000;

/** So many changes an hour and no more, whatever asks for them. */
export function limitRate(asked: number, going: number, input: EngineInput): Stage {
  const { currentInstances: current, policy, nowMs } = input;
  if (asked === current) return { capacity: going };
  const limit = policy.maxActionsPerHour;
  const times = input.recentActions
    .map((action) => momentOf(action.atMs, nowMs))
    .filter((atMs) => atMs > nowMs - hourMs);
  if (times.length < limit) return { capacity: going };
  const detail = `${times.length} of at most ${limit} changes were made in the last hour`;
  const held = { capacity: current, code: 'rate_limited', detail } as const;
  // Room comes when all but limit - 1 of them are an hour old.
  const leaving = times.toSorted((a, b) => a - b)[times.length - limit];
  return leaving === undefined ? held : { ...held, untilMs: leaving + hourMs };
}
