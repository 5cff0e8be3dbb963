import type pg from 'pg';
import type { QueueName, Queues } from '../../shared/queues/queues.ts';

/** Says that this worker lives and what it serves; `/ready` looks for it. */
export async function beat(
  pool: pg.Pool,
  worker: { readonly id: string; readonly queues: readonly QueueName[]; readonly version: string },
): Promise<void> {
  await pool.query(
    `insert into worker_heartbeats (worker_id, queues, version) values ($1, $2, $3)
      on conflict (worker_id) do update set beat_at = now(), queues = excluded.queues, version = excluded.version`,
    [worker.id, worker.queues, worker.version],
  );
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
