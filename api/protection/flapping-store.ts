import { iso } from '../../shared/db/iso-column.ts';
import type { Queryable } from '../../shared/db/pool.ts';

export interface FlappingRow {
  readonly resource_id: string;
  readonly name: string;
  /** Changes of direction within 30 minutes, counting the scale-in that is refused. */
  readonly reversals: number;
  readonly max_reversals: number;
  /** When the resource may scale in again, if it is not scaled before. */
  readonly held_until: string;
}

/** Resources whose scale-in the flap guard of an execution would refuse now. Index: attempts_by_scope. */
export async function listFlapping(db: Queryable): Promise<FlappingRow[]> {
  const { rows } = await db.query<FlappingRow>({
    name: 'list_flapping',
    text: `with scopes as (
        select distinct 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') as scope from resources),
      recent as (
        select a.resource_id, a.action, a.intent_at,
          lead(a.action, 1, 'ScaleDown') over (partition by a.resource_id order by a.intent_at) as next_action
        from scopes join attempts a on a.scope = scopes.scope
        where a.state in ('open', 'unknown', 'succeeded')
          and a.intent_at > clock_timestamp() - interval '30 minutes'),
      reversals as (
        select resource_id, count(*)::integer as reversals, array_agg(intent_at order by intent_at) as moments
        from recent where action <> next_action group by resource_id),
      flapping as (
        select t.resource_id, r.name, t.reversals, r.max_reversals_per_half_hour as max_reversals,
          t.moments[t.reversals - r.max_reversals_per_half_hour] + interval '30 minutes' as held_until
        from reversals t join resources r on r.id = t.resource_id where t.reversals > r.max_reversals_per_half_hour)
      select resource_id, name, reversals, max_reversals, ${iso('held_until')} from flapping
      order by name, resource_id`,
  });
  return rows;
}
