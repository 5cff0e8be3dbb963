import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { createKey } from '../../api/keys/keys-store.ts';
import { migrate } from '../../shared/db/migrate.ts';

import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { kubeconfigFor } from '../simulators/kubernetes/kubeconfig.ts';
import type { RegisteredResource } from './clients.ts';
import { CloudControl } from './cloud-control.ts';
import type { CloudsReady, CloudsTask } from './clouds.ts';
import { type BreakableServer, startBreakablePostgres, startBreakableRedis } from './databases.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { type PlannedResource, regions } from './fleet-plan.ts';
import { send } from './http-client.ts';
import { Journal } from './journal.ts';
import { Operator } from './operator.ts';
import { ServiceCaller } from './service-caller.ts';
import { steadyPort } from './steady-port.ts';
import { Member } from './supervisor.ts';

export interface WorldOptions {
  readonly directory: string;
  readonly seed: number;
  readonly fleet: readonly PlannedResource[];
  readonly apis: number;
  readonly workers: number;
  /** Each answer of a cloud takes so long to twice as long. */
  readonly cloudLatencyMs: number;
  readonly log: (line: string) => void;
}

/** Everything that runs: the service as built, real databases, both clouds, and a breakable line between each two. */
export interface World {
  readonly directory: string;
  readonly postgres: BreakableServer;
  readonly redis: BreakableServer;
  readonly queuePrefix: string;
  /** Straight to PostgreSQL, past every fault of a link. */
  readonly pool: pg.Pool;
  readonly members: ReadonlyMap<string, Member>;
  readonly apis: readonly string[];
  readonly workers: readonly string[];
  readonly apiBases: ReadonlyMap<string, string>;
  /** By `<process>→<server>`. */
  readonly links: ReadonlyMap<string, FaultProxy>;
  readonly clouds: CloudControl;
  readonly caller: ServiceCaller;
  readonly operator: Operator;
  readonly resources: readonly RegisteredResource[];
  readonly clientsLog: Journal;
  readonly faultLog: Journal;
  readonly unexpectedEnds: readonly UnexpectedEnd[];
}

/** A process that ended without being told to. */
export interface UnexpectedEnd {
  readonly member: string;
  readonly code: number | null;
  readonly upMs: number;
}

/** Longer than a signature's life, which is longer than any write is late. Seconds. */
const awsSettleSeconds = 20;
const signatureMaxAgeMs = 15_000;
const decisionLifetimeSeconds = 60;
const connections = 90;
const pepper = 'a pepper for chaos runs';
const accessKeyId = 'CHAOSWORKER';
const secretAccessKey = 'only the simulator knows it';
const kubernetesToken = 'chaos-worker-token';
const queuePrefix = '{chaos}';
/** Clocks that are wrong all the time, seconds. */
const clockSkews: Readonly<Record<string, number>> = { 'api-2': 300, 'worker-2': 600, 'worker-3': -600 };

/** One region has budgets that bind; elsewhere only the limits of single resources do. */
const budgetWindowSeconds = 20;
const scaleInBudget = 40;
const changeBudget = 120;
const budgetScope = `scope:aws:${regions[1]}`;
/** In another one the guard against correlated scale-in is on, as it is by default: until somebody has looked. */
const correlatedScope = `scope:aws:${regions[2]}`;
const correlated = { correlated_percent: 60, correlated_minimum: 4, hold_seconds: 60 };

/** Facts of the set-up that the checker measures against. */
export const facts = {
  awsSettleSeconds,
  signatureMaxAgeMs,
  decisionLifetimeSeconds,
  budgets: [
    { scope: budgetScope, direction: 'in', windowMs: budgetWindowSeconds * 1_000, limit: scaleInBudget },
    { scope: budgetScope, direction: 'both', windowMs: budgetWindowSeconds * 1_000, limit: changeBudget },
  ],
} as const;

/** Starts both databases, the clouds, the service and proxies between them. @throws when one of them does not start. */
export async function openWorld(options: WorldOptions, closers: Closers): Promise<World> {
  const { directory, log } = options;
  const started = performance.now();
  const since = () => `${((performance.now() - started) / 1_000).toFixed(1)} s`;
  mkdirSync(join(directory, 'logs'), { recursive: true });
  const cacheDir = process.env.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache');
  const [postgres, redis, clouds] = await Promise.all([
    startBreakablePostgres(join(directory, 'data'), connections),
    startBreakableRedis(join(directory, 'data'), cacheDir),
    startClouds(options, closers),
  ]);
  closers.add('postgres', () => postgres.stop());
  closers.add('redis', () => redis.stop());
  await migrate(postgres.url);
  const pool = new pg.Pool({
    connectionString: postgres.url,
    max: 4,
    application_name: 'chaos',
    connectionTimeoutMillis: 2_000,
    query_timeout: 20_000,
  });
  pool.on('error', () => {});
  // PostgreSQL is killed while a fault holds one of these.
  pool.on('connect', (client) => client.on('error', () => {}));
  closers.add('pool', () => pool.end());
  const { key } = await createKey(pool, pepper, {
    name: 'chaos',
    scopes: ['read', 'decide', 'execute', 'admin'],
    days: 2,
  });
  log(`databases and clouds run (${since()})`);

  const faultLog = new Journal(join(directory, 'faults.ndjson'));
  const clientsLog = new Journal(join(directory, 'clients.ndjson'));
  const links = new Map<string, FaultProxy>();
  const link = async (name: string, port: number): Promise<number> => {
    const proxy = await startFaultProxy(port);
    links.set(name, proxy);
    closers.add(name, () => proxy.close());
    return proxy.port;
  };
  const members = new Map<string, Member>();
  const unexpectedEnds: UnexpectedEnd[] = [];
  // However this process ends, the ones it started end with it.
  const endAll = (): void => {
    for (const member of members.values()) member.signal('SIGKILL');
  };
  process.once('exit', endAll);
  closers.add('exit hook', () => process.off('exit', endAll));
  const apiBases = new Map<string, string>();
  const backendsOf = async (name: string) => ({
    DATABASE_URL: withPort(postgres.url, await link(`${name}→postgres`, postgres.port)),
    REDIS_URL: withPort(redis.url, await link(`${name}→redis`, redis.port)),
    QUEUE_PREFIX: queuePrefix,
    LOG_LEVEL: 'warn',
    DATABASE_POOL: '8',
    DECISION_LIFETIME_SECONDS: String(decisionLifetimeSeconds),
  });
  const start = (name: string, program: string, environment: Record<string, string>): void => {
    const member = new Member({
      name,
      program,
      environment: { ...environment, ...wrongClock(name) },
      logFile: join(directory, 'logs', `${name}.log`),
      onUnexpectedEnd: (ended, code, upMs) => {
        const end = { kind: 'ended', at: Date.now(), member: ended, code, upMs: Math.round(upMs) } as const;
        unexpectedEnds.push(end);
        faultLog.write(end);
      },
    });
    members.set(name, member);
    closers.add(name, () => member.close(5_000));
  };
  for (let index = 1; index <= options.apis; index++) {
    const name = `api-${index}`;
    const port = await steadyPort();
    apiBases.set(name, `http://127.0.0.1:${port}`);
    start(name, 'api/main.js', {
      ...(await backendsOf(name)),
      HOST: '127.0.0.1',
      PORT: String(port),
      API_KEY_PEPPER: pepper,
      RATE_LIMIT_PER_MINUTE: '10000000',
      BULL_BOARD: 'false',
    });
  }
  for (let index = 1; index <= options.workers; index++) {
    const name = `worker-${index}`;
    const aws = `http://127.0.0.1:${await link(`${name}→aws`, clouds.awsPort)}`;
    const cluster = `http://127.0.0.1:${await link(`${name}→kubernetes`, clouds.kubernetesPort)}`;
    const kubeconfig = join(directory, `${name}.kubeconfig`);
    writeFileSync(kubeconfig, kubeconfigFor({ server: cluster, context: 'chaos', token: kubernetesToken }), {
      mode: 0o600,
    });
    start(name, 'worker/main.js', {
      ...(await backendsOf(name)),
      KUBECONFIG: kubeconfig,
      AWS_ENDPOINT_URL_AUTO_SCALING: aws,
      AWS_ENDPOINT_URL_EC2: aws,
      AWS_ENDPOINT_URL_STS: aws,
      AWS_REGION: 'us-east-1',
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_SETTLE_SECONDS: String(awsSettleSeconds),
      OBSERVE_INTERVAL_SECONDS: '20',
    });
  }
  await Promise.all([...apiBases.values()].map(untilAlive));
  await untilWorkersReport(pool, options.workers);
  const caller = new ServiceCaller([...apiBases.values()], key, clientsLog);
  const operator = new Operator(caller);
  // Demand sweeps through all resources here, which is what the guard against correlated scale-in is there to stop: but for
  // one region it is off, so that the rest goes on.
  const unbound = { correlated_percent: 100, scale_in_floor: 100_000, change_floor: 1_000_000 };
  await operator.limitFleet('default', unbound);
  await operator.limitFleet(budgetScope, {
    ...unbound,
    window_seconds: budgetWindowSeconds,
    scale_in_percent: 0,
    scale_in_floor: scaleInBudget,
    change_percent: 0,
    change_floor: changeBudget,
  });
  await operator.limitFleet(correlatedScope, { ...unbound, ...correlated });
  const resources = await register(operator, options.fleet);
  log(
    `${options.apis} API and ${options.workers} worker processes run, ${resources.length} resources (${since()})`,
  );
  return {
    directory,
    postgres,
    redis,
    queuePrefix,
    pool,
    members,
    apis: [...apiBases.keys()],
    workers: [...members.keys()].filter((name) => !apiBases.has(name)),
    apiBases,
    links,
    clouds: new CloudControl(clouds),
    caller,
    operator,
    resources,
    clientsLog,
    faultLog,
    unexpectedEnds,
  };
}

function wrongClock(name: string): Record<string, string> {
  const seconds = clockSkews[name];
  if (seconds === undefined) return {};
  const module = pathToFileURL(join(projectRoot(), 'dist/test/chaos/skewed-clock.js')).href;
  return { NODE_OPTIONS: `--import=${module}`, CHAOS_CLOCK_SKEW_MS: String(seconds * 1_000) };
}

async function startClouds(options: WorldOptions, closers: Closers): Promise<CloudsReady> {
  const child: ChildProcess = fork(join(projectRoot(), 'dist/test/chaos/clouds.js'), [], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  closers.add('clouds', () => child.kill('SIGKILL'));
  const ready = new Promise<CloudsReady>((resolve, reject) => {
    child.once('message', (message) => resolve(message as CloudsReady));
    child.once('exit', (code) => reject(new Error(`the clouds ended with ${code}`)));
  });
  child.send({
    directory: options.directory,
    seed: options.seed,
    fleet: options.fleet,
    latencyMs: { from: options.cloudLatencyMs, to: 2 * options.cloudLatencyMs },
    signatureMaxAgeMs,
    accessKeyId,
    secretAccessKey,
    kubernetesToken,
  } satisfies CloudsTask);
  return await ready;
}

async function untilAlive(base: string): Promise<void> {
  const end = performance.now() + 30_000;
  for (;;) {
    const { status } = await send('GET', `${base}/health`, { headers: {}, timeoutMs: 1_000 });
    if (status === 200) return;
    if (performance.now() > end) throw new Error(`the API at ${base} did not start: see its log`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function untilWorkersReport(pool: pg.Pool, count: number): Promise<void> {
  const end = performance.now() + 60_000;
  for (;;) {
    const { rows } = await pool.query<{ n: number }>('select count(*)::integer as n from worker_heartbeats');
    if ((rows[0]?.n ?? 0) >= count) return;
    if (performance.now() > end) throw new Error('the workers did not start: see their logs');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function register(
  operator: Operator,
  fleet: readonly PlannedResource[],
): Promise<RegisteredResource[]> {
  const registered: RegisteredResource[] = [];
  for (let start = 0; start < fleet.length; start += 16) {
    const part = fleet.slice(start, start + 16);
    registered.push(
      ...(await Promise.all(
        part.map(async (resource) => ({
          ...resource,
          id: await operator.register({
            name: resource.name,
            resource_type: resource.provider === 'aws' ? 'ec2' : 'kubernetes',
            cloud_provider: resource.provider,
            region: resource.region,
            current_instances: resource.start,
            target_cpu: 70,
            target_memory: 80,
            tolerance: 0,
            stabilization_window: 0,
            provisioning_delay: 0,
            decision_interval: 5,
            ...resource.policy,
          }),
        })),
      )),
    );
  }
  return registered;
}

function withPort(url: string, port: number): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href;
}
