import type { HoldRow } from '../../shared/db/fleet-holds-store.ts';
import {
  type Allowance,
  changeAllowance,
  type FleetUsage,
  scaleInAllowance,
} from '../../shared/db/fleet-limits-store.ts';
import { type ActiveFreeze, freezeOf } from '../../shared/domain/freeze-window.ts';
import { scopesOf } from '../../shared/domain/protection-scope.ts';
import type { FleetFacts } from '../engine/guard-view.ts';

/** The freeze window in force for a resource, by direction. */
export function freezeFacts(
  freezes: readonly ActiveFreeze[],
  resource: Parameters<typeof scopesOf>[0],
): FleetFacts['freezes'] {
  return (['up', 'down'] as const).flatMap((direction) => {
    const freeze = freezeOf(freezes, scopesOf(resource), direction);
    if (freeze === null) return [];
    const { id, scope, reason } = freeze.window;
    return [{ direction, id, scope, reason, untilMs: freeze.untilMs }];
  });
}

/** The hold for correlated scale-in of a region or cluster. */
export function holdFact(row: HoldRow): NonNullable<FleetFacts['hold']> {
  const { scope, wanting, resources, held_until_ms: untilMs, held_until: until } = row;
  return { scope, wanting, resources, untilMs, until };
}

/** What is left of the budgets of scaling in and of changes, scope by scope. */
export function budgetFacts(usages: readonly FleetUsage[]): FleetFacts['budgets'] {
  return usages.flatMap((usage) => [
    budgetFact('scale-in', scaleInAllowance(usage)),
    budgetFact('change', changeAllowance(usage)),
  ]);
}

function budgetFact(what: 'scale-in' | 'change', allowance: Allowance): FleetFacts['budgets'][number] {
  const { scope, left, used, limit, window_seconds: windowSeconds, frees_ms: freesAtMs } = allowance;
  return { what, scope, left, used, limit, windowSeconds, freesAtMs };
}
