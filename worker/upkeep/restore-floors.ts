import type pg from 'pg';
import { listFreezes } from '../../shared/db/freezes-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { activeFreezes, freezeOf } from '../../shared/domain/freeze-window.ts';
import { scopesOf } from '../../shared/domain/protection-scope.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import { appendEvent, type NewEvent } from '../execute/events-store.ts';
import { endLease, type FloorLease, takeDueLeases } from '../execute/floor-leases-store.ts';
import { ProviderError } from '../providers/provider-error.ts';
import type { CapacityState, ProviderTarget, ScalingProvider } from '../providers/scaling-provider.ts';

/** As many as can be given back, one after another, before the first claim runs out. */
const leasesAtOnce = 4;
const writeTimeoutMs = 10_000;

export interface RestoreDeps {
  readonly pool: pg.Pool;
  readonly providers: ReadonlyMap<CloudProvider, ScalingProvider>;
  readonly workerId: string;
  readonly signal: AbortSignal;
  /** By this worker's environment. */
  readonly stopped: boolean;
}

/**
 * Gives raised minimums back that nobody holds any more: to what they were, unless somebody else has set another since.
 * What fails is tried again a minute later.
 * @returns how many leases have ended.
 */
export async function restoreFloors(deps: RestoreDeps): Promise<{ ended: number; failed: number }> {
  if (deps.stopped) return { ended: 0, failed: 0 };
  const leases = await takeDueLeases(deps.pool, leasesAtOnce);
  const [first] = leases;
  if (first === undefined) return { ended: 0, failed: 0 };
  const frozen = activeFreezes(await listFreezes(deps.pool), first.taken_at_ms);
  let ended = 0;
  let failed = 0;
  for (const lease of leases) {
    if (freezeOf(frozen, scopesOf({ ...lease, id: lease.resource_id }), 'down') !== null) continue;
    try {
      if (await restore(deps, lease)) ended++;
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      failed++;
    }
  }
  return { ended, failed };
}

/** @returns false when this worker does not serve the cloud. */
async function restore(
  { pool, providers, workerId, signal }: RestoreDeps,
  lease: FloorLease,
): Promise<boolean> {
  const provider = providers.get(lease.cloud_provider);
  if (provider === undefined) return false;
  const target: ProviderTarget = {
    provider: lease.cloud_provider,
    scope: lease.cloud_provider === 'aws' ? lease.region : lease.cluster,
    name: lease.name,
    actuation: 'floor',
  };
  const event = (outcome: string, current: number | null, message?: string): NewEvent => ({
    resource_id: lease.resource_id,
    phase: 'control',
    outcome,
    action: current === null ? null : lease.previous_min > current ? 'ScaleUp' : 'ScaleDown',
    previous_instances: current,
    new_instances: outcome === 'floor_kept' ? current : lease.previous_min,
    error_message: message ?? null,
    actor: workerId,
  });
  const end = (last: NewEvent) =>
    withTransaction(pool, async (tx) => {
      await endLease(tx, lease.resource_id);
      await appendEvent(tx, last);
    });
  const state = await lookAt(provider, target, signal);
  if (state === null || (state.fence.autoscaler === undefined && lease.cloud_provider === 'kubernetes')) {
    await end(event('floor_gone', null, 'The object whose minimum was raised is gone.'));
    return true;
  }
  const current = state.desired;
  if (current !== lease.previous_min) {
    if (!lease.ours.includes(current)) {
      const message = `Somebody else has set the minimum to ${current} since: it stays.`;
      await end(event('floor_kept', current, message));
      return true;
    }
    await appendEvent(pool, event('floor_restoring', current));
    const limited = AbortSignal.timeout(writeTimeoutMs);
    await provider.setCapacity(target, lease.previous_min, state, {
      intentAtMs: lease.taken_at_ms,
      signal: limited,
    });
  }
  await end(event('floor_restored', current));
  return true;
}

async function lookAt(
  provider: ScalingProvider,
  target: ProviderTarget,
  signal: AbortSignal,
): Promise<CapacityState | null> {
  try {
    return await provider.describe(target, signal);
  } catch (error) {
    if (error instanceof ProviderError && error.code === 'target_not_found') return null;
    throw error;
  }
}
