import { momentOf } from './cooldown.ts';
import type { Stage } from './stage.ts';
import type { EngineInput, FleetProtection } from './types.ts';

const halfHourMs = 1_800_000;

/** Would all resources of a scope together change too much, or may none of them change now? Does this one swing? */
export function protect(asked: number, going: number, input: EngineInput): Stage {
  const { currentInstances: current } = input;
  if (asked === current) return { capacity: going };
  const swing = asked < current ? swinging(input) : null;
  if (swing !== null) return { capacity: current, ...swing };
  const direction = asked > current ? 'up' : 'down';
  let strictest: FleetProtection | null = null;
  for (const protection of input.protections ?? []) {
    if (protection.direction !== 'both' && protection.direction !== direction) continue;
    if (strictest === null || protection.allowed < strictest.allowed) strictest = protection;
  }
  if (strictest === null || Math.abs(asked - current) <= strictest.allowed) return { capacity: going };
  const { code, detail, untilMs, allowed } = strictest;
  // Behind a hold of an earlier stage there is nothing left to limit, but this one is told as well.
  const limited = direction === 'up' ? current + allowed : current - allowed;
  const capacity = going === current ? current : limited;
  return { capacity, code, detail, ...(untilMs === null ? {} : { untilMs }) };
}

/** Capacity that swings is held high: only scaling in is. */
function swinging(input: EngineInput): Pick<Stage, 'code' | 'detail' | 'untilMs'> | null {
  const { policy, nowMs, recentActions } = input;
  const most = policy.maxReversalsPerHalfHour;
  if (most === undefined) return null;
  const recent = recentActions
    .map(({ atMs, action }) => ({ atMs: momentOf(atMs, nowMs), action }))
    .filter(({ atMs }) => atMs > nowMs - halfHourMs)
    .toSorted((a, b) => a.atMs - b.atMs);
  const turns = recent.filter(({ action }, index) => action !== (recent[index + 1]?.action ?? 'ScaleDown'));
  if (turns.length <= most) return null;
  return {
    code: 'flapping',
    detail: `this would be change of direction number ${turns.length} within half an hour, and ${most} are allowed`,
    untilMs: (turns[turns.length - most - 1] as { atMs: number }).atMs + halfHourMs,
  };
}
