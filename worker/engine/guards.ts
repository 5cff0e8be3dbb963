import type { FleetFacts, GuardView } from './guard-view.ts';
import type { FleetProtection, StageName } from './types.ts';
import { seconds } from './wording.ts';

export const noFleetFacts: FleetFacts = {
  everyWorkerStopped: false,
  freezes: [],
  hold: null,
  circuit: null,
  budgets: [],
};

/** Why a change may not be made now. */
export interface Refusal {
  readonly code: string;
  /** A whole sentence for the one who asked, with what to do next. */
  readonly message: string;
  /** A clause that fits behind "because", where deciding explains the same. */
  readonly detail?: string;
  readonly context?: Record<string, unknown>;
  /** When it ends, where that is known. */
  readonly untilMs?: number | null;
  /** What becomes of the execution; absent: it is rejected, and the decision stays as it is. */
  readonly effect?: 'wait' | 'expire' | 'supersede';
}

export interface Guard {
  readonly code: string;
  /** The engine's stage that explains this guard while deciding. */
  readonly stage?: StageName;
  holds(view: GuardView): Refusal | null;
}

/** A limit on a whole scope: `allowed` instances may still change in `direction`. */
interface FleetLimit extends FleetProtection {
  readonly message: (delta: number, action: string) => string;
  readonly context: Record<string, unknown>;
}

type FleetLimitSource = (fleet: FleetFacts) => readonly FleetLimit[];

const frozen: FleetLimitSource = ({ freezes }) =>
  freezes.map(({ direction, id, scope, reason, untilMs }) => {
    const until = isoOrNull(untilMs);
    return {
      code: 'frozen',
      direction,
      allowed: 0,
      detail: `${scope} is frozen (${reason})`,
      untilMs: Number.isFinite(untilMs) ? untilMs : null,
      message: (_, action) =>
        `${action} is frozen for ${scope}${until === null ? '' : ` until ${until}`}: ${reason}.`,
      context: { scope, freeze_id: id, earliest: until },
    };
  });

const everyWorkerStopped: FleetLimitSource = ({ everyWorkerStopped: stopped }) => {
  if (!stopped) return [];
  const detail = 'scaling is stopped by SCALER_STOP on every worker that executes it';
  return [
    {
      code: 'stopped',
      direction: 'both',
      allowed: 0,
      detail,
      untilMs: null,
      message: () => 'Executions are stopped by SCALER_STOP on every worker.',
      context: {},
    },
  ];
};

const correlatedScaleIn: FleetLimitSource = ({ hold }) => {
  if (hold === null) return [];
  const { scope, wanting, resources, untilMs, until } = hold;
  return [
    {
      code: 'correlated_scale_in',
      direction: 'down',
      allowed: 0,
      detail: `${wanting} of ${resources} resources of ${scope} wanted to scale in at once, and that is held until someone has looked`,
      untilMs,
      message: () =>
        `${wanting} of ${resources} resources of ${scope} wanted to scale in within 5 minutes: scaling in is held there until ${until}. See whether their metrics are right, then release it (POST /fleet-holds/{scope}/release), or wait.`,
      context: { scope, earliest: until },
    },
  ];
};

const sharedCircuit: FleetLimitSource = ({ circuit }) => {
  if (circuit === null) return [];
  const { scope, lastCode, untilMs } = circuit;
  const detail = `calls to ${scope} are held after repeated failures (${lastCode ?? 'unknown'})`;
  return [
    {
      code: 'circuit_open',
      direction: 'both',
      allowed: 0,
      detail,
      untilMs,
      message: () => `Calls to ${scope} are held after repeated failures; GET /protection tells which.`,
      context: { scope },
    },
  ];
};

const fleetBudget: FleetLimitSource = ({ budgets }) =>
  budgets.map(({ what, scope, left, used, limit, windowSeconds, freesAtMs }) => {
    const earliest = isoOrNull(freesAtMs);
    return {
      code: 'fleet_budget',
      direction: what === 'scale-in' ? 'down' : 'both',
      allowed: left,
      detail: `${used} of ${limit} instances of the ${what} budget of ${scope} are used within ${windowSeconds} s`,
      untilMs: freesAtMs,
      message: (delta) =>
        `${delta} more would exceed the ${what} budget of ${scope}: ${used} of ${limit} instances are used within ${windowSeconds} s. Decide again${earliest === null ? '' : ` after ${earliest}`}, or raise the budget (PUT /fleet-limits/{scope}).`,
      context: { scope, limit, used, window_seconds: windowSeconds, earliest },
    };
  });

const fleetLimits: readonly FleetLimitSource[] = [
  everyWorkerStopped,
  frozen,
  correlatedScaleIn,
  sharedCircuit,
  fleetBudget,
];

/**
 * Every guard, in the order in which a refusal is reported: the most lasting first. Deciding explains those with a
 * `stage`, and the fleet's limits; executing enforces all of them.
 */
export const guards: readonly Guard[] = [
  {
    code: 'circuit_open',
    holds: ({ execution }) =>
      execution?.circuitOpen
        ? { code: 'circuit_open', message: 'The circuit breaker of the scope has opened.', effect: 'wait' }
        : null,
  },
  {
    code: 'forbidden',
    holds: ({ execution }) =>
      execution?.forbidden ? { code: 'forbidden', message: execution.forbidden } : null,
  },
  {
    code: 'resource_busy',
    holds: ({ execution }) =>
      execution?.attemptOpen || execution?.decisionState === 'executing'
        ? { code: 'resource_busy', message: 'Another execution of this resource is running.', effect: 'wait' }
        : null,
  },
  {
    code: 'decision_<state>',
    holds: ({ execution }) => {
      if (execution === null || execution.decisionState === 'pending') return null;
      const state = execution.decisionState;
      return { code: `decision_${state}`, message: `The decision is ${state}: decide again.` };
    },
  },
  {
    code: 'decision_expired',
    holds: ({ execution }) =>
      execution?.expired
        ? {
            code: 'decision_expired',
            message: 'The decision is too old to carry out: decide again.',
            effect: 'expire',
          }
        : null,
  },
  {
    code: 'decision_superseded',
    holds: ({ execution }) =>
      execution?.newerAttempted
        ? {
            code: 'decision_superseded',
            message: 'A newer decision of this resource was begun: decide again.',
            effect: 'supersede',
          }
        : null,
  },
  {
    code: 'resource_busy',
    holds: ({ execution }) =>
      execution?.epochMoved
        ? { code: 'resource_busy', message: 'Another execution of this resource is running.', effect: 'wait' }
        : null,
  },
  {
    code: 'stopped',
    stage: 'pause',
    holds: ({ stop }) =>
      stop === null
        ? null
        : {
            code: 'stopped',
            message: `Executions are stopped for ${stop.scope}: ${stop.reason}.`,
            detail: `scaling is stopped for ${stop.scope} (${stop.reason})`,
            context: { scope: stop.scope },
          },
  },
  limiting('frozen', frozen),
  { code: 'out_of_bounds', holds: outOfBounds },
  {
    code: 'step_too_large',
    holds: ({ execution, from, target }) => {
      const delta = Math.abs(target - from);
      if (execution === null || delta <= execution.step) return null;
      const message = `A change of ${delta} exceeds the step limit of ${execution.step}: decide again.`;
      return { code: 'step_too_large', message };
    },
  },
  { code: 'paused', stage: 'pause', holds: paused },
  {
    code: 'cooldown',
    stage: 'cooldown',
    holds: ({ from, cooldown: { leftMs, periodMs }, nowMs }) => {
      // Where nothing runs, demand is lost until something does.
      if (leftMs <= 0 || from === 0) return null;
      const left = Math.ceil(leftMs / 1_000);
      return {
        code: 'cooldown',
        message: `The last change is too recent: ${left} s of cooldown are left.`,
        detail: `${seconds(leftMs)} of the cooldown of ${seconds(periodMs)} are left`,
        context: { retry_after_seconds: left },
        untilMs: nowMs + leftMs,
      };
    },
  },
  {
    code: 'settling',
    holds: ({ execution }) => {
      const earliest = isoOrNull(execution?.settlesAtMs ?? null);
      if (earliest === null) return null;
      const message = `The answer to the last write was lost, and until ${earliest} a copy of it could still arrive and undo this change: decide again then.`;
      return { code: 'settling', message, context: { earliest } };
    },
  },
  {
    code: 'rate_limited',
    stage: 'rate_limit',
    holds: ({ rate: { changes, limit, freesAtMs } }) =>
      changes < limit
        ? null
        : {
            code: 'rate_limited',
            message: `${changes} changes in the last hour reach the limit of ${limit}.`,
            detail: `${changes} of at most ${limit} changes were made in the last hour`,
            context: { earliest: isoOrNull(freesAtMs) },
            untilMs: freesAtMs,
          },
  },
  { code: '<block of the cloud object>', stage: 'protection', holds: blocked },
  { code: 'flapping', stage: 'protection', holds: flapping },
  limiting('correlated_scale_in', correlatedScaleIn),
  limiting('fleet_budget', fleetBudget),
];

/** @returns the first refusal of the list, or null when the change may be made. */
export function firstRefusal(view: GuardView): Refusal | null {
  for (const guard of guards) {
    const refusal = guard.holds(view);
    if (refusal !== null) return refusal;
  }
  return null;
}

/**
 * The limits of the fleet as deciding explains them and stores them with the decision. One with room for the largest
 * step is left out: it cannot change anything.
 */
export function fleetProtections(
  fleet: FleetFacts,
  steps: { readonly up: number; readonly down: number },
): FleetProtection[] {
  const largest = { ...steps, both: Math.max(steps.up, steps.down) };
  return fleetLimits
    .flatMap((source) => source(fleet))
    .filter(({ allowed, direction }) => allowed < largest[direction])
    .map(({ code, direction, allowed, detail, untilMs }) => ({ code, direction, allowed, detail, untilMs }));
}

/** A guard over what is left of a scope's limits in the change's direction. */
function limiting(code: string, source: FleetLimitSource): Guard {
  return {
    code,
    holds: ({ from, target, fleet }) => {
      const direction = target > from ? 'up' : 'down';
      const delta = Math.abs(target - from);
      for (const limit of source(fleet)) {
        if (limit.direction !== 'both' && limit.direction !== direction) continue;
        if (delta <= limit.allowed) continue;
        const { detail, untilMs, context, message } = limit;
        const action = direction === 'up' ? 'ScaleUp' : 'ScaleDown';
        return { code, message: message(delta, action), detail, context, untilMs };
      }
      return null;
    },
  };
}

/** A resource outside its bounds may come back towards them in steps; nothing may move it further out. */
function outOfBounds({ execution, from, target }: GuardView): Refusal | null {
  if (execution === null) return null;
  const { bounds, cloudBounds } = execution;
  const min = Math.max(bounds.min, cloudBounds.min);
  const max = Math.min(bounds.max, cloudBounds.max ?? Number.POSITIVE_INFINITY);
  const furtherOut = target > from ? target > max : target < min;
  // The cloud itself refuses what is outside its own, whatever the direction.
  const cloudRefuses = target < cloudBounds.min || target > (cloudBounds.max ?? target);
  if (!furtherOut && !cloudRefuses) return null;
  return {
    code: 'out_of_bounds',
    message: `${target} is outside ${min} to ${max}, the narrower of the resource's bounds and the cloud's own: change the bounds or decide again.`,
    context: { min, max, target },
  };
}

function paused({ pausedUntilMs, nowMs, from, target }: GuardView): Refusal | null {
  if (pausedUntilMs === null || pausedUntilMs <= nowMs) return null;
  const up = target > from;
  const left = Number.isFinite(pausedUntilMs) ? ` for ${seconds(pausedUntilMs - nowMs)} more` : '';
  const until = isoOrNull(pausedUntilMs)?.replace(/\.\d+Z$/, 'Z') ?? null;
  return {
    code: 'paused',
    message: `${up ? 'ScaleUp' : 'ScaleDown'} is paused${until === null ? '' : ` until ${until}`}.`,
    detail: `scaling ${up ? 'up' : 'down'} is paused${left}`,
    context: { earliest: until },
    untilMs: pausedUntilMs,
  };
}

/** What the cloud object was seen to refuse: its code is the provider's. */
function blocked({ from, target, blocks }: GuardView): Refusal | null {
  const direction = target > from ? 'up' : 'down';
  const block = blocks.find((one) => one.direction === 'both' || one.direction === direction);
  if (block === undefined) return null;
  const detail = `${block.message.charAt(0).toLowerCase()}${block.message.slice(1)}`.replace(/\.$/, '');
  return { code: block.code, message: block.message, detail };
}

/** Only scaling in is refused: capacity that swings is held high. */
function flapping({ from, target, reversals: { count, limit, freesAtMs } }: GuardView): Refusal | null {
  if (target > from || limit === undefined || count <= limit) return null;
  return {
    code: 'flapping',
    message: `This would be the change of direction number ${count} within half an hour, and ${limit} are allowed: look at what drives it, then decide again.`,
    detail: `this would be change of direction number ${count} within half an hour, and ${limit} are allowed`,
    context: { reversals: count, max_reversals: limit },
    untilMs: freesAtMs,
  };
}

function isoOrNull(ms: number | null): string | null {
  return ms === null || !Number.isFinite(ms) ? null : new Date(ms).toISOString();
}
