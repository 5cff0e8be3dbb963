import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { insertJobs, type NewJob } from '../../shared/db/jobs-store.ts';

/** Inserts a resource with sane defaults. @returns its id. */
export async function seedResource(pool: pg.Pool, values: Record<string, unknown> = {}): Promise<string> {
  const row: Record<string, unknown> = {
    name: `asg-${randomUUID().slice(0, 8)}`,
    resource_type: 'ec2',
    cloud_provider: 'aws',
    region: 'us-east-1',
    min_instances: 1,
    max_instances: 20,
    current_instances: 4,
    target_cpu: 70,
    target_memory: 80,
    cooldown_period: 300,
    ...values,
  };
  const names = Object.keys(row);
  const { rows } = await pool.query<{ id: string }>(
    `insert into resources (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')}) returning id`,
    Object.values(row),
  );
  return (rows[0] as { id: string }).id;
}

/** Inserts a pending decision that changes `from` into `target`. @returns its id. */
export async function seedDecision(
  pool: pg.Pool,
  resourceId: string,
  from: number,
  target: number,
  values: { expiresInSeconds?: number } = {},
): Promise<string> {
  const id = randomUUID();
  const type = target > from ? 'scaleup' : target < from ? 'scaledown' : 'noaction';
  await pool.query(
    `insert into scaling_decisions (id, job_id, resource_id, decision_type, current_instances, target_instances, reason, reason_code, estimated_cost,
      confidence, state, explanation, inputs, engine_version, policy_version, expires_at)
    values ($1, $2, $3, $4, $5, $6, 'for a test', 'demand_above_capacity', 0, 0.5, $7, '{}', '{}', 'test', 1, clock_timestamp() + $8 * interval '1 second')`,
    [
      id,
      randomUUID(),
      resourceId,
      type,
      from,
      target,
      type === 'noaction' ? 'none' : 'pending',
      values.expiresInSeconds ?? 900,
    ],
  );
  return id;
}

/** A job as the API would submit it. */
export function newJob(
  kind: 'decide' | 'execute',
  resourceId: string,
  decisionId: string | null = null,
  values: Partial<NewJob> = {},
): NewJob {
  return {
    id: randomUUID(),
    kind,
    queue: kind === 'decide' ? 'decide' : 'execute-aws',
    resource_id: resourceId,
    decision_id: decisionId,
    input: {},
    notify: false,
    deadlineMs: 900_000,
    actor_key_id: 'auto',
    request_id: 'test-request',
    remote_address: null,
    ...values,
  };
}

/** Inserts a job as the API would. */
export async function storeJob(pool: pg.Pool, ...job: Parameters<typeof newJob>): Promise<NewJob> {
  const stored = newJob(...job);
  await insertJobs(pool, [stored]);
  return stored;
}

/** Inserts an execute job for the decision. @returns the job's id. */
export async function seedExecuteJob(pool: pg.Pool, resourceId: string, decisionId: string): Promise<string> {
  return (await storeJob(pool, 'execute', resourceId, decisionId)).id;
}

/** As if whoever works on the jobs had died. */
export async function endLeases(pool: pg.Pool, ...jobIds: readonly string[]): Promise<void> {
  await pool.query(`update jobs set lease_until = now() - interval '1 second' where id = any ($1)`, [jobIds]);
}

/** An open attempt that blocks its resource from now on, unless `values` say otherwise. */
export async function seedAttempt(
  pool: pg.Pool,
  { resourceId, decisionId, jobId }: { resourceId: string; decisionId: string; jobId?: string },
  [from, target]: readonly [number, number],
  values: Record<string, unknown> = {},
): Promise<void> {
  const now = new Date();
  const row: Record<string, unknown> = {
    decision_id: decisionId,
    resource_id: resourceId,
    job_id: jobId ?? randomUUID(),
    no: 1,
    epoch: 1,
    from_instances: from,
    target_instances: target,
    action: target > from ? 'ScaleUp' : 'ScaleDown',
    state: 'open',
    intent_at: now,
    settle_after: now,
    blocked: `[${now.toISOString()},infinity)`,
    ...values,
  };
  const names = Object.keys(row);
  await pool.query(
    `insert into attempts (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')})`,
    Object.values(row),
  );
}
