import { type CircuitRow, listCircuits } from '../../shared/db/circuits-store.ts';
import { type HoldRow, listHolds } from '../../shared/db/fleet-holds-store.ts';
import {
  type Allowance,
  changeAllowance,
  type FleetUsage,
  readFleetUsage,
  scaleInAllowance,
} from '../../shared/db/fleet-limits-store.ts';
import { type LiveWorker, listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { type FreezeRow, listFreezes } from '../../shared/db/freezes-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { frozenUntil } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import { type FlappingRow, listFlapping } from './flapping-store.ts';
import { listStops, type StopRow } from './stops-store.ts';

export interface ActiveProtection {
  readonly stops: readonly StopRow[];
  readonly freezes: readonly (FreezeRow & { readonly active_until: string | null })[];
  readonly holds: readonly HoldRow[];
  readonly circuits: readonly CircuitRow[];
  /** Resources that swing and may not scale in. */
  readonly flapping: readonly FlappingRow[];
  /** Workers that their environment stops. */
  readonly stopped_workers: readonly LiveWorker[];
}

/** What `/ready` and the metrics count. */
export interface EnforcedProtection extends ActiveProtection {
  /** Scopes whose budget has nothing left, of scaling in or of changes. */
  readonly budgets: readonly FleetUsage[];
}

/** What holds executions now: small reads. */
async function readActive(db: Queryable): Promise<ActiveProtection> {
  const [stops, freezes, holds, circuits, flapping, workers] = await Promise.all([
    listStops(db),
    listFreezes(db),
    listHolds(db),
    listCircuits(db),
    listFlapping(db),
    listLiveWorkers(db),
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
    flapping,
    stopped_workers: workers.filter((worker) => worker.stopped),
  };
}

async function readUsages(db: Queryable): Promise<FleetUsage[]> {
  const { rows } = await db.query<{ scope: string }>(
    `select distinct 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') as scope from resources order by 1`,
  );
  return await readFleetUsage(
    db,
    rows.map((row) => row.scope),
  );
}

/** The same, and the budgets that are used up. */
export async function readEnforcedProtection(db: Queryable): Promise<EnforcedProtection> {
  const [active, usages] = await Promise.all([readActive(db), readUsages(db)]);
  const budgets = usages.filter(
    (usage) => scaleInAllowance(usage).left === 0 || changeAllowance(usage).left === 0,
  );
  return { ...active, budgets };
}

/** What holds executions now, and how much of each scope's budget is used. */
export async function readProtection(db: Queryable): Promise<Record<string, unknown>> {
  const [active, usages] = await Promise.all([readActive(db), readUsages(db)]);
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

/** How many of each kind there are. */
export function countProtection(protection: EnforcedProtection): Record<keyof EnforcedProtection, number> {
  const { stops, freezes, holds, circuits, budgets, flapping, stopped_workers: workers } = protection;
  return {
    ...{ stops: stops.length, freezes: freezes.length, holds: holds.length, circuits: circuits.length },
    ...{ budgets: budgets.length, flapping: flapping.length, stopped_workers: workers.length },
  };
}

/** One plain sentence for each thing that holds, for `/ready`. Names no scope: `/ready` asks for no key. */
export function describeProtection(protection: EnforcedProtection): string[] {
  const { stops, freezes, holds, circuits, budgets, flapping, stopped_workers: workers } = protection;
  const say = (count: number, what: string) =>
    count === 0 ? [] : [`${what}: ${count} (GET /protection tells which)`];
  return [
    ...say(stops.length, 'scopes stopped, or observing after a release'),
    ...say(circuits.length, 'regions or clusters left alone after repeated failures'),
    ...say(holds.length, 'regions or clusters held for correlated scale-in'),
    ...say(freezes.length, 'freeze windows in force'),
    ...say(budgets.length, 'scopes whose budget is used up'),
    ...say(flapping.length, 'resources that flap and may not scale in'),
    ...say(workers.length, 'workers that execute nothing, as SCALER_STOP is set for them'),
  ];
}
