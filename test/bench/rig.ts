import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import type pg from 'pg';
import { createKey } from '../../api/keys/keys-store.ts';
import { upsertSamples } from '../../api/resources/series-store.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { startProcess, waitUntilReady } from '../../deploy/local/processes.ts';
import { startEmbeddedRedis } from '../../deploy/local/redis.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { createPool } from '../../shared/db/pool.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import type { LoadReport, LoadTask } from './load.ts';

const pepper = 'a pepper for the bench';
const resourceCount = 200;

export interface Endpoint {
  readonly url: string;
  readonly pid: number;
}

/** Everything that is measured, on databases of its own. */
export interface Rig {
  readonly pool: pg.Pool;
  readonly redis: Redis;
  readonly bareQueue: Queue;
  readonly bareWorker: ChildProcess;
  readonly headers: Readonly<Record<string, string>>;
  readonly resourceIds: readonly string[];
  /** The API with a queue entry a job, and as shipped; a worker behind them that decides nothing. */
  readonly single: Endpoint;
  readonly packed: Endpoint;
  readonly durableWorkerPid: number;
  /** The API and worker as shipped. */
  readonly service: Endpoint;
  readonly naive: Endpoint;
  readonly naiveWorkerPid: number;
  readonly queueOnly: Endpoint;
  readonly postgresPid: number;
  readonly redisPid: number;
  load(task: LoadTask): Promise<LoadReport>;
  rival(role: string, prefix: string): Promise<{ child: ChildProcess; port: number }>;
}

/**
 * Starts the databases, the API, the workers and the rivals to compare with. @param folder for data and logs. @throws
 * when one of them does not start.
 */
export async function buildRig(folder: string, closers: Closers, log: (line: string) => void): Promise<Rig> {
  const [postgres, redisServer] = await Promise.all([
    startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log }),
    startEmbeddedRedis({
      dataDir: join(folder, 'redis'),
      cacheDir: process.env.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache'),
      log,
    }),
  ]);
  closers.add('postgres', () => postgres.stop());
  closers.add('redis', () => redisServer.stop());
  await migrate(postgres.url);
  const pool = createPool(postgres.url, { size: 4, name: 'bench' });
  closers.add('pool', () => pool.end());
  await pool.query(
    `create table naive_jobs (id uuid primary key, resource_id uuid not null, status text not null default 'queued', result jsonb,
      created_at timestamptz not null default now())`,
  );
  const resourceIds = await seedResources(pool);
  const { key } = await createKey(pool, pepper, {
    name: 'bench',
    scopes: ['read', 'decide', 'execute', 'admin'],
    days: 1,
  });
  const redis = new Redis(redisServer.url, { maxRetriesPerRequest: null });
  closers.add('redis client', () => redis.disconnect());

  const backends = { DATABASE_URL: postgres.url, REDIS_URL: redisServer.url };
  const rival = async (role: string, prefix: string) => {
    const child = fork(join(projectRoot(), 'dist/test/bench/rivals.js'), [role], {
      env: { ...process.env, ...backends, QUEUE_PREFIX: prefix },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    closers.add(role, () => child.kill('SIGKILL'));
    const { port } = await answerOf<{ port: number }>(child, role);
    return { child, port };
  };
  const at = (started: { child: ChildProcess; port: number }): Endpoint => ({
    url: `http://127.0.0.1:${started.port}`,
    pid: started.child.pid as number,
  });
  const api = (name: string, prefix: string, packSize: string) =>
    startApi(name, { ...backends, QUEUE_PREFIX: prefix, DECIDE_PACK_SIZE: packSize }, folder, closers);

  const [bare, durable, naiveWorker] = await Promise.all([
    rival('bare-worker', '{bare}'),
    rival('durable-worker', '{durable}'),
    rival('naive-worker', '{naive}'),
  ]);
  const [single, packed, service] = await Promise.all([
    api('api-single', '{durable}', '1'),
    api('api-packed', '{durable}', '50'),
    api('api', '{service}', '50'),
  ]);
  const [naive, queueOnly] = await Promise.all([rival('naive-api', '{naive}'), rival('queue-api', '{bare}')]);
  const worker = startProcess({
    name: 'worker',
    program: 'worker/main.js',
    args: ['--queues', 'decide,forecast'],
    environment: {
      ...backends,
      QUEUE_PREFIX: '{service}',
      LOG_LEVEL: 'warn',
      AWS_EC2_METADATA_DISABLED: 'true',
    },
    logFile: join(folder, 'worker.log'),
  });
  closers.add('worker', () => worker.stop(5_000));
  const bareQueue = new Queue('bench', { connection: redis, prefix: '{bare}' });
  closers.add('bare queue', () => bareQueue.close());
  const loader = fork(join(projectRoot(), 'dist/test/bench/load.js'), [], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  closers.add('load', () => loader.kill('SIGKILL'));
  return {
    pool,
    redis,
    bareQueue,
    bareWorker: bare.child,
    headers: { authorization: `Bearer ${key}` },
    resourceIds,
    single,
    packed,
    durableWorkerPid: durable.child.pid as number,
    service,
    naive: at(naive),
    naiveWorkerPid: naiveWorker.child.pid as number,
    queueOnly: at(queueOnly),
    postgresPid: postgres.pid,
    redisPid: redisServer.pid,
    async load(task) {
      loader.send(task);
      return await answerOf<LoadReport>(loader, 'load');
    },
    rival,
  };
}

/** The next message of a child. @throws Error when it ends instead. */
export async function answerOf<T>(child: ChildProcess, name: string): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const onExit = () => reject(new Error(`bench: the process ${name} ended too early: see the lines above`));
    child.once('exit', onExit);
    child.once('message', (message) => {
      child.off('exit', onExit);
      resolve(message as T);
    });
  });
}

async function startApi(
  name: string,
  environment: Readonly<Record<string, string>>,
  folder: string,
  closers: Closers,
): Promise<Endpoint> {
  const port = await freePort();
  const logFile = join(folder, `${name}.log`);
  const api = startProcess({
    name,
    program: 'api/main.js',
    environment: {
      ...environment,
      HOST: '127.0.0.1',
      PORT: String(port),
      API_KEY_PEPPER: pepper,
      // As in production, but into a file that is thrown away.
      LOG_LEVEL: 'info',
      RATE_LIMIT_PER_MINUTE: '10000000',
    },
    logFile,
  });
  closers.add(name, () => api.stop(5_000));
  const url = `http://127.0.0.1:${port}`;
  // Alive is enough: readiness asks for workers, which serve another queue here.
  await waitUntilReady(url, api, logFile, 20_000, '/health');
  return { url, pid: api.child.pid as number };
}

/** Resources with a quarter of an hour of samples each, so that decisions are real ones. */
async function seedResources(pool: pg.Pool): Promise<string[]> {
  const ids: string[] = [];
  for (let index = 0; index < resourceCount; index++) {
    const id = randomUUID();
    await pool.query(
      `insert into resources (id, name, resource_type, cloud_provider, region, min_instances, max_instances, current_instances, target_cpu,
        target_memory, cooldown_period) values ($1, $2, 'ec2', 'aws', 'us-east-1', 1, 50, 10, 70, 80, 300)`,
      [id, `asg-${index}`],
    );
    const samples = Array.from({ length: 30 }, (_, minute) => ({
      timestamp: new Date(Date.now() - minute * 60_000).toISOString(),
      cpu: 40 + ((index * 7 + minute * 3) % 50),
      memory: 50,
      requests: null,
      instances: 10,
    }));
    await upsertSamples(pool, id, samples);
    ids.push(id);
  }
  return ids;
}
