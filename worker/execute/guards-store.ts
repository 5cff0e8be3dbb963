import type pg from 'pg';
import { audit } from '../../shared/db/audit-store.ts';
import { correlatedHold } from '../../shared/db/fleet-holds-store.ts';
import { readFleetUsage } from '../../shared/db/fleet-limits-store.ts';
import { activeFreezes, type FreezeWindow } from '../../shared/domain/freeze-window.ts';
import { cloudScope, scopesOf } from '../../shared/domain/protection-scope.ts';
import type { FleetFacts, GuardView } from '../engine/guard-view.ts';
import { noFleetFacts } from '../engine/guards.ts';
import type { CapacityState } from '../providers/scaling-provider.ts';
import { refusalOfActor } from './actor-store.ts';
import { budgetFacts, freezeFacts, holdFact } from './fleet-facts.ts';
import { lockFleet } from './fleet-lock-store.ts';
import type { BoundExecution } from './types.ts';

interface GuardRow {
  decision_state: string;
  expired: boolean;
  newer_attempted: boolean;
  epoch_moved: boolean;
  min_instances: number;
  max_instances: number;
  step: number;
  cooldown_ms: number;
  cooldown_left_ms: number;
  settles_at_ms: number | null;
  actions_last_hour: number;
  max_actions_per_hour: number;
  next_slot_ms: number | null;
  paused_until_ms: number | null;
  stop_scope: string | null;
  stop_reason: string | null;
  attempt_open: boolean;
  now_ms: number;
  /** The same to the microsecond. */
  now: string;
  freezes: FreezeWindow[] | null;
  reversals: number;
  max_reversals: number;
  circuit_open: boolean;
}

/**
 * Everything the guards look at but what needs the fleet's locks, by the database's clock. Called under the locks of
 * decision and resource.
 * @param cloud what the cloud said, and whether this worker's environment stops it.
 * @returns null when the resource was deleted; `now` is the moment the guards are judged by.
 */
export async function readGuardView(
  tx: pg.PoolClient,
  { job, view }: BoundExecution,
  cloud: { readonly state: Pick<CapacityState, 'min' | 'max'>; readonly stopped: boolean },
): Promise<{ readonly view: GuardView; readonly now: string } | null> {
  const { resource, from_instances: from, target_instances: target } = view;
  const { rows } = await tx.query<GuardRow>({
    name: 'read_guards',
    text: `with clock as (select clock_timestamp() as now)
      select d.state as decision_state, d.expires_at < clock.now as expired, r.epoch <> $3::bigint as epoch_moved,
        exists (select 1 from scaling_decisions n where n.resource_id = r.id and n.seq > d.seq
          and (n.state in ('executing', 'executed')
            or exists (select 1 from attempts a where a.decision_id = n.id))) as newer_attempted,
        r.min_instances, r.max_instances,
        case $4 when 'ScaleUp' then r.max_scale_up_step else r.max_scale_down_step end as step,
        cooldown.seconds::double precision * 1000 as cooldown_ms,
        case when r.last_effect_at = '-infinity' then 0
          else extract(epoch from r.last_effect_at + cooldown.seconds * interval '1 second'
            - clock.now)::double precision * 1000 end as cooldown_left_ms,
        (select floor(extract(epoch from max(a.settle_after)) * 1000)::double precision from attempts a
          where a.resource_id = r.id and a.state = 'succeeded' and a.settle_after > clock.now
          and upper(a.blocked) >= a.settle_after) as settles_at_ms,
        recent.count as actions_last_hour, recent.next_slot_ms, r.max_actions_per_hour,
        case when pause.until > clock.now
          then ceil(extract(epoch from pause.until) * 1000)::double precision end as paused_until_ms,
        stop.scope as stop_scope, stop.reason as stop_reason,
        floor(extract(epoch from clock.now) * 1000)::double precision as now_ms, clock.now::text as now,
        (select json_agg(json_build_object('id', f.id, 'scope', f.scope, 'direction', f.direction,
          'schedule', f.schedule, 'time_zone', f.time_zone, 'duration_minutes', f.duration_minutes,
          'starts_at_ms', floor(extract(epoch from f.starts_at) * 1000),
          'ends_at_ms', floor(extract(epoch from f.ends_at) * 1000), 'reason', f.reason))
          from freezes f where f.scope = any ($5::text[])) as freezes,
        (select count(*)::integer from (
          select a.action, lead(a.action, 1, $4) over (order by a.intent_at) as next_action from attempts a
          where a.resource_id = r.id and a.state in ('open', 'unknown', 'succeeded')
            and a.intent_at > clock.now - interval '30 minutes') turns
          where action <> next_action) as reversals,
        r.max_reversals_per_half_hour as max_reversals,
        exists (select 1 from circuits c where c.scope = $6 and c.open_until is not null) as circuit_open,
        exists (select 1 from attempts a
          where a.resource_id = r.id and a.state in ('open', 'unknown')) as attempt_open
      from scaling_decisions d join resources r on r.id = d.resource_id cross join clock
      cross join lateral (select case $4 when 'ScaleUp' then r.scale_up_paused_until
        else r.scale_down_paused_until end as until) pause
      cross join lateral (select case $4 when 'ScaleUp' then r.cooldown_period
        else coalesce(r.scale_down_cooldown, r.cooldown_period) end as seconds) cooldown
      cross join lateral (select count(*)::integer as count,
        floor(extract(epoch from min(coalesce(a.effect_at, a.intent_at)) + interval '1 hour') * 1000)::double precision
          as next_slot_ms
        from attempts a where a.resource_id = r.id and a.state in ('open', 'unknown', 'succeeded')
          and coalesce(a.effect_at, a.intent_at) > clock.now - interval '1 hour') recent
      left join lateral (select s.scope, s.reason from active_stops s
        where s.scope = any ($5::text[]) order by s.scope limit 1) stop on true
      where d.id = $1 and r.id = $2`,
    values: [
      job.decision_id,
      resource.id,
      resource.epoch,
      target > from ? 'ScaleUp' : 'ScaleDown',
      scopesOf(resource),
      cloudScope(resource),
    ],
  });
  const row = rows[0];
  if (row === undefined) return null;
  const forbidden = await refusalOfActor(tx, job.actor_key_id, resource.id);
  return {
    now: row.now,
    view: {
      from,
      target,
      nowMs: row.now_ms,
      execution: {
        circuitOpen: row.circuit_open,
        forbidden,
        decisionState: row.decision_state,
        expired: row.expired,
        attemptOpen: row.attempt_open,
        newerAttempted: row.newer_attempted,
        epochMoved: row.epoch_moved,
        bounds: { min: row.min_instances, max: row.max_instances },
        cloudBounds: cloud.state,
        step: row.step,
        settlesAtMs: row.settles_at_ms,
      },
      stop: stopOf(row, cloud.stopped),
      pausedUntilMs: row.paused_until_ms,
      cooldown: { leftMs: row.cooldown_left_ms, periodMs: row.cooldown_ms },
      rate: {
        changes: row.actions_last_hour,
        limit: row.max_actions_per_hour,
        freesAtMs: row.next_slot_ms,
      },
      reversals: { count: row.reversals, limit: row.max_reversals, freesAtMs: null },
      blocks: [],
      fleet: {
        ...noFleetFacts,
        freezes: freezeFacts(activeFreezes(row.freezes ?? [], row.now_ms), resource),
      },
    },
  };
}

function stopOf({ stop_scope, stop_reason }: GuardRow, byEnvironment: boolean): GuardView['stop'] {
  const scope = byEnvironment ? 'this worker (SCALER_STOP)' : stop_scope;
  return scope === null ? null : { scope, reason: stop_reason ?? 'set by the operator' };
}

/**
 * What the guards over a whole region, cluster, provider or fleet look at. Called after all others have agreed, as the
 * executions of a scope wait for each other from here to the commit. May trip the hold for correlated scale-in.
 * @param now the intent's moment: if the windows ended at another, a change could slip out of them.
 */
export async function readFleetFacts(
  tx: pg.PoolClient,
  { job, view, actor }: BoundExecution,
  now: string,
): Promise<Pick<FleetFacts, 'hold' | 'budgets'>> {
  const own = cloudScope(view.resource);
  await lockFleet(tx, await limitedScopes(tx, view.resource.cloud_provider, own));
  const usages = await readFleetUsage(tx, [own], now);
  const limits = usages.find((usage) => usage.scope === own);
  const scalesIn = view.target_instances < view.from_instances;
  const correlated = scalesIn && limits !== undefined ? await correlatedHold(tx, own, limits) : null;
  if (correlated?.tripped) {
    const { wanting, resources, held_until } = correlated.hold;
    await audit(tx, {
      actor,
      action: 'fleet.held',
      subject: own,
      request_id: job.request_id ?? '',
      remote_address: null,
      detail: { wanting, resources, held_until },
    });
  }
  return { hold: correlated === null ? null : holdFact(correlated.hold), budgets: budgetFacts(usages) };
}

/** The scopes whose limits a resource comes under, by their concrete names. */
async function limitedScopes(tx: pg.PoolClient, provider: string, own: string): Promise<string[]> {
  const { rows } = await tx.query<{ scope: string }>({
    name: 'limited_scopes',
    text: `select distinct case when scope = 'default' then $1 else scope end as scope from fleet_limits
      where scope in ('global', 'default', $1, $2)`,
    values: [own, `provider:${provider}`],
  });
  return rows.map((row) => row.scope);
}
