import type { Queryable } from '../../shared/db/pool.ts';

/**
 * One row of history: [epoch ms, CPU percent, memory percent, instances, requests per second]. Where there is more to
 * say, the counter of requests follows, and what an instance was if that is not what the resource's instances are now:
 * [… requests_total, instance_type, cpu_request, memory_request].
 */
export type HistoryRow = readonly [
  atMs: number,
  cpu: number | null,
  memory: number | null,
  instances: number,
  requests: number | null,
  requestsTotal?: number | null,
  instanceType?: string | null,
  cpuRequest?: number | null,
  memoryRequest?: number | null,
];

/** A column of utilisation in percent, whatever the resource `r` posts it in. */
export function inPercent(column: string): string {
  return `case r.utilization_unit when 'ratio' then ${column} * 100 else ${column} end`;
}

const [cpu, memory] = [inPercent('s.cpu'), inPercent('s.memory')];

/**
 * `s` is a row of metric_samples, `r` its resource. The long form only where it says more: it is read with every
 * decision.
 */
export const historyRow = `case when s.requests_total is null and s.instance_type is not distinct from r.instance_type
    and s.cpu_request is not distinct from r.cpu_request and s.memory_request is not distinct from r.memory_request
  then json_build_array(floor(extract(epoch from s.timestamp) * 1000), ${cpu}, ${memory}, s.instances, s.requests)
  else json_build_array(floor(extract(epoch from s.timestamp) * 1000), ${cpu}, ${memory}, s.instances, s.requests, s.requests_total,
    s.instance_type, s.cpu_request, s.memory_request) end`;

/** Samples from a moment on, oldest first. Index: the primary key. */
export async function listHistory(
  db: Queryable,
  resourceId: string,
  range: { readonly fromMs: number; readonly toMs: number; readonly limit: number },
): Promise<HistoryRow[]> {
  const { rows } = await db.query<{ row: HistoryRow }>({
    name: 'list_history',
    text: `select ${historyRow} as row from resources r join metric_samples s on s.resource_id = r.id
      where r.id = $1 and s.timestamp >= to_timestamp($2::double precision / 1000) and s.timestamp < to_timestamp($3::double precision / 1000)
      order by s.timestamp limit $4`,
    values: [resourceId, range.fromMs, range.toMs, range.limit],
  });
  return rows.map(({ row }) => row);
}
