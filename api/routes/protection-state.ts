import { type CircuitRow, listCircuits } from '../../shared/db/circuits-repository.ts';
import { type HoldRow, listHolds } from '../../shared/db/fleet-holds-repository.ts';
import {
  type Allowance,
  changeAllowance,
  readFleetUsage,
  scaleInAllowance,
} from '../../shared/db/fleet-limits-repository.ts';
import { type FreezeRow, listFreezes } from '../../shared/db/freezes-repository.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { listStops, type StopRow } from '../../shared/db/stops-repository.ts';
import { frozenUntil } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';

export interface ActiveProtection {
  readonly stops: readonly StopRow[];
  readonly freezes: readonly (FreezeRow & { readonly active_until: string | null })[];
  readonly holds: readonly HoldRow[];
  readonly circuits: readonly CircuitRow[];
}

/** What holds executions now. Four small reads. */
export async function readActive(db: Queryable): Promise<ActiveProtection> {
  const [stops, freezes, holds, circuits] = await Promise.all([
    listStops(db),
    listFreezes(db),
    listHolds(db),
    listCircuits(db),
  ]);
  const nowMs = Date.now();
  return {
    stops: stops.filter((stop) => stop.state !== 'released'),
    freezes: freezes.flatMap((freeze) => {
      const until = frozenUntil(freeze, nowMs);
      if (until === null) return [];
      return [{ ...freeze, active_until: isoOrNull(until) }];
    }),
    holds: holds.filter((hold) => hold.held),
    circuits: circuits.filter((circuit) => circuit.open),
  };
}

/** The same, and how much of each scope's budget is used. */
export async function readProtection(db: Queryable): Promise<Record<string, unknown>> {
  const { rows } = await db.query<{ scope: string }>(
    `select distinct 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') as scope from resources order by 1`,
  );
  const [active, usages] = await Promise.all([
    readActive(db),
    readFleetUsage(
      db,
      rows.map((row) => row.scope),
    ),
  ]);
  const budgets = usages.map((usage) => ({
    scope: usage.scope,
    window_seconds: usage.window_seconds,
    instances: usage.base,
    scale_in: presentAllowance(scaleInAllowance(usage)),
    change: presentAllowance(changeAllowance(usage)),
  }));
  return { ...active, budgets };
}

function presentAllowance({ limit, used, left, frees_ms }: Allowance) {
  return { limit, used, left, more_at: isoOrNull(frees_ms) };
}

/** One plain sentence for each thing that holds, for `/ready`. Names no scope: `/ready` asks for no key. */
export function sayProtection({ stops, freezes, holds, circuits }: ActiveProtection): string[] {
  const say = (count: number, what: string) =>
    count === 0 ? [] : [`${what}: ${count} (GET /protection tells which)`];
  return [
    ...say(stops.length, 'scopes stopped, or observing after a release'),
    ...say(circuits.length, 'regions or clusters left alone after repeated failures'),
    ...say(holds.length, 'regions or clusters held for correlated scale-in'),
    ...say(freezes.length, 'freeze windows in force'),
  ];
}
