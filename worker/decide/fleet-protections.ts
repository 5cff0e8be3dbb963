import type pg from 'pg';
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
import { listFreezes } from '../../shared/db/freezes-store.ts';
import { type ActiveFreeze, activeFreezes, freezeOf } from '../../shared/domain/freeze-window.ts';
import { cloudScope, scopesOf } from '../../shared/domain/protection-scope.ts';
import type { FleetProtection } from '../engine/types.ts';
import type { DecisionInputs } from './inputs-store.ts';

/** Old enough to spare PostgreSQL, and too young to mislead: T1 looks again before anything is done. */
const maxAgeMs = 1_000;

interface Seen {
  readonly freezes: readonly ActiveFreeze[];
  readonly holds: readonly HoldRow[];
  readonly circuits: readonly CircuitRow[];
  readonly workers: readonly LiveWorker[];
  readonly usages: Map<string, Promise<FleetUsage[]>>;
}

/** What deciding tells about the guards over whole scopes: to explain, as executing enforces. */
export class FleetProtections {
  readonly #pool: pg.Pool;
  #seen: Promise<Seen> | null = null;
  #seenAtMs = Number.NEGATIVE_INFINITY;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /** @returns by resource id, for those that anything could hold or limit. */
  async of(inputs: Iterable<DecisionInputs>): Promise<Map<string, readonly FleetProtection[]>> {
    const found = new Map<string, readonly FleetProtection[]>();
    for (const input of inputs) {
      const seen = await this.#look(input.engine.nowMs);
      const own = cloudScope(input.place);
      const usages = seen.usages.get(own) ?? readFleetUsage(this.#pool, [own]);
      seen.usages.set(own, usages);
      const protections = protectionsOf(input, seen, await usages);
      if (protections.length > 0) found.set(input.place.id, protections);
    }
    return found;
  }

  /** @param nowMs by the database's clock. */
  async #look(nowMs: number): Promise<Seen> {
    const now = performance.now();
    if (this.#seen === null || now - this.#seenAtMs > maxAgeMs) {
      this.#seenAtMs = now;
      this.#seen = this.#read(nowMs);
      this.#seen.catch(() => {
        this.#seen = null;
      });
    }
    return await this.#seen;
  }

  async #read(nowMs: number): Promise<Seen> {
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
  { freezes, holds, circuits, workers }: Seen,
  usages: readonly FleetUsage[],
): FleetProtection[] {
  const own = cloudScope(place);
  const found: FleetProtection[] = [];
  const executing = workers.filter(({ queues }) => queues.includes(`execute-${place.cloud_provider}`));
  if (executing.length > 0 && executing.every(({ stopped }) => stopped))
    found.push({
      code: 'stopped',
      direction: 'both',
      allowed: 0,
      detail: 'scaling is stopped by SCALER_STOP on every worker that executes it',
      untilMs: null,
    });
  for (const direction of ['up', 'down'] as const) {
    const freeze = freezeOf(freezes, scopesOf(place), direction);
    if (freeze !== null)
      found.push({
        code: 'frozen',
        direction,
        allowed: 0,
        detail: `${freeze.window.scope} is frozen (${freeze.window.reason})`,
        untilMs: Number.isFinite(freeze.untilMs) ? freeze.untilMs : null,
      });
  }
  const hold = holds.find((row) => row.scope === own && row.held);
  if (hold !== undefined)
    found.push({
      code: 'correlated_scale_in',
      direction: 'down',
      allowed: 0,
      detail: `${hold.wanting} of ${hold.resources} resources of ${own} wanted to scale in at once, and that is held until someone has looked`,
      untilMs: hold.held_until_ms,
    });
  // Once its time is over somebody has to try: decisions that were held for ever would leave it open for ever.
  const circuit = circuits.find((row) => row.scope === own && row.open_ms > 0);
  if (circuit !== undefined)
    found.push({
      code: 'circuit_open',
      direction: 'both',
      allowed: 0,
      detail: `calls to ${own} are held after repeated failures (${circuit.last_code ?? 'unknown'})`,
      untilMs: engine.nowMs + Math.ceil(circuit.open_ms),
    });
  const { maxScaleUpStep, maxScaleDownStep } = engine.policy;
  for (const usage of usages) {
    found.push(
      ...budget(scaleInAllowance(usage), 'down', 'scale-in', maxScaleDownStep),
      ...budget(changeAllowance(usage), 'both', 'change', Math.max(maxScaleUpStep, maxScaleDownStep)),
    );
  }
  return found;
}

/** A budget with room for the largest step is no news, and not kept with the decision. */
function budget(
  { left, limit, used, scope, window_seconds, frees_ms }: Allowance,
  direction: 'down' | 'both',
  what: string,
  step: number,
): FleetProtection[] {
  if (left >= step) return [];
  const detail = `${used} of ${limit} instances of the ${what} budget of ${scope} are used within ${window_seconds} s`;
  return [{ code: 'fleet_budget', direction, allowed: left, detail, untilMs: frees_ms }];
}
