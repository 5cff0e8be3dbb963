import type { Queryable } from '../../shared/db/pool.ts';
import type { EngineSample } from '../engine/types.ts';
import { type InstanceSize, relativeSizeOf, sizeOf } from './instance-size.ts';
import { type HistoryRow, listHistory } from './samples-store.ts';

/** The mean over a longer silence says little of any moment in it. */
const longestRateMs = 3_600_000;

/** A counter as it stood. */
interface Count {
  readonly atMs: number;
  readonly total: number;
}

/**
 * Stored rows as the engine takes them. Counters become rates here, when they are read, and not when they arrive: then
 * the row before is the one before in time, however late or out of order rows came.
 * @param rows oldest first.
 * @param now what one instance of the resource is today.
 * @param before the newest counter before these rows, of an earlier page.
 */
export function toSamples(
  rows: readonly HistoryRow[],
  now: InstanceSize,
  before: Count | null = null,
): EngineSample[] {
  let last = before;
  return rows.map((row) => {
    const [atMs, cpu, memory, instances, requests, total = null] = row;
    const rate = total === null ? null : rateOf(last, { atMs, total });
    if (total !== null) last = { atMs, total };
    return {
      atMs,
      cpuRatio: cpu === null ? null : cpu / 100,
      memoryRatio: memory === null ? null : memory / 100,
      instances,
      requests: requests ?? rate,
      ...(row.length > 5 ? relativeSizeOf(sizeOfRow(row), now) : {}),
    };
  });
}

function sizeOfRow([, , , , , , instanceType = null, cpu = null, memory = null]: HistoryRow): InstanceSize {
  return sizeOf({ instance_type: instanceType, cpu_request: cpu, memory_request: memory });
}

/**
 * Counts per second since the row before. A counter that has fallen began anew somewhere (or is the sum of several, one
 * of which did): what was counted before that is lost, and the sum since is of an unknown time, so there is no rate.
 */
function rateOf(before: Count | null, { atMs, total }: Count): number | null {
  if (before === null || total < before.total) return null;
  const passedMs = atMs - before.atMs;
  if (!(passedMs > 0 && passedMs <= longestRateMs)) return null;
  return ((total - before.total) * 1_000) / passedMs;
}

/** Samples from a moment (included) to another (not included), oldest first; and the newest counter among them. */
export async function readSamples(
  db: Queryable,
  resourceId: string,
  range: { readonly fromMs: number; readonly toMs: number; readonly limit: number },
  now: InstanceSize,
  before: Count | null = null,
): Promise<{ readonly samples: EngineSample[]; readonly counted: Count | null }> {
  const rows = await listHistory(db, resourceId, range);
  return { samples: toSamples(rows, now, before), counted: newestCount(rows) ?? before };
}

function newestCount(rows: readonly HistoryRow[]): Count | null {
  for (let index = rows.length - 1; index >= 0; index--) {
    const [atMs, , , , , total = null] = rows[index] as HistoryRow;
    if (total !== null) return { atMs, total };
  }
  return null;
}
