import type { Queryable } from '../../shared/db/pool.ts';
import type { CloudProvider } from '../../shared/domain/resource.ts';
import type { ExecutionResource } from './types.ts';

/** A minimum that this service has moved: what it was, and every value that was asked for since. */
export interface FloorLease {
  readonly resource_id: string;
  readonly cloud_provider: CloudProvider;
  readonly region: string | null;
  readonly cluster: string | null;
  readonly name: string;
  readonly previous_min: number;
  readonly ours: readonly number[];
  /** When this worker took it, epoch ms by the database's clock. */
  readonly taken_at_ms: number;
}

/** How long a floor outlives the last decision of its resource. */
const leaseSeconds = 3_600;

/** Records, in the transaction of the intent, that the minimum is about to be moved. */
export async function recordFloor(
  db: Queryable,
  resource: ExecutionResource,
  { from, target }: { readonly from: number; readonly target: number },
): Promise<void> {
  await db.query({
    name: 'record_floor',
    text: `insert into floor_leases as l (resource_id, cloud_provider, region, cluster, name, previous_min, ours, expires_at)
      values ($1, $2, $3, $4, $5, $6, array[$7::integer], now() + ${leaseSeconds} * interval '1 second')
      on conflict (resource_id) do update set expires_at = excluded.expires_at,
        ours = case when $7 = any (l.ours) then l.ours else l.ours || $7::integer end`,
    values: [
      resource.id,
      resource.cloud_provider,
      resource.region,
      resource.cluster,
      resource.name,
      from,
      target,
    ],
  });
}

/**
 * Takes leases whose floor is to be given back: the resource is gone or sets its size itself again, or nobody has decided
 * for it for as long as a lease lasts. Not while an attempt is open, nor while a stop is in force. A claim lasts a minute.
 */
export async function takeDueLeases(db: Queryable, limit: number): Promise<FloorLease[]> {
  const { rows } = await db.query<FloorLease>({
    name: 'take_due_leases',
    text: `with due as (
        select l.resource_id from floor_leases l left join resources r on r.id = l.resource_id
        where coalesce(l.claimed_until, '-infinity') < now()
          and (r.id is null or r.actuation <> 'floor' or (l.expires_at < now() and not exists (
            select 1 from scaling_decisions d where d.resource_id = l.resource_id
              and d.created_at > now() - ${leaseSeconds} * interval '1 second')))
          and not exists (select 1 from attempts a where a.resource_id = l.resource_id and a.state in ('open', 'unknown'))
          and not exists (select 1 from active_stops s where s.scope in ('global', 'provider:' || l.cloud_provider,
            'scope:' || l.cloud_provider || ':' || coalesce(l.region, l.cluster, ''), 'resource:' || l.resource_id::text))
        order by l.expires_at limit $1 for update of l skip locked)
      update floor_leases l set claimed_until = now() + interval '1 minute' from due
      where l.resource_id = due.resource_id
      returning l.resource_id, l.cloud_provider, l.region, l.cluster, l.name, l.previous_min, l.ours,
        floor(extract(epoch from clock_timestamp()) * 1000)::double precision as taken_at_ms`,
    values: [limit],
  });
  return rows;
}

export async function endLease(db: Queryable, resourceId: string): Promise<void> {
  await db.query({
    name: 'end_floor_lease',
    text: 'delete from floor_leases where resource_id = $1',
    values: [resourceId],
  });
}
