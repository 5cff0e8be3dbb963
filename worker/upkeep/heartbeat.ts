import type { Worker } from 'bullmq';
import type pg from 'pg';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import type { Logger } from '../../shared/observability/logger.ts';
import type { QueueName, Queues } from '../../shared/queues/queues.ts';
import { outdatedBy, saveHeartbeat } from './upkeep-store.ts';

/**
 * Says that this worker lives, what it serves and how old it is; `/ready` looks for it.
 * @returns the oldest version that may work when this worker is older, else null.
 */
export async function beat(
  pool: pg.Pool,
  worker: {
    readonly id: string;
    readonly queues: readonly QueueName[];
    readonly version: string;
    /** By its environment. */
    readonly stopped: boolean;
  },
): Promise<number | null> {
  await saveHeartbeat(pool, worker);
  return await outdatedBy(pool);
}

/**
 * Keeps an outdated worker from its queues: it could claim nothing, and each entry it took would be missing to workers
 * that can, until the relay adds it again.
 */
export class OutdatedHold {
  readonly #consumers: readonly Pick<Worker, 'pause' | 'resume'>[];
  readonly #logger: Logger;
  #holds = false;

  constructor(consumers: readonly Pick<Worker, 'pause' | 'resume'>[], logger: Logger) {
    this.#consumers = consumers;
    this.#logger = logger;
  }

  /** @param needed what `beat` returned. @returns true while the worker is held. */
  async follow(needed: number | null): Promise<boolean> {
    const holds = needed !== null;
    if (holds === this.#holds) return holds;
    this.#holds = holds;
    if (needed !== null) {
      await Promise.all(this.#consumers.map((consumer) => consumer.pause(true)));
      this.#logger.error(
        { event: 'worker.outdated', workerVersion, minWorkerVersion: needed },
        `this worker is version ${workerVersion} and min_worker_version is ${needed}: it claims nothing until it is upgraded, or an admin lowers the minimum (PUT /settings/min-worker-version)`,
      );
    } else {
      for (const consumer of this.#consumers) consumer.resume();
      this.#logger.info({ event: 'worker.allowed', workerVersion });
    }
    return holds;
  }
}

/**
 * Progress, not pings: a consumer can look alive and consume nothing. True once a served queue had entries waiting and
 * none active at `limit` looks in a row.
 */
export class ProgressWatch {
  readonly #stuck = new Map<QueueName, number>();
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** @returns the first queue that makes no progress, or null. */
  async look(queues: Queues, served: readonly QueueName[]): Promise<QueueName | null> {
    for (const name of served) {
      const counts = await queues[name].getJobCounts('wait', 'active');
      const waiting = counts.wait ?? 0;
      const idle = waiting > 0 && (counts.active ?? 0) === 0 && !(await queues[name].isPaused());
      const times = idle ? (this.#stuck.get(name) ?? 0) + 1 : 0;
      this.#stuck.set(name, times);
      if (times >= this.#limit) return name;
    }
    return null;
  }
}
