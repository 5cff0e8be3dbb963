import { randomUUID } from 'node:crypto';
import type { Job } from 'bullmq';
import type pg from 'pg';
import { insertJobs } from '../../../shared/db/jobs-store.ts';
import { createPool } from '../../../shared/db/pool.ts';
import type { CloudProvider } from '../../../shared/domain/resource.ts';
import { createLogger } from '../../../shared/observability/logger.ts';
import { createMetrics } from '../../../shared/observability/metrics.ts';
import { createConsumerConnection, type RedisConnection } from '../../../shared/queues/connections.ts';
import { createQueues, type Queues } from '../../../shared/queues/queues.ts';
import { createExecuteProcessor } from '../../../worker/execute/processor.ts';
import { AwsAutoScaling } from '../../../worker/providers/aws-auto-scaling.ts';
import { Kubernetes } from '../../../worker/providers/kubernetes.ts';
import type { ScalingProvider } from '../../../worker/providers/scaling-provider.ts';
import { claimJobs, finishJobs } from '../../../worker/queue/jobs-store.ts';
import { observeResources } from '../../../worker/upkeep/chores.ts';
import { sweep } from '../../../worker/upkeep/relay.ts';
import { pointAwsSdkTo } from '../../contract/point-aws-sdk.ts';
import { pointKubernetesClientTo } from '../../contract/point-kubernetes-client.ts';
import { type AwsSimulator, startAwsSimulator } from '../../simulators/aws/server.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from '../../simulators/kubernetes/server.ts';
import { newJob, seedDecision, seedResource } from '../../support/seed.ts';
import type { Scenario } from './scenarios.ts';

/** One resource of a scenario, and what is to be done with it. */
export interface Subject {
  /** The cloud's own name: a group, or a workload in namespace default. */
  readonly name: string;
  readonly resourceId: string;
  readonly decisionId: string;
  readonly jobId: string;
}

export interface Rig {
  readonly pool: pg.Pool;
  readonly queues: Queues;
  readonly redis: RedisConnection;
  readonly aws: AwsSimulator;
  readonly kubernetes: KubernetesSimulator;
  readonly providers: ReadonlyMap<CloudProvider, ScalingProvider>;
  /** For the children. */
  readonly environment: Readonly<Record<string, string>>;
  close(): Promise<void>;
}

/** Who asks for everything here: an ordinary key, which the worker looks up once more. */
const actorKey = 'crash-points';

/** Both clouds, the databases given, and the survivor's providers. Points this process's SDKs to the simulators. */
export async function startRig(databaseUrl: string, redisUrl: string, prefix: string): Promise<Rig> {
  const pool = createPool(databaseUrl, { name: 'crash-survivor' });
  const redis = createConsumerConnection(redisUrl, () => {});
  const aws = await startAwsSimulator({ timeScale: 0 });
  const kubernetes = await startKubernetesSimulator({ timeScale: 0 });
  pointAwsSdkTo(aws.endpoint);
  const forget = await pointKubernetesClientTo({ here: kubernetes });
  await pool.query(
    `insert into api_keys (id, name, secret_hash, scopes, expires_at) values ($1, 'crash points', '', array['execute'], now() + interval '1 day')`,
    [actorKey],
  );
  if (redis.status !== 'ready') await new Promise((resolve) => redis.once('ready', resolve));
  const queues = createQueues(redis, prefix, () => {});
  // Hundreds of runs in a row in one region are no fleet: what one may do is not what is tested here.
  await pool.query(
    `update fleet_limits set scale_in_percent = 100, scale_in_floor = 100000, change_percent = 100000, change_floor = 1000000, correlated_percent = 100`,
  );
  const providers = new Map<CloudProvider, ScalingProvider>([
    ['aws', new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 400 })],
    ['kubernetes', new Kubernetes({ settleMs: 400 })],
  ]);
  const names = [
    'AWS_ENDPOINT_URL_AUTO_SCALING',
    'AWS_ENDPOINT_URL_EC2',
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
  ];
  return {
    pool,
    queues,
    redis,
    aws,
    kubernetes,
    providers,
    environment: {
      DATABASE_URL: databaseUrl,
      REDIS_URL: redisUrl,
      QUEUE_PREFIX: prefix,
      KUBECONFIG: process.env.KUBECONFIG ?? '',
      AWS_EC2_METADATA_DISABLED: 'true',
      ...Object.fromEntries(names.map((name) => [name, process.env[name] ?? ''])),
    },
    async close() {
      await Promise.all([...providers.values()].map((provider) => provider.close()));
      await Promise.all(Object.values(queues).map((queue) => queue.close()));
      redis.disconnect();
      await Promise.all([aws.close(), kubernetes.close(), forget()]);
      await pool.end();
    },
  };
}

/** Makes a cloud object, its row, a decision and a job, as the scenario wants them. */
export async function createSubject(rig: Rig, scenario: Scenario): Promise<Subject> {
  const name = `s-${randomUUID().slice(0, 8)}`;
  const { from, place } = scenario;
  if (place === 'group') rig.aws.createGroup({ name, min: 0, max: 50, desired: from });
  else if (place === 'statefulset') rig.kubernetes.createStatefulSet({ name, replicas: from });
  else rig.kubernetes.createDeployment({ name, replicas: from });
  if (place === 'floor')
    rig.kubernetes.createHpa({ name: `${name}-hpa`, target: { name }, minReplicas: from, maxReplicas: 50 });
  const kind = place === 'statefulset' ? 'statefulset' : 'deployment';
  const resourceId = await seedResource(rig.pool, {
    ...(place === 'group'
      ? { name }
      : {
          name: `${kind}:default/${name}`,
          resource_type: 'kubernetes',
          cloud_provider: 'kubernetes',
          region: null,
          actuation: place === 'floor' ? 'floor' : 'desired',
        }),
    current_instances: from,
    min_instances: 0,
    max_instances: 50,
    cooldown_period: 0,
    max_actions_per_hour: 3_600,
    ...scenario.resource,
  });
  const decisionId = await seedDecision(rig.pool, resourceId, from, scenario.target);
  const job = newJob('execute', resourceId, decisionId, {
    notify: true,
    actor_key_id: actorKey,
    queue: place === 'group' ? 'execute-aws' : 'execute-kubernetes',
  });
  await insertJobs(rig.pool, [job]);
  const subject = { name, resourceId, decisionId, jobId: job.id };
  await scenario.arrange?.(rig, subject);
  return subject;
}

/** What the dead worker left behind, taken over by the product as it ships: sweep, deliver, until nothing is left. */
export async function recover(rig: Rig, subjects: readonly Subject[], redisWiped: boolean): Promise<void> {
  const resources = subjects.map(({ resourceId }) => resourceId);
  if (redisWiped) await wipe(rig);
  const endsAt = performance.now() + 20_000;
  for (;;) {
    // The lease of whoever died runs out, also of a claim that PostgreSQL carried out after the death, and so does the
    // wait of whatever was postponed. The survivor itself holds none between two rounds.
    await rig.pool.query(
      `update jobs set lease_until = now() - interval '1 second' where resource_id = any ($1::uuid[]) and status = 'active'`,
      [resources],
    );
    await letCircuitsTry(rig.pool);
    const { rows } = await rig.pool.query<{ id: string }>(
      `update jobs set available_at = now(), dispatched_at = now() - interval '1 minute'
        where resource_id = any ($1::uuid[]) and status in ('queued', 'retrying') returning id`,
      [resources],
    );
    const { rowCount } = await rig.pool.query(
      'select 1 from jobs where resource_id = any ($1::uuid[]) and not finished',
      [resources],
    );
    if (rowCount === 0) return;
    if (performance.now() > endsAt)
      throw new Error(`stuck: ${rowCount} jobs are not finished, ${rows.length} of them due`);
    await sweep(rig.pool, rig.queues);
    await serveQueues(rig);
  }
}

/** As if the time an open circuit holds were over. */
async function letCircuitsTry(pool: pg.Pool): Promise<void> {
  await pool.query(
    `update circuits set open_until = now() - interval '1 second', probe_until = null where open_until is not null`,
  );
}

/** As if Redis had been wiped: nothing under this rig's prefix is left. */
async function wipe(rig: Rig): Promise<void> {
  const script = `for _, key in ipairs(redis.call('keys', ARGV[1])) do redis.call('del', key) end`;
  await rig.redis.eval(script, 0, `${rig.environment.QUEUE_PREFIX}:*`);
}

/** Takes every entry of the execution queues as a consumer would. */
async function serveQueues(rig: Rig): Promise<void> {
  const deps = {
    pool: rig.pool,
    queues: rig.queues,
    publisher: rig.redis,
    prefix: '{survivor}',
    logger: createLogger({ level: 'silent', name: 'survivor' }),
    metrics: createMetrics(),
    providers: rig.providers,
    workerId: 'survivor',
    shutdown: new AbortController().signal,
    stopped: false,
    onUnclassified: () => {},
  };
  for (const name of ['execute-aws', 'execute-kubernetes'] as const) {
    const processor = createExecuteProcessor(deps, name);
    const entries: Job[] = await rig.queues[name].getJobs(['wait', 'delayed']);
    for (const entry of entries) {
      await processor(entry).catch(() => {});
      await entry.remove();
    }
  }
  await serveDecides(rig);
}

/** A stand-in for the decide worker: what counts here is that the entry comes, and once. */
async function serveDecides(rig: Rig): Promise<void> {
  const entries: Job<{ ids: string[] }>[] = await rig.queues.decide.getJobs(['wait', 'delayed']);
  for (const entry of entries) {
    const claimed = await claimJobs(rig.pool, entry.data.ids, 30_000);
    await finishJobs(
      rig.pool,
      claimed.map(({ id, fence }) => ({
        id,
        fence,
        status: 'completed',
        outcome: 'succeeded',
        result: {},
        error: null,
      })),
    );
    await entry.remove();
  }
}

/** The reconciler's look at the clouds. */
export async function observe(rig: Rig): Promise<void> {
  await observeResources(rig.pool, rig.providers, {
    maxAgeSeconds: 0,
    defaultRegion: 'us-east-1',
    workerId: 'survivor',
    signal: new AbortController().signal,
  });
}

/** A new decision after everything, when nothing can land any more, carried out by the survivor: nothing may be locked for good. */
export async function followUp(rig: Rig, scenario: Scenario, subject: Subject): Promise<void> {
  const size = sizeOf(rig, scenario, subject.name);
  if (size === undefined) return;
  await rig.pool.query(
    `update resources set max_instances = 50, scale_up_paused_until = null where id = $1`,
    [subject.resourceId],
  );
  if (scenario.place === 'group') rig.aws.changeExternally(subject.name, { resume: ['Launch', 'Terminate'] });
  rig.aws.faults.clear();
  rig.kubernetes.faults.clear();
  await rig.pool.query(
    `select pg_sleep(greatest(0, extract(epoch from max(settle_after) - clock_timestamp()))) from attempts where resource_id = $1`,
    [subject.resourceId],
  );
  const decisionId = await seedDecision(rig.pool, subject.resourceId, size, size + 1);
  const job = newJob('execute', subject.resourceId, decisionId, {
    queue: scenario.place === 'group' ? 'execute-aws' : 'execute-kubernetes',
  });
  await insertJobs(rig.pool, [job]);
  await recover(rig, [subject], false);
  const { rows } = await rig.pool.query<{ outcome: string; error: unknown }>(
    'select outcome, error from jobs where id = $1',
    [job.id],
  );
  if (rows[0]?.outcome !== 'succeeded')
    throw new Error(`the resource is not usable afterwards: ${JSON.stringify(rows[0])}`);
}

/** What the cloud really has; undefined when the object is gone. */
export function sizeOf(rig: Rig, { place }: Scenario, name: string): number | undefined {
  if (place === 'group') return rig.aws.group(name)?.desired;
  if (place === 'floor')
    return rig.kubernetes.ledger.writes().findLast((entry) => entry.name === `${name}-hpa`)?.to ?? undefined;
  return rig.kubernetes.workload('default', name, place === 'statefulset' ? 'StatefulSet' : 'Deployment')
    ?.replicas;
}
