import { type CircuitRow, listCircuits } from '../../shared/db/circuits-store.ts';
import { type HoldRow, listHolds } from '../../shared/db/fleet-holds-store.ts';
import { changeAllowance, type FleetUsage, scaleInAllowance } from '../../shared/db/fleet-limits-store.ts';
import { type LiveWorker, listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { type FreezeRow, listFreezes } from '../../shared/db/freezes-store.ts';
import type { Queryable } from '../../shared/db/pool.ts';
import { frozenUntil } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import { type FlappingRow, listFlapping } from './flapping-store.ts';
import { readFleetUsages } from './fleet-limits-store.ts';
import { listStops, type StopRow } from './stops-store.ts';

/** Everything that blocks or limits executions now, but the budgets. */
export interface ActiveProtection {
  readonly stops: readonly StopRow[];
  readonly freezes: readonly (FreezeRow & { readonly active_until: string | null })[];
  readonly holds: readonly HoldRow[];
  readonly circuits: readonly CircuitRow[];
  /** Resources that may not scale in because they flap. */
  readonly flapping: readonly FlappingRow[];
  /** Workers with SCALER_STOP in their environment. */
  readonly stopped_workers: readonly LiveWorker[];
}

/** With the scopes whose budget of scaling in, or of changes, is exhausted. */
export interface EnforcedProtection extends ActiveProtection {
  readonly budgets: readonly FleetUsage[];
}

/** With the budget of every scope, however much of it is used. */
export interface ProtectionState extends ActiveProtection {
  readonly budgets: readonly FleetUsage[];
}

/** What blocks executions now, for `/ready` and the metrics. */
export async function readEnforcedProtection(db: Queryable): Promise<EnforcedProtection> {
  const { budgets, ...active } = await readProtectionState(db);
  const isExhausted = (usage: FleetUsage) =>
    scaleInAllowance(usage).left === 0 || changeAllowance(usage).left === 0;
  return { ...active, budgets: budgets.filter(isExhausted) };
}

/** What blocks executions now, and each scope's budget. */
export async function readProtectionState(db: Queryable): Promise<ProtectionState> {
  const [active, budgets] = await Promise.all([readActiveProtection(db), readFleetUsages(db)]);
  return { ...active, budgets };
}

async function readActiveProtection(db: Queryable): Promise<ActiveProtection> {
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
      return until === null ? [] : [{ ...freeze, active_until: isoOrNull(until) }];
    }),
    holds: holds.filter((hold) => hold.held),
    circuits: circuits.filter((circuit) => circuit.open),
    flapping,
    stopped_workers: workers.filter((worker) => worker.stopped),
  };
}
