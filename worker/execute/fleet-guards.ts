import type pg from 'pg';
import { audit } from '../../shared/db/audit-store.ts';
import { correlatedHold } from '../../shared/db/fleet-holds-store.ts';
import {
  type Allowance,
  changeAllowance,
  readFleetUsage,
  scaleInAllowance,
} from '../../shared/db/fleet-limits-store.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import { cloudScope } from '../../shared/domain/protection-scope.ts';
import type { ExecutionView, Refusal } from './execution-store.ts';
import { lockFleet } from './fleet-lock-store.ts';

type BoundView = ExecutionView & { readonly resource: NonNullable<ExecutionView['resource']> };

/**
 * The guards that look at all resources of a region, cluster, provider or fleet together: may this one still change?
 * Called in T1 after everything else has said yes, as the executions of a scope take their turn from here to the commit.
 * @param now the moment that will be the intent's: had windows another end than that, waiting for one's turn would let
 *   something slip out of them.
 */
export async function fleetRefusal(
  tx: pg.PoolClient,
  view: BoundView,
  action: 'ScaleUp' | 'ScaleDown',
  now: string,
  actor: string,
  requestId: string | null,
): Promise<Refusal | null> {
  const own = cloudScope(view.resource);
  await lockFleet(tx, await limitedScopes(tx, view, own));
  const usages = await readFleetUsage(tx, [own], now);
  const limits = usages.find((usage) => usage.scope === own);
  if (action === 'ScaleDown' && limits !== undefined) {
    const correlated = await correlatedHold(tx, own, limits);
    if (correlated?.tripped) {
      const { wanting, resources, held_until } = correlated.hold;
      await audit(tx, {
        actor,
        action: 'fleet.held',
        subject: own,
        request_id: requestId ?? '',
        remote_address: null,
        detail: { wanting, resources, held_until },
      });
    }
    if (correlated !== null) {
      const { hold } = correlated;
      return {
        code: 'correlated_scale_in',
        message: `${hold.wanting} of ${hold.resources} resources of ${own} wanted to scale in within 5 minutes: scaling in is held there until ${hold.held_until}. See whether their metrics are right, then release it (POST /fleet-holds/{scope}/release), or wait.`,
        context: { scope: own, earliest: hold.held_until },
      };
    }
  }
  const delta = Math.abs(view.target_instances - view.from_instances);
  for (const usage of usages) {
    const short =
      (action === 'ScaleDown' ? overdrawn(scaleInAllowance(usage), delta, 'scale-in') : null) ??
      overdrawn(changeAllowance(usage), delta, 'change');
    if (short !== null) return short;
  }
  return null;
}

/** The scopes whose limits this resource comes under, by their concrete names. */
async function limitedScopes(tx: pg.PoolClient, view: BoundView, own: string): Promise<string[]> {
  const { rows } = await tx.query<{ scope: string }>({
    name: 'limited_scopes',
    text: `select distinct case when scope = 'default' then $1 else scope end as scope from fleet_limits
      where scope in ('global', 'default', $1, $2)`,
    values: [own, `provider:${view.resource.cloud_provider}`],
  });
  return rows.map((row) => row.scope);
}

function overdrawn(allowance: Allowance, delta: number, what: 'scale-in' | 'change'): Refusal | null {
  if (delta <= allowance.left) return null;
  const { limit, used, scope, window_seconds, frees_ms } = allowance;
  const earliest = isoOrNull(frees_ms);
  return {
    code: 'fleet_budget',
    message: `${delta} more would exceed the ${what} budget of ${scope}: ${used} of ${limit} instances are used within ${window_seconds} s. Decide again${earliest === null ? '' : ` after ${earliest}`}, or raise the budget (PUT /fleet-limits/{scope}).`,
    context: { scope, limit, used, window_seconds, earliest },
  };
}
