import type pg from 'pg';
import { enqueue, jobQueueNames, type Queues } from '../../shared/queues/queues.ts';
import { releaseAbandonedJobs, takeLostJobs } from '../queue/jobs-store.ts';

/** One statement's worth; the next sweep takes the rest. */
const sweepSize = 500;
const poisonClaims = 5;

export interface SweepResult {
  readonly released: number;
  readonly poisoned: number;
  readonly readded: number;
}

/**
 * Puts back on the queues what Redis lost and what dead workers held. Level-triggered and safe to run anywhere, any
 * number of times: it only looks at rows. Entries leave a queue in order, so a row dispatched before the oldest entry
 * still waiting is not in the queue any more; a long queue is therefore not doubled.
 * @throws when PostgreSQL or Redis is away; the rows stay and the next sweep finds them.
 */
export async function sweep(pool: pg.Pool, queues: Queues): Promise<SweepResult> {
  const { released, poisoned } = await releaseAbandonedJobs(pool, poisonClaims);
  if (released.length > 0) await enqueue(queues, released);
  let readded = 0;
  for (const name of jobQueueNames) {
    const [oldest] = await queues[name].getJobs(['wait'], 0, 0, true);
    const lost = await takeLostJobs(pool, name, oldest?.timestamp ?? null, sweepSize);
    if (lost.length > 0) await enqueue(queues, lost);
    readded += lost.length;
  }
  return { released: released.length, poisoned: poisoned.length, readded };
}
