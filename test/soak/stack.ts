import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import type pg from 'pg';
import { createKey } from '../../api/keys/keys-store.ts';
import { upsertSamples } from '../../api/resources/series-store.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { type ServiceProcess, startProcess, waitUntilReady } from '../../deploy/local/processes.ts';
import { startEmbeddedRedis } from '../../deploy/local/redis.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { createPool } from '../../shared/db/pool.ts';
import type { scopes } from '../../shared/domain/api-key.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import type { CloudsReady } from './clouds.ts';

const pepper = 'a pepper for the soak test';
const minutesOfHistory = 180;
/** Of the scheduler's 20 steps down. */
const steppedBack = 10;

/** A process of the service under test, and where it tells its metrics. */
export interface Observed {
  readonly name: string;
  readonly role: 'api' | 'worker';
  readonly pid: number;
  readonly process: ServiceProcess;
  readonly metricsUrl: string;
}

export interface Limits {
  readonly rateLimitPerMinute: number;
  readonly maxWaitingJobs: number;
}

/** PostgreSQL, Redis, both clouds, and the service's processes as they run in production. */
export interface Stack {
  readonly pool: pg.Pool;
  readonly redis: Redis;
  readonly resourceIds: readonly string[];
  readonly keys: readonly string[];
  readonly readOnlyKey: string;
  readonly monitorKey: string;
  readonly workers: readonly Observed[];
  readonly postgresPid: number;
  readonly redisPid: number;
  readonly cloudsPid: number;
  /** Starts API processes with these limits. */
  startApis(count: number, limits: Limits): Promise<Observed[]>;
}

/** Starts databases, clouds, API and workers as processes of their own. @throws when one of them does not start. */
export async function buildStack(
  folder: string,
  options: { readonly workers: number; readonly resourcesPerCloud: number; readonly seed: number },
  closers: Closers,
  log: (line: string) => void,
): Promise<Stack> {
  const [postgres, redisServer, clouds] = await Promise.all([
    startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log }),
    startEmbeddedRedis({
      dataDir: join(folder, 'redis'),
      cacheDir: process.env.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache'),
      log,
    }),
    startClouds(options.resourcesPerCloud, options.seed, closers),
  ]);
  closers.add('postgres', () => postgres.stop());
  closers.add('redis', () => redisServer.stop());
  stepBack(postgres.pid);
  stepBack(clouds.pid);
  await migrate(postgres.url);
  const pool = createPool(postgres.url, { size: 4, name: 'soak' });
  closers.add('pool', () => pool.end());
  const redis = new Redis(redisServer.url, { maxRetriesPerRequest: null });
  closers.add('redis client', () => redis.disconnect());
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(kubeconfig, clouds.kubeconfig, { mode: 0o600 });
  const environment = {
    DATABASE_URL: postgres.url,
    REDIS_URL: redisServer.url,
    NODE_ENV: 'production',
    API_KEY_PEPPER: pepper,
    HOST: '127.0.0.1',
    LOG_LEVEL: 'info',
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'AKIASOAKSOAKSOAKSOAK',
    AWS_SECRET_ACCESS_KEY: 'simulated',
    AWS_ENDPOINT_URL_AUTO_SCALING: clouds.awsEndpoint,
    AWS_ENDPOINT_URL_EC2: clouds.awsEndpoint,
    AWS_EC2_METADATA_DISABLED: 'true',
    KUBECONFIG: kubeconfig,
    FORECAST_CACHE_MB: '64',
    OBSERVE_INTERVAL_SECONDS: '10',
  };
  const key = async (name: string, of: readonly (typeof scopes)[number][]) =>
    (await createKey(pool, pepper, { name, scopes: of, days: 2 })).key;
  const resourceIds = await seedResources(pool, options.resourcesPerCloud);
  const workers: Observed[] = [];
  for (let n = 1; n <= options.workers; n++) workers.push(await startWorker(n, environment, folder, closers));
  return {
    pool,
    redis,
    resourceIds,
    keys: await Promise.all([1, 2, 3, 4].map((n) => key(`client ${n}`, ['read', 'decide', 'execute']))),
    readOnlyKey: await key('reader', ['read']),
    monitorKey: await key('monitor', ['read']),
    workers,
    postgresPid: postgres.pid,
    redisPid: redisServer.pid,
    cloudsPid: clouds.pid,
    startApis: (count, limits) =>
      Promise.all(
        Array.from({ length: count }, (_, index) =>
          startApi(index + 1, { ...environment, ...variablesOf(limits) }, folder, closers),
        ),
      ),
  };
}

function variablesOf(limits: Limits): Record<string, string> {
  return {
    RATE_LIMIT_PER_MINUTE: String(limits.rateLimitPerMinute),
    MAX_WAITING_JOBS: String(limits.maxWaitingJobs),
  };
}

/**
 * What answers and what asks have cores of their own in production. Here they share them with what works the jobs off, which a
 * scheduler left alone gives a share by the number of processes, PostgreSQL's many: so the others step back.
 */
function stepBack(pid: number): void {
  setPriority(pid, steppedBack);
}

async function startApi(
  n: number,
  environment: Readonly<Record<string, string>>,
  folder: string,
  closers: Closers,
): Promise<Observed> {
  const port = await freePort();
  const logFile = join(folder, `api-${n}.log`);
  const api = startProcess({
    name: `api ${n}`,
    program: 'api/main.js',
    environment: { ...environment, PORT: String(port) },
    logFile,
  });
  closers.add(api.name, () => api.stop(5_000));
  const url = `http://127.0.0.1:${port}`;
  await waitUntilReady(url, api, logFile, 30_000);
  return { name: api.name, role: 'api', pid: api.child.pid as number, process: api, metricsUrl: url };
}

async function startWorker(
  n: number,
  environment: Readonly<Record<string, string>>,
  folder: string,
  closers: Closers,
): Promise<Observed> {
  const port = await freePort();
  const worker = startProcess({
    name: `worker ${n}`,
    program: 'worker/main.js',
    environment: { ...environment, WORKER_METRICS_PORT: String(port) },
    logFile: join(folder, `worker-${n}.log`),
  });
  closers.add(worker.name, () => worker.stop(10_000));
  const pid = worker.child.pid as number;
  stepBack(pid);
  return { name: worker.name, role: 'worker', pid, process: worker, metricsUrl: `http://127.0.0.1:${port}` };
}

async function startClouds(
  count: number,
  seed: number,
  closers: Closers,
): Promise<CloudsReady & { readonly pid: number }> {
  const child: ChildProcess = fork(
    join(projectRoot(), 'dist/test/soak/clouds.js'),
    [String(count), String(seed)],
    { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );
  closers.add('clouds', () => child.kill('SIGKILL'));
  return await new Promise((resolve, reject) => {
    child.once('message', (message) => resolve({ ...(message as CloudsReady), pid: child.pid as number }));
    child.once('exit', () => reject(new Error('the cloud simulators ended too early')));
  });
}

/** Objects of both clouds, each with some hours of samples, so that decisions and forecasts are real ones. */
async function seedResources(pool: pg.Pool, count: number): Promise<string[]> {
  const ids: string[] = [];
  const names = Array.from({ length: count }, (_, index) => [
    ['ec2', 'aws', 'us-east-1', `asg-${index}`],
    ['kubernetes', 'kubernetes', null, `deployment:soak/web-${index}`],
  ]).flat();
  for (const [index, [type, provider, region, name]] of names.entries()) {
    const id = randomUUID();
    await pool.query(
      `insert into resources (id, name, resource_type, cloud_provider, region, min_instances, max_instances, current_instances, target_cpu,
        target_memory, cooldown_period, max_actions_per_hour, stabilization_window, provisioning_delay)
        values ($1, $2, $3, $4, $5, 1, 40, 10, 70, 80, 5, 3600, 30, 60)`,
      [id, name, type, provider, region],
    );
    const samples = Array.from({ length: minutesOfHistory }, (_, minute) => ({
      timestamp: new Date(Math.floor(Date.now() / 60_000 - minute) * 60_000).toISOString(),
      cpu: 50 + 30 * Math.sin((minute + index * 7) / 25),
      memory: 45,
      requests: null,
      instances: 10,
    }));
    await upsertSamples(pool, id, samples);
    ids.push(id);
  }
  return ids;
}
