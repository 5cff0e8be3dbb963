import type { Queryable } from './pool.ts';

export interface FleetLimits {
  readonly scope: string;
  readonly window_seconds: number;
  readonly scale_in_percent: number;
  readonly scale_in_floor: number;
  readonly change_percent: number;
  readonly change_floor: number;
  readonly correlated_percent: number;
  readonly correlated_minimum: number;
  readonly hold_seconds: number;
  readonly reason: string;
  readonly actor: string;
}

export const limitColumns = `window_seconds, scale_in_percent, scale_in_floor, change_percent, change_floor, correlated_percent,
  correlated_minimum, hold_seconds, reason, actor`;

/** A scope's limits with what its window has seen. Sums are of instances; attempts that may have been applied count. */
export interface FleetUsage extends FleetLimits {
  /** Instances of the scope when the window began, so far as our own changes tell. */
  readonly base: number;
  readonly scale_in_used: number;
  readonly change_used: number;
  /** When (epoch ms) the oldest scale-in and the oldest change leave the window; null when there is none. */
  readonly scale_in_frees_ms: number | null;
  readonly change_frees_ms: number | null;
}

/**
 * The limits that hold for resources of these regions and clusters, with their use. A provider's or the global row
 * holds beside a region's own; the row `default` where a region has none. Index: attempts_by_scope.
 * @param now the moment at which windows end, as PostgreSQL wrote it; null for this one. What was intended later
 * counts.
 */
export async function readFleetUsage(
  db: Queryable,
  cloudScopes: readonly string[],
  now: string | null = null,
): Promise<FleetUsage[]> {
  const { rows } = await db.query<FleetUsage>({
    name: 'read_fleet_usage',
    text: `with clock as (select coalesce($2::timestamptz, clock_timestamp()) as now),
      asked as (select distinct s.scope, split_part(s.scope, ':', 2) as provider from unnest($1::text[]) as s (scope)),
      applied as (
        select distinct case when l.scope = 'default' then a.scope else l.scope end as applied_to, l.*
        from fleet_limits l join asked a on l.scope in ('global', 'provider:' || a.provider, a.scope)
          or (l.scope = 'default' and not exists (select 1 from fleet_limits o where o.scope = a.scope)))
      select a.applied_to as scope, ${limitColumns.replaceAll(/\b(\w+)\b/g, 'a.$1')},
        greatest(0, coalesce(size.instances, 0) + use.scaled_in - use.scaled_out)::integer as base,
        use.scale_in_used, use.change_used, use.scale_in_frees_ms, use.change_frees_ms
      from applied a cross join clock
      cross join lateral (select sum(r.current_instances) as instances from resources r
        where a.applied_to = 'global' or a.applied_to = 'provider:' || r.cloud_provider
          or a.applied_to = 'scope:' || r.cloud_provider || ':' || coalesce(r.region, r.cluster, '')) size
      cross join lateral (
        select coalesce(sum(delta) filter (where t.action = 'ScaleDown' and t.state = 'succeeded'), 0) as scaled_in,
          coalesce(sum(delta) filter (where t.action = 'ScaleUp' and t.state = 'succeeded'), 0) as scaled_out,
          coalesce(sum(delta) filter (where t.action = 'ScaleDown'), 0)::integer as scale_in_used,
          coalesce(sum(delta), 0)::integer as change_used,
          extract(epoch from min(t.intent_at) filter (where t.action = 'ScaleDown') + a.window_seconds * interval '1 second')::double precision * 1000 as scale_in_frees_ms,
          extract(epoch from min(t.intent_at) + a.window_seconds * interval '1 second')::double precision * 1000 as change_frees_ms
        from (select abs(target_instances - from_instances) as delta, action, state, intent_at from attempts
          where intent_at > clock.now - a.window_seconds * interval '1 second' and state in ('open', 'unknown', 'succeeded', 'superseded')
            and (scope = a.applied_to or a.applied_to = 'global'
              or (a.applied_to like 'provider:%' and scope like 'scope:' || substr(a.applied_to, 10) || ':%'))) t) use
      order by 1`,
    values: [cloudScopes, now],
  });
  return rows;
}

export interface Allowance {
  /** Instances that may still be given back, or changed. */
  readonly left: number;
  readonly limit: number;
  readonly used: number;
  readonly scope: string;
  readonly window_seconds: number;
  /** Epoch ms of the next moment with more room; null when nothing is used. */
  readonly frees_ms: number | null;
}

/**
 * How much the scope may still scale in: the larger of its percentage, rounded up, and its floor, less what the window
 * has seen.
 */
export function scaleInAllowance(usage: FleetUsage): Allowance {
  const limit = Math.max(Math.ceil((usage.base * usage.scale_in_percent) / 100), usage.scale_in_floor);
  return allowance(usage, limit, usage.scale_in_used, usage.scale_in_frees_ms);
}

/** The same for changes in both directions together. */
export function changeAllowance(usage: FleetUsage): Allowance {
  const limit = Math.max(Math.ceil((usage.base * usage.change_percent) / 100), usage.change_floor);
  return allowance(usage, limit, usage.change_used, usage.change_frees_ms);
}

function allowance(usage: FleetUsage, limit: number, used: number, freesMs: number | null): Allowance {
  return {
    left: Math.max(0, limit - used),
    limit,
    used,
    scope: usage.scope,
    window_seconds: usage.window_seconds,
    frees_ms: freesMs,
  };
}
