import {
  type Allowance,
  changeAllowance,
  type FleetUsage,
  scaleInAllowance,
} from '../../shared/db/fleet-limits-store.ts';
import type { FreezeRow } from '../../shared/db/freezes-store.ts';
import { frozenUntil, nextFreeze } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import type { EnforcedProtection, ProtectionState } from './protection-state.ts';

/** The body of GET /protection. */
export function presentProtection({ budgets, ...active }: ProtectionState): Record<string, unknown> {
  return { ...active, budgets: budgets.map(presentBudget) };
}

function presentBudget(usage: FleetUsage) {
  return {
    scope: usage.scope,
    window_seconds: usage.window_seconds,
    instances: usage.base,
    scale_in: presentAllowance(scaleInAllowance(usage)),
    change: presentAllowance(changeAllowance(usage)),
  };
}

function presentAllowance({ limit, used, left, frees_ms }: Allowance) {
  return { limit, used, left, more_at: isoOrNull(frees_ms) };
}

/** A freeze window as the API shows it: with whether it freezes at `nowMs`, and when it does next. */
export function presentFreeze(freeze: FreezeRow, nowMs: number): Record<string, unknown> {
  const { starts_at_ms, ends_at_ms, ...row } = freeze;
  const until = frozenUntil(freeze, nowMs);
  return {
    ...row,
    starts_at: isoOrNull(starts_at_ms),
    ends_at: isoOrNull(ends_at_ms),
    active: until !== null,
    active_until: isoOrNull(until),
    next_start: isoOrNull(nextFreeze(freeze, nowMs)),
  };
}

/** The number of each kind of protection in force. */
export function countProtection(protection: EnforcedProtection): Record<keyof EnforcedProtection, number> {
  return {
    stops: protection.stops.length,
    freezes: protection.freezes.length,
    holds: protection.holds.length,
    circuits: protection.circuits.length,
    budgets: protection.budgets.length,
    flapping: protection.flapping.length,
    stopped_workers: protection.stopped_workers.length,
  };
}

/** One sentence for each kind of protection in force, for `/ready`. No scope's name: `/ready` asks for no key. */
export function describeProtection(protection: EnforcedProtection): string[] {
  const count = countProtection(protection);
  const sentence = (kind: keyof EnforcedProtection, what: string) =>
    count[kind] === 0 ? [] : [`${what}: ${count[kind]} (GET /protection tells which)`];
  return [
    ...sentence('stops', 'scopes stopped, or observing after a release'),
    ...sentence('circuits', 'regions or clusters left alone after repeated failures'),
    ...sentence('holds', 'regions or clusters held for correlated scale-in'),
    ...sentence('freezes', 'freeze windows in force'),
    ...sentence('budgets', 'scopes whose budget is used up'),
    ...sentence('flapping', 'resources that flap and may not scale in'),
    ...sentence('stopped_workers', 'workers that execute nothing, as SCALER_STOP is set for them'),
  ];
}
