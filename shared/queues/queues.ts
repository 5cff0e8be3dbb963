import { Queue } from 'bullmq';
import { z } from 'zod';
import type { RedisConnection } from './connections.ts';

/** The queues that carry jobs. `upkeep` carries the service's own chores. */
export const jobQueueNames = ['decide', 'execute-aws', 'execute-kubernetes', 'forecast'] as const;
export const queueNames = [...jobQueueNames, 'upkeep'] as const;
export type JobQueueName = (typeof jobQueueNames)[number];
export type QueueName = (typeof queueNames)[number];

/** Everything lives under one hash tag, so that a Redis Cluster keeps a queue's keys together. */
export const defaultPrefix = '{scaler}';

/** A queue entry only names rows of `jobs`: losing, doubling or forging one changes nothing. */
export const jobPayloadSchema = z.strictObject({ ids: z.array(z.uuid()).min(1).max(200), v: z.literal(1) });
export type JobPayload = z.infer<typeof jobPayloadSchema>;

/** Decide jobs that arrive together travel as one queue entry of at most this many; execute jobs travel alone. */
export const packSize = 50;

export type Queues = Readonly<Record<QueueName, Queue>>;

export function createQueues(
  connection: RedisConnection,
  prefix: string,
  onError: (error: Error) => void,
): Queues {
  const entries = queueNames.map((name) => {
    const queue = new Queue(name, {
      connection,
      prefix,
      // PostgreSQL owns attempts and back-off: see docs/explanation/adr/0002.
      defaultJobOptions: {
        attempts: 1,
        removeOnComplete: { age: 3_600, count: 1_000 },
        removeOnFail: { age: 86_400, count: 5_000 },
      },
    });
    queue.on('error', onError);
    return [name, queue] as const;
  });
  return Object.fromEntries(entries) as Record<QueueName, Queue>;
}

export interface Dispatch {
  readonly id: string;
  readonly queue: JobQueueName;
  /** How often this row has been put on the queue; part of the entry's id, which is never reused. */
  readonly seq: number;
  readonly delayMs?: number;
}

/** How long a process that has just started gives Redis, once. */
const firstWaitMs = 500;
const firstWaits = new WeakMap<RedisConnection, Promise<void>>();

/**
 * BullMQ waits without end for a connection that was never ready: requests would be held until Redis is back. Later, and
 * after one moment here, what is not connected fails at once. @throws Error when Redis is away.
 */
async function untilConnected(connection: RedisConnection): Promise<void> {
  if (connection.status === 'ready') return;
  const wait = firstWaits.get(connection) ?? firstWait(connection);
  firstWaits.set(connection, wait);
  await wait;
  if ((connection.status as string) !== 'ready') throw new Error(`Redis is away (${connection.status})`);
}

function firstWait(connection: RedisConnection): Promise<void> {
  return new Promise((resolve) => {
    connection.once('ready', resolve);
    setTimeout(resolve, firstWaitMs).unref();
  });
}

/** Puts rows of `jobs` on their queues. @throws when Redis is away; the relay tries again. */
export async function enqueue(
  queues: Queues,
  dispatches: readonly Dispatch[],
  decidePackSize: number = packSize,
): Promise<void> {
  await untilConnected(queues.decide.opts.connection as RedisConnection);
  const additions: Promise<unknown>[] = [];
  for (const name of jobQueueNames) {
    const mine = dispatches.filter((dispatch) => dispatch.queue === name);
    if (mine.length === 0) continue;
    const size = name === 'decide' ? decidePackSize : 1;
    const entries = [];
    for (let start = 0; start < mine.length; start += size) {
      const pack = mine.slice(start, start + size);
      const first = pack[0] as Dispatch;
      const delay = Math.max(...pack.map((dispatch) => dispatch.delayMs ?? 0));
      entries.push({
        name,
        data: { ids: pack.map((dispatch) => dispatch.id), v: 1 } satisfies JobPayload,
        opts: { jobId: `${first.id}-${first.seq}`, ...(delay > 0 ? { delay } : {}) },
      });
    }
    additions.push(queues[name].addBulk(entries));
  }
  await Promise.all(additions);
}
