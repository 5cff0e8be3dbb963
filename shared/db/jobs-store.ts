import type { JobKind } from '../domain/job.ts';
import type { JobQueueName } from '../queues/queues.ts';
import type { Queryable } from './pool.ts';

export interface NewJob {
  readonly id: string;
  readonly kind: JobKind;
  readonly queue: JobQueueName;
  readonly resource_id: string;
  readonly decision_id: string | null;
  readonly input: Record<string, unknown>;
  readonly notify: boolean;
  /** Milliseconds from acceptance until the job is no longer worth doing. */
  readonly deadlineMs: number;
  readonly actor_key_id: string;
  readonly request_id: string;
  readonly remote_address: string | null;
  readonly replay_of?: string;
  readonly idempotency?: Idempotency;
}

export interface Idempotency {
  readonly key_id: string;
  readonly route: string;
  readonly key: string;
  readonly body_hash: Buffer;
}

/**
 * Inserts jobs in one statement. Left out of the answer are ids that exist, second executions of a decision, and decide
 * jobs of resources that do not exist.
 */
export async function insertJobs(db: Queryable, jobs: readonly NewJob[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'insert_jobs',
    text: `insert into jobs (id, kind, queue, resource_id, decision_id, input, notify, deadline_at, actor_key_id, request_id, remote_address, replay_of)
      select j.id, j.kind, j.queue, j.resource_id, j.decision_id, j.input, j.notify, now() + j.deadline_ms * interval '1 millisecond',
        j.actor_key_id, j.request_id, j.remote_address, j.replay_of
      from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::jsonb[], $7::boolean[], $8::double precision[],
        $9::text[], $10::text[], $11::text[], $12::uuid[])
        as j (id, kind, queue, resource_id, decision_id, input, notify, deadline_ms, actor_key_id, request_id, remote_address, replay_of)
      where j.kind <> 'decide' or exists (select 1 from resources r where r.id = j.resource_id)
      on conflict do nothing
      returning id`,
    values: [
      jobs.map((job) => job.id),
      jobs.map((job) => job.kind),
      jobs.map((job) => job.queue),
      jobs.map((job) => job.resource_id),
      jobs.map((job) => job.decision_id),
      jobs.map((job) => JSON.stringify(job.input)),
      jobs.map((job) => job.notify),
      jobs.map((job) => job.deadlineMs),
      jobs.map((job) => job.actor_key_id),
      jobs.map((job) => job.request_id),
      jobs.map((job) => job.remote_address),
      jobs.map((job) => job.replay_of ?? null),
    ],
  });
  return new Set(rows.map((row) => row.id));
}
