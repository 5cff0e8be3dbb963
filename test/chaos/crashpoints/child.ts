import type { Job } from 'bullmq';
import pg from 'pg';
import { createPool } from '../../../shared/db/pool.ts';
import type { CloudProvider } from '../../../shared/domain/resource.ts';
import { createLogger } from '../../../shared/observability/logger.ts';
import { createMetrics } from '../../../shared/observability/metrics.ts';
import { createConsumerConnection } from '../../../shared/queues/connections.ts';
import { createQueues, type JobQueueName } from '../../../shared/queues/queues.ts';
import { type ExecuteDeps, executeDecision } from '../../../worker/execute/perform.ts';
import { createExecuteProcessor } from '../../../worker/execute/processor.ts';
import type { ScalingProvider } from '../../../worker/providers/scaling-provider.ts';
import { Claims } from '../../../worker/queue/claims.ts';
import { claimJobs } from '../../../worker/queue/jobs-store.ts';
import type { RunDeps } from '../../../worker/queue/run-job.ts';
import { withCallPolicy } from '../../../worker/resilience/call-policy.ts';
import { decideDueResources, expireOldRows, observeResources } from '../../../worker/upkeep/chores.ts';
import { sweep } from '../../../worker/upkeep/relay.ts';
import { arm, type CrashPoint, hitsSoFar } from './failpoint.ts';

/** What happens beside the worker, at the moment a scenario is about; it dies with the worker. */
export type Disturbance =
  | 'none'
  /** After the first write, every connection of the worker to PostgreSQL ends. */
  | 'cut-after-write'
  /** The same in the middle of the transaction that records the outcome. */
  | 'cut-in-outcome'
  /** The same after the first read of the cloud. */
  | 'cut-after-describe'
  /** The decision grows too old between the read of the cloud and the intent. */
  | 'expired-after-describe'
  /** Six seconds pass between intent and request, the first time. */
  | 'slow'
  /** Somebody holds the row of the second job for longer than a claim waits. */
  | 'claim-locked'
  /** After each write another worker, for whom our lease ran out, resolves the attempt first. */
  | 'resolved-elsewhere'
  /** After a write that failed, somebody removes the cloud object. */
  | 'removed-after-write'
  /** After a write that failed, somebody changes the cloud object. */
  | 'changed-after-write'
  /** After a write that failed, the decision grows too old. */
  | 'expired-after-write'
  /** The cloud says something that cannot be stored. */
  | 'nonsense'
  /** A write takes so long that leases are renewed meanwhile. */
  | 'long'
  /** The circuit of the region is open, and its time is over. */
  | 'circuit-open';

export interface ChildTask {
  readonly id: number;
  readonly step: 'execute' | 'sweep' | 'observe' | 'chores';
  readonly provider: CloudProvider;
  /** One entry a delivery; each holds the jobs delivered at the same moment. */
  readonly deliveries: readonly (readonly string[])[];
  readonly disturbance: Disturbance;
  /** Calls in flight to one region. */
  readonly concurrency: number;
  /** Where the simulator takes orders; AWS only. */
  readonly control: string;
  readonly arm: CrashPoint | null;
}

export interface ChildReport {
  readonly id: number;
  readonly hits: Readonly<Record<string, number>>;
  readonly error: string | null;
}

const { DATABASE_URL = '', REDIS_URL = '', QUEUE_PREFIX = '' } = process.env;
/** So short that a test can wait for it, and longer than a request on the loopback is on its way. */
const settleMs = 400;
const queueOf: Record<CloudProvider, JobQueueName> = { aws: 'execute-aws', kubernetes: 'execute-kubernetes' };

// Everything of the test's own goes over a connection that has no failpoints.
const own = new pg.Client({ connectionString: DATABASE_URL, application_name: 'crash-test' });
const provider = await loadProvider(process.argv[2] as CloudProvider);
const redis = createConsumerConnection(REDIS_URL, () => {});
await Promise.all([own.connect(), new Promise((resolve) => redis.once('ready', resolve))]);
const queues = createQueues(redis, QUEUE_PREFIX, () => {});
const pool = createPool(DATABASE_URL, { name: 'crash-child' });

process.on('message', (task: ChildTask) => {
  run(task).then(
    () => process.send?.({ id: task.id, hits: hitsSoFar(), error: null } satisfies ChildReport),
    (error: unknown) =>
      process.send?.({ id: task.id, hits: hitsSoFar(), error: String(error) } satisfies ChildReport),
  );
});
process.on('disconnect', () => process.exit(0));
process.send?.('ready');

async function loadProvider(name: CloudProvider): Promise<ScalingProvider> {
  const limits = { readMs: 3_000, writeMs: 3_000, manyMs: 5_000 };
  if (name === 'aws') {
    const { AwsAutoScaling } = await import('../../../worker/providers/aws-auto-scaling.ts');
    return new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs, limits });
  }
  const { Kubernetes } = await import('../../../worker/providers/kubernetes.ts');
  return new Kubernetes({ settleMs, limits });
}

async function run(task: ChildTask): Promise<void> {
  arm(task.arm);
  const providers = new Map([[task.provider, disturbed(task)]]);
  if (task.step === 'sweep') {
    for (let round = 0; round < 2; round++) {
      await own.query(
        `update jobs set status = 'active', lease_until = now() - interval '1 second' where id = any ($1::uuid[])`,
        [task.deliveries.flat()],
      );
      await sweep(pool, queues);
      await own.query(`update jobs set dispatched_at = now() - interval '1 minute' where not finished`);
      await sweep(pool, queues);
    }
    return;
  }
  if (task.step === 'observe') {
    const options = {
      maxAgeSeconds: 0,
      defaultRegion: 'us-east-1',
      workerId: 'crash-child',
      signal: new AbortController().signal,
    };
    await observeResources(pool, providers, options);
    await observeResources(pool, providers, options);
    return;
  }
  if (task.step === 'chores') {
    for (let round = 0; round < 2; round++) {
      await decideDueResources(pool, queues);
      await expireOldRows(pool, { sampleDays: 30 });
      await own.query(`update resources set mode = 'recommend' where mode = 'auto'`);
      await own.query(`update jobs set status = 'completed', outcome = 'succeeded', finished_at = now()
        where kind = 'decide' and not finished`);
    }
    return;
  }
  await deliver(task, providers);
}

/** Delivers until every job is finished, without the waits between: time is not what is tested here. */
async function deliver(
  task: ChildTask,
  providers: ReadonlyMap<CloudProvider, ScalingProvider>,
): Promise<void> {
  const deps = depsOf(providers);
  const queue = queueOf[task.provider];
  const renewEvery = task.disturbance === 'long' ? 10 : 60_000;
  const claims = new Claims(deps, queue, { lease: 30_000, renewEvery, longest: 60_000 });
  const processor = createExecuteProcessor(deps, queue, claims);
  if (task.disturbance === 'claim-locked') await lockJob(task.deliveries[0]?.[1]);
  for (const together of task.deliveries) {
    if (task.disturbance === 'circuit-open') await openCircuit(together);
    for (let round = 0; round < 60; round++) {
      await Promise.allSettled(together.map((id) => processor({ data: { ids: [id], v: 1 } } as Job)));
      const { rows } = await own.query<{ error: { code?: string } | null }>(
        `update jobs set available_at = now() where id = any ($1::uuid[]) and not finished returning error`,
        [together],
      );
      if (rows.length === 0) break;
      await own.query(
        `update circuits set open_until = now() - interval '1 second', probe_until = null where open_until is not null`,
      );
      if (rows.some(({ error }) => error?.code === 'outcome_unknown'))
        await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }
}

function depsOf(providers: ReadonlyMap<CloudProvider, ScalingProvider>): RunDeps & ExecuteDeps {
  return {
    pool,
    queues,
    publisher: redis,
    prefix: QUEUE_PREFIX,
    logger: createLogger({ level: 'silent', name: 'crash-child' }),
    metrics: createMetrics(),
    providers,
    workerId: 'crash-child',
    shutdown: new AbortController().signal,
    stopped: false,
    onUnclassified: () => {},
  };
}

function disturbed(task: ChildTask): ScalingProvider {
  const inner = withCallPolicy(provider, {
    concurrency: task.concurrency,
    failures: 1_000,
    openMs: 1,
    now: () => performance.now(),
    onCall: () => {},
    onCircuit: () => {},
  });
  const read = new Set<string>();
  const written = new Set<string>();
  /** True once for each name. */
  const firstOf = (seen: Set<string>, name: string): boolean => !seen.has(name) && seen.add(name).has(name);
  return {
    name: inner.name,
    settleMs: inner.settleMs,
    describe: async (target, signal) => {
      const state = await inner.describe(target, signal);
      if (task.disturbance === 'cut-after-describe' && firstOf(read, target.name)) await cutConnections();
      if (task.disturbance === 'expired-after-describe') await expire(target.name);
      if (task.disturbance === 'slow' && firstOf(read, target.name)) skipAhead();
      return task.disturbance === 'nonsense' ? { ...state, cpuRequest: 'much' } : state;
    },
    describeMany: (targets, signal) => inner.describeMany(targets, signal),
    setCapacity: async (target, instances, expected, options) => {
      const first = firstOf(written, target.name);
      try {
        if (task.disturbance === 'long') await new Promise((resolve) => setTimeout(resolve, 100));
        await inner.setCapacity(target, instances, expected, options);
        if (task.disturbance === 'cut-after-write' && first) await cutConnections();
        if (task.disturbance === 'cut-in-outcome' && first) await cutNextTransaction();
        if (task.disturbance === 'resolved-elsewhere') await resolveElsewhere(task, target.name);
      } catch (error) {
        await afterFailedWrite(task, target.name);
        throw error;
      }
    },
    close: () => inner.close(),
  };
}

async function cutConnections(): Promise<void> {
  await own.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'crash-child' and datname = current_database()`,
  );
  // All of them, idle ones too, are replaced only once they are seen to have ended.
  await new Promise((resolve) => setTimeout(resolve, 5));
}

async function afterFailedWrite(task: ChildTask, name: string): Promise<void> {
  if (task.disturbance === 'removed-after-write') await external({ group: name, remove: true }, task);
  if (task.disturbance === 'changed-after-write') await external({ group: name, desired: 9 }, task);
  if (task.disturbance === 'expired-after-write') await expire(name);
}

async function expire(name: string): Promise<void> {
  await own.query(
    `update scaling_decisions set expires_at = now() - interval '1 second' where resource_id = (select id from resources where name = $1)`,
    [name],
  );
}

/** Blocks whoever records an outcome, and ends its connection while it waits. @returns once the block is there. */
async function cutNextTransaction(): Promise<void> {
  await own.query('begin');
  await own.query('lock table attempts in exclusive mode');
  void cutWhoWaits();
}

async function cutWhoWaits(): Promise<void> {
  const waiting = `select 1 from pg_stat_activity where application_name = 'crash-child' and datname = current_database() and wait_event_type = 'Lock'`;
  for (let tries = 0; tries < 400; tries++) {
    if (((await own.query(waiting)).rowCount ?? 0) > 0) break;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await cutConnections();
  await own.query('rollback');
}

/** The next two looks at the clock after the intent are six seconds apart, as if the process had been stopped. */
function skipAhead(): void {
  const real = performance.now.bind(performance);
  let skippedMs = 0;
  let looks = 0;
  performance.now = () => {
    looks++;
    if (looks > 1) skippedMs = 6_000;
    if (looks > 2) performance.now = real;
    return real() + skippedMs;
  };
}

async function openCircuit(jobIds: readonly string[]): Promise<void> {
  await own.query(
    `insert into circuits (scope, failures, open_until) select distinct 'scope:aws:' || r.region, 5, now() - interval '1 second'
      from jobs j join resources r on r.id = j.resource_id where j.id = any ($1::uuid[])
      on conflict (scope) do update set failures = 5, open_until = excluded.open_until, probe_until = null`,
    [jobIds],
  );
}

/** @returns when the row is locked; it is let go after a claim has given up. */
async function lockJob(id: string | undefined): Promise<void> {
  await own.query('begin');
  await own.query('select 1 from jobs where id = $1 for update', [id]);
  setTimeout(() => void own.query('commit'), 2_200);
}

async function external(change: Record<string, unknown>, task: ChildTask): Promise<void> {
  await fetch(task.control, { method: 'POST', body: JSON.stringify(change) });
}

/** As if our lease had run out while the answer was on its way, and a quicker worker had the job since. */
async function resolveElsewhere(task: ChildTask, name: string): Promise<void> {
  const { rows } = await own.query<{ id: string }>(
    `update jobs set lease_until = now() - interval '1 second'
      where status = 'active' and resource_id = (select id from resources where name = $1) returning id`,
    [name],
  );
  const [job] = await claimJobs(
    pool,
    rows.map(({ id }) => id),
    30_000,
  );
  if (job === undefined) return;
  await executeDecision({ ...depsOf(new Map([[task.provider, provider]])), workerId: 'quicker-worker' }, job);
}
