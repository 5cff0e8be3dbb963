import type pg from 'pg';
import { type CircuitRow, listCircuits } from '../../shared/db/circuits-store.ts';
import { type HoldRow, listHolds } from '../../shared/db/fleet-holds-store.ts';
import { type FleetUsage, readFleetUsage } from '../../shared/db/fleet-limits-store.ts';
import { type LiveWorker, listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { listFreezes } from '../../shared/db/freezes-store.ts';
import { type ActiveFreeze, activeFreezes } from '../../shared/domain/freeze-window.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import { fleetProtections } from '../engine/guards.ts';
import type { FleetProtection } from '../engine/types.ts';
import { budgetFacts, freezeFacts, holdFact } from '../execute/fleet-facts.ts';
import type { DecisionInputs } from './inputs-store.ts';

/** Shared by the decisions of a second. The guards are asked again, under locks, before anything is changed. */
const maxAgeMs = 1_000;

/** The state of the fleet at one moment. */
interface Snapshot {
  readonly freezes: readonly ActiveFreeze[];
  readonly holds: readonly HoldRow[];
  readonly circuits: readonly CircuitRow[];
  readonly workers: readonly LiveWorker[];
  readonly usages: Map<string, Promise<FleetUsage[]>>;
}

/** The limits over whole scopes, for decisions to respect and explain. Executing enforces the same guards. */
export class FleetProtections {
  readonly #pool: pg.Pool;
  #snapshot: Promise<Snapshot> | null = null;
  #readAtMs = Number.NEGATIVE_INFINITY;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /** @returns by resource id, for those that anything could hold or limit. */
  async of(inputs: Iterable<DecisionInputs>): Promise<Map<string, readonly FleetProtection[]>> {
    const found = new Map<string, readonly FleetProtection[]>();
    for (const input of inputs) {
      const snapshot = await this.#current(input.engine.nowMs);
      const own = cloudScope(input.place);
      const usages = snapshot.usages.get(own) ?? readFleetUsage(this.#pool, [own]);
      snapshot.usages.set(own, usages);
      const protections = protectionsOf(input, snapshot, await usages);
      if (protections.length > 0) found.set(input.place.id, protections);
    }
    return found;
  }

  /** @param nowMs by the database's clock. */
  async #current(nowMs: number): Promise<Snapshot> {
    const now = performance.now();
    if (this.#snapshot === null || now - this.#readAtMs > maxAgeMs) {
      this.#readAtMs = now;
      this.#snapshot = this.#read(nowMs);
      this.#snapshot.catch(() => {
        this.#snapshot = null;
      });
    }
    return await this.#snapshot;
  }

  async #read(nowMs: number): Promise<Snapshot> {
    const [windows, holds, circuits, workers] = await Promise.all([
      listFreezes(this.#pool),
      listHolds(this.#pool),
      listCircuits(this.#pool),
      listLiveWorkers(this.#pool),
    ]);
    return { freezes: activeFreezes(windows, nowMs), holds, circuits, workers, usages: new Map() };
  }
}

function protectionsOf(
  { place, engine }: DecisionInputs,
  { freezes, holds, circuits, workers }: Snapshot,
  usages: readonly FleetUsage[],
): FleetProtection[] {
  const own = cloudScope(place);
  const executing = workers.filter(({ queues }) => queues.includes(`execute-${place.cloud_provider}`));
  const hold = holds.find((row) => row.scope === own && row.held);
  // Once its time is over somebody has to try: decisions that were held for ever would leave it open for ever.
  const circuit = circuits.find((row) => row.scope === own && row.open_ms > 0);
  return fleetProtections(
    {
      everyWorkerStopped: executing.length > 0 && executing.every(({ stopped }) => stopped),
      freezes: freezeFacts(freezes, place),
      hold: hold === undefined ? null : holdFact(hold),
      circuit:
        circuit === undefined
          ? null
          : {
              scope: own,
              lastCode: circuit.last_code,
              untilMs: engine.nowMs + Math.ceil(circuit.open_ms),
            },
      budgets: budgetFacts(usages),
    },
    { up: engine.policy.maxScaleUpStep, down: engine.policy.maxScaleDownStep },
  );
}
