import type pg from 'pg';
import { findJob } from '../../api/jobs/jobs-store.ts';
import { type ExecuteDeps, type ExecuteOutcome, executeDecision } from '../../worker/execute/perform.ts';
import { ProviderError } from '../../worker/providers/provider-error.ts';
import type { ScalingProvider } from '../../worker/providers/scaling-provider.ts';
import { type ClaimedJob, claimJobs } from '../../worker/queue/jobs-store.ts';
import { seedDecision, seedExecuteJob, seedResource } from './seed.ts';
import { openTestPool } from './test-database.ts';

/** Executions without queue and cloud: `executeDecision` on a database of its own, and what became of it. */
export interface ExecutionRig {
  readonly pool: pg.Pool;
  /** A resource of `from` instances, a decision to change that into `target`, and a job that executes it. */
  prepare(
    from?: number,
    target?: number,
    values?: Record<string, unknown>,
  ): Promise<{ resourceId: string; decisionId: string; jobId: string }>;
  /** What a worker has to work with; `given` is what differs from the usual. */
  deps(cloud: ScalingProvider, given?: Partial<ExecuteDeps>): ExecuteDeps;
  /** @returns the job, whoever had it before. @throws when it is finished. */
  claim(jobId: string): Promise<ClaimedJob>;
  /** Claims the job and executes its decision. */
  execute(cloud: ScalingProvider, jobId: string, given?: Partial<ExecuteDeps>): Promise<ExecuteOutcome>;
  /** What was sent for the decision can no longer land. */
  settle(decisionId: string): Promise<void>;
  errorCode(jobId: string): Promise<string | undefined>;
  /** @returns the states of the resource's attempts, oldest first. */
  attemptsOf(resourceId: string): Promise<string[]>;
  close(): Promise<void>;
}

/** Opens a database of its own. */
export async function openExecutionRig(): Promise<ExecutionRig> {
  const { pool, close } = await openTestPool();
  const rig: ExecutionRig = {
    pool,
    async prepare(from = 4, target = 6, values = {}) {
      const resourceId = await seedResource(pool, { current_instances: from, ...values });
      const decisionId = await seedDecision(pool, resourceId, from, target);
      return { resourceId, decisionId, jobId: await seedExecuteJob(pool, resourceId, decisionId) };
    },
    deps: (cloud, given = {}) => ({
      pool,
      providers: new Map([[cloud.name, cloud]]),
      workerId: 'worker-1',
      shutdown: new AbortController().signal,
      stopped: false,
      onUnclassified: () => {},
      ...given,
    }),
    async claim(jobId) {
      await pool.query(
        `update jobs set available_at = now(), lease_until = now() - interval '1 second' where id = $1 and not finished`,
        [jobId],
      );
      const [job] = await claimJobs(pool, [jobId], 30_000);
      if (job === undefined) throw new Error('not claimable');
      return job;
    },
    execute: async (cloud, jobId, given) => executeDecision(rig.deps(cloud, given), await rig.claim(jobId)),
    async settle(decisionId) {
      await pool.query(
        `update attempts set settle_after = now() - interval '1 second' where decision_id = $1`,
        [decisionId],
      );
    },
    errorCode: async (jobId) => (await findJob(pool, jobId))?.error?.code,
    async attemptsOf(resourceId) {
      const sql = 'select state from attempts where resource_id = $1 order by id';
      const { rows } = await pool.query<{ state: string }>(sql, [resourceId]);
      return rows.map(({ state }) => state);
    },
    close,
  };
  return rig;
}

/** What a cloud does whose answer is lost. */
export function noAnswer(): never {
  throw new ProviderError('unknown', 'timeout', 'The cloud did not answer.');
}

/** An execution that is given back for later. @param refund whether that costs it no attempt. */
export const postponed = (code: string, refund?: boolean) => ({
  kind: 'postpone',
  ...(refund === undefined ? {} : { refund }),
  error: { code },
});
