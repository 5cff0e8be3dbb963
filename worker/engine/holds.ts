import type { GuardView } from './guard-view.ts';
import { type Guard, guards, noFleetFacts } from './guards.ts';
import type { Stage } from './stage.ts';
import type { EngineInput, FleetProtection, ReasonCode, StageName } from './types.ts';

const hourMs = 3_600_000;
const halfHourMs = 1_800_000;

/** What the guards look at while deciding on `target`. The costly facts are worked out only when a guard asks. */
export class DecidingView implements GuardView {
  readonly execution = null;
  readonly fleet = noFleetFacts;
  readonly target: number;
  readonly #input: EngineInput;

  constructor(target: number, input: EngineInput) {
    this.target = target;
    this.#input = input;
  }

  get from(): number {
    return this.#input.currentInstances;
  }

  get nowMs(): number {
    return this.#input.nowMs;
  }

  get stop(): GuardView['stop'] {
    return this.#input.stopped;
  }

  get pausedUntilMs(): number | null {
    const { policy } = this.#input;
    return this.#up ? policy.scaleUpPausedUntilMs : policy.scaleDownPausedUntilMs;
  }

  get cooldown(): GuardView['cooldown'] {
    const { policy } = this.#input;
    return cooldownOf(this.#input, this.#up ? policy.scaleUpCooldownMs : policy.scaleDownCooldownMs);
  }

  get rate(): GuardView['rate'] {
    return rateOf(this.#input);
  }

  get blocks(): GuardView['blocks'] {
    return this.#input.observed?.blocks ?? [];
  }

  get reversals(): GuardView['reversals'] {
    return reversalsOf(this.#input);
  }

  get #up(): boolean {
    return this.target > this.from;
  }
}

/** The guards that deciding explains, by stage. */
const guardsOfStage: Readonly<Partial<Record<StageName, readonly Guard[]>>> = {
  cooldown: guards.filter(({ stage }) => stage === 'cooldown'),
  rate_limit: guards.filter(({ stage }) => stage === 'rate_limit'),
  pause: guards.filter(({ stage }) => stage === 'pause'),
  protection: guards.filter(({ stage }) => stage === 'protection'),
};

/** The guards of one stage, judged on the number that is asked for, so that each of them is explained. */
export function hold(stage: StageName, view: GuardView, capacity: number): Stage {
  if (view.target === view.from) return { capacity };
  for (const guard of guardsOfStage[stage] ?? []) {
    const refusal = guard.holds(view);
    if (refusal === null) continue;
    const { code, detail, untilMs } = refusal;
    return {
      capacity: view.from,
      code: code as ReasonCode,
      ...(detail === undefined ? {} : { detail }),
      ...(untilMs === undefined || untilMs === null ? {} : { untilMs }),
    };
  }
  return { capacity };
}

/** The guards over this resource's swings and over all resources of a scope, of which the strictest limit counts. */
export function protect(view: GuardView, capacity: number, protections: readonly FleetProtection[]): Stage {
  const { from: current, target: asked } = view;
  const held = hold('protection', view, capacity);
  if (held.code !== undefined || asked === current) return held;
  const direction = asked > current ? 'up' : 'down';
  let strictest: FleetProtection | null = null;
  for (const protection of protections) {
    if (protection.direction !== 'both' && protection.direction !== direction) continue;
    if (strictest === null || protection.allowed < strictest.allowed) strictest = protection;
  }
  if (strictest === null || Math.abs(asked - current) <= strictest.allowed) return { capacity };
  const { code, detail, untilMs, allowed } = strictest;
  // An earlier stage may hold the number already: then there is nothing left to limit, but this limit is explained too.
  const limited = direction === 'up' ? current + allowed : current - allowed;
  return {
    capacity: capacity === current ? current : limited,
    code,
    detail,
    ...(untilMs === null ? {} : { untilMs }),
  };
}

function cooldownOf({ recentActions, nowMs }: EngineInput, periodMs: number): GuardView['cooldown'] {
  let lastMs = Number.NEGATIVE_INFINITY;
  for (const action of recentActions) lastMs = Math.max(lastMs, momentOf(action.atMs, nowMs));
  return { leftMs: lastMs + periodMs - nowMs, periodMs };
}

/** There is room again once all but `limit - 1` of the changes are an hour old. */
function rateOf({ recentActions, nowMs, policy }: EngineInput): GuardView['rate'] {
  const limit = policy.maxActionsPerHour;
  const times = recentActions
    .map((action) => momentOf(action.atMs, nowMs))
    .filter((atMs) => atMs > nowMs - hourMs);
  const leaving = times.length < limit ? undefined : times.toSorted((a, b) => a - b)[times.length - limit];
  return { changes: times.length, limit, freesAtMs: leaving === undefined ? null : leaving + hourMs };
}

/** As if this change scaled in: only that is ever refused for its reversals. */
function reversalsOf({ recentActions, nowMs, policy }: EngineInput): GuardView['reversals'] {
  const limit = policy.maxReversalsPerHalfHour;
  const recent = recentActions
    .map(({ atMs, action }) => ({ atMs: momentOf(atMs, nowMs), action }))
    .filter(({ atMs }) => atMs > nowMs - halfHourMs)
    .toSorted((a, b) => a.atMs - b.atMs);
  const turns = recent.filter(({ action }, index) => action !== (recent[index + 1]?.action ?? 'ScaleDown'));
  const frees = limit === undefined ? undefined : turns[turns.length - limit - 1];
  return { count: turns.length, limit, freesAtMs: frees === undefined ? null : frees.atMs + halfHourMs };
}

/** An action at an unknown time may have been this moment. */
function momentOf(atMs: number, nowMs: number): number {
  return Number.isFinite(atMs) ? atMs : nowMs;
}
