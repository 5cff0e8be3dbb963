import type { JobRow } from '../domain/job.ts';
import type { RedisConnection } from '../queues/connections.ts';

export type FinishedJob = Pick<JobRow, 'id' | 'status' | 'outcome' | 'result' | 'error'>;

/** Where workers tell that awaited jobs are finished. */
export function finishedChannel(prefix: string): string {
  return `${prefix}:finished`;
}

/** One message per batch, sent after the commit. Fire and forget: a waiter that misses it reads PostgreSQL. */
export async function publishFinished(
  redis: RedisConnection,
  prefix: string,
  jobs: readonly FinishedJob[],
): Promise<void> {
  if (jobs.length > 0) await redis.publish(finishedChannel(prefix), JSON.stringify(jobs));
}
