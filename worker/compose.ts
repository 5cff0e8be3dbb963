import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { type Job, Worker } from 'bullmq';
import type pg from 'pg';
import { audit } from '../shared/db/audit-store.ts';
import { createPool } from '../shared/db/pool.ts';
import type { CloudProvider } from '../shared/domain/resource.ts';
import { errorMessage } from '../shared/errors.ts';
import { type Closers, createClosers } from '../shared/lifecycle/closers.ts';
import { createLogger, type Logger } from '../shared/observability/logger.ts';
import { createMetrics, type Metrics } from '../shared/observability/metrics.ts';
import { createConsumerConnection, createProducerConnection } from '../shared/queues/connections.ts';
import { createQueues, type JobQueueName, type QueueName, type Queues } from '../shared/queues/queues.ts';
import type { WorkerConfig } from './config.ts';
import { createDecideProcessor } from './decide/processor.ts';
import { createExecuteProcessor } from './execute/processor.ts';
import { ForecasterCache } from './forecast/forecaster-cache.ts';
import { createForecastProcessor } from './forecast/processor.ts';
import { createProviders } from './providers/registry.ts';
import type { ScalingProvider } from './providers/scaling-provider.ts';
import type { RunDeps } from './queue/run-job.ts';
import { decideDueResources, expireOldRows, observeResources } from './upkeep/chores.ts';
import { beat, OutdatedHold, ProgressWatch } from './upkeep/heartbeat.ts';
import { sweep } from './upkeep/relay.ts';
import { restoreFloors } from './upkeep/restore-floors.ts';
import { countWaitingByQueue } from './upkeep/upkeep-store.ts';

export interface RunningWorker {
  readonly id: string;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Stops intake, waits for what is under way (at most about `deadlineMs`), then closes everything. */
  close(deadlineMs: number): Promise<void>;
}

const version = '0.1.0';
const sweepIntervalMs = 1_000;
const heartbeatIntervalMs = 5_000;

/** Builds and starts one worker process's parts. The only place of this process that constructs shared resources. */
export async function startWorker(config: Readonly<WorkerConfig>): Promise<RunningWorker> {
  const id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  const logger = createLogger({ level: config.LOG_LEVEL, name: 'worker' }).child({ workerId: id });
  const metrics = createMetrics();
  const closers = createClosers(logger);
  const quietly = (event: string) => (error: Error) => logger.warn({ event, detail: errorMessage(error) });

  const pool = createPool(config.DATABASE_URL, {
    size: config.DATABASE_POOL,
    name: 'scaler-worker',
    onError: quietly('postgres.error'),
  });
  closers.add('postgres', () => pool.end());
  const producer = createProducerConnection(config.REDIS_URL, quietly('redis.error'));
  closers.add('redis', () => producer.disconnect());
  const queues = createQueues(producer, config.QUEUE_PREFIX, quietly('queue.error'));
  closers.add('queues', () => Promise.all(Object.values(queues).map((queue) => queue.close())));
  const providers = createProviders({
    awsRegion: config.AWS_REGION,
    awsSettleMs: config.AWS_SETTLE_SECONDS * 1_000,
    concurrency: config.PROVIDER_CONCURRENCY,
    onCall: (provider, operation, result) => metrics.providerCalls.inc({ provider, operation, result }),
    onCircuit: (provider, open) => metrics.circuitOpen.set({ provider }, open),
  });
  closers.add('providers', () => Promise.all([...providers.values()].map((provider) => provider.close())));
  const forecasts = new ForecasterCache(pool, {
    limitBytes: config.FORECAST_CACHE_MB * 1_048_576,
    onError: (error) => logger.warn({ event: 'forecast.unsaved', detail: errorMessage(error) }),
  });
  closers.add('forecasts', () => forecasts.close());
  const shutdown = new AbortController();

  const run: RunDeps = { pool, queues, publisher: producer, prefix: config.QUEUE_PREFIX, logger, metrics };
  await setFleetConcurrency(config, queues).catch(quietly('queue.settings'));
  const served = config.WORKER_QUEUES;
  const processors = createProcessors(config, run, {
    providers,
    forecasts,
    workerId: id,
    shutdown: shutdown.signal,
  });
  const consumers = served.map((name) => startConsumer(config, name, processors[name], closers, quietly));
  if (served.includes('upkeep')) startSweeping(pool, queues, logger, metrics, closers, config);
  const stopped = config.SCALER_STOP === '1';
  startHeartbeat({ id, served, stopped, consumers, pool, queues, logger, closers });
  if (stopped) await tellStopped(pool, id).catch(quietly('audit.failed'));
  if (config.WORKER_METRICS_PORT !== undefined) await serveMetrics(metrics, config, closers);
  closers.add('intake', () => shutdown.abort());
  logger.info({ event: 'worker.started', queues: served, version });
  return { id, logger, metrics, close: (deadlineMs) => closers.closeAll(deadlineMs) };
}

function createProcessors(
  config: Readonly<WorkerConfig>,
  run: RunDeps,
  own: {
    providers: ReadonlyMap<CloudProvider, ScalingProvider>;
    forecasts: ForecasterCache;
    workerId: string;
    shutdown: AbortSignal;
  },
): Record<QueueName, (entry: Job) => Promise<unknown>> {
  const execute = {
    ...run,
    ...own,
    stopped: config.SCALER_STOP === '1',
    onUnclassified: (error: unknown) => {
      run.metrics.unclassified.inc({ where: 'provider' });
      run.logger.error({ event: 'provider.unclassified', err: error });
    },
  };
  return {
    decide: createDecideProcessor({
      ...run,
      decisionLifetimeMs: config.DECISION_LIFETIME_SECONDS * 1_000,
      forecasts: own.forecasts,
    }),
    'execute-aws': createExecuteProcessor(execute, 'execute-aws'),
    'execute-kubernetes': createExecuteProcessor(execute, 'execute-kubernetes'),
    forecast: createForecastProcessor({ ...run, forecasts: own.forecasts }),
    upkeep: createUpkeepProcessor(config, run, own),
  };
}

function createUpkeepProcessor(
  config: Readonly<WorkerConfig>,
  run: RunDeps,
  own: { providers: ReadonlyMap<CloudProvider, ScalingProvider>; workerId: string; shutdown: AbortSignal },
): (entry: Job) => Promise<unknown> {
  return async (entry) => {
    switch (entry.name) {
      case 'observe':
        return await observeResources(run.pool, own.providers, {
          maxAgeSeconds: Math.max(1, config.OBSERVE_INTERVAL_SECONDS - 1),
          defaultRegion: config.AWS_REGION,
          workerId: own.workerId,
          signal: own.shutdown,
        });
      case 'decide-due':
        return await decideDueResources(run.pool, run.queues);
      case 'restore-floors':
        return await restoreFloors({
          pool: run.pool,
          providers: own.providers,
          workerId: own.workerId,
          signal: own.shutdown,
          stopped: config.SCALER_STOP === '1',
        });
      case 'expire':
        return await expireOldRows(run.pool, {
          sampleDays: config.SAMPLE_RETENTION_DAYS,
          historyDays: config.HISTORY_RETENTION_DAYS,
        });
      default:
        throw new Error(`upkeep knows no chore named ${JSON.stringify(entry.name)}`);
    }
  };
}

const concurrencyOf: Record<QueueName, (config: Readonly<WorkerConfig>) => number> = {
  decide: (config) => config.DECIDE_CONCURRENCY,
  'execute-aws': (config) => config.EXECUTE_AWS_CONCURRENCY,
  'execute-kubernetes': (config) => config.EXECUTE_KUBERNETES_CONCURRENCY,
  // Bound by one core: more at once would only wait for each other.
  forecast: () => 2,
  upkeep: () => 1,
};

function startConsumer(
  config: Readonly<WorkerConfig>,
  name: QueueName,
  processor: (entry: Job) => Promise<unknown>,
  closers: Closers,
  quietly: (event: string) => (error: Error) => void,
): Worker {
  const connection = createConsumerConnection(config.REDIS_URL, quietly('redis.error'));
  closers.add(`redis of ${name}`, () => connection.disconnect());
  const worker = new Worker(name, processor, {
    connection,
    prefix: config.QUEUE_PREFIX,
    concurrency: concurrencyOf[name](config),
    // Not our guard (PostgreSQL's fence is), only how soon a dead worker's entries are seen again.
    lockDuration: 10_000,
    stalledInterval: 5_000,
    maxStalledCount: 3,
  });
  worker.on('error', quietly('consumer.error'));
  closers.add(`consumer of ${name}`, () => worker.close());
  return worker;
}

async function setFleetConcurrency(config: Readonly<WorkerConfig>, queues: Queues): Promise<void> {
  const limits: [JobQueueName, number | undefined][] = [
    ['decide', config.DECIDE_FLEET_CONCURRENCY],
    ['execute-aws', config.EXECUTE_AWS_FLEET_CONCURRENCY],
    ['execute-kubernetes', config.EXECUTE_KUBERNETES_FLEET_CONCURRENCY],
  ];
  for (const [name, limit] of limits) {
    if (limit !== undefined) await queues[name].setGlobalConcurrency(limit);
  }
}

/** The sweep needs nothing of Redis to be alive but the queues it fills, so it runs on a timer of its own. */
function startSweeping(
  pool: pg.Pool,
  queues: Queues,
  logger: Logger,
  metrics: Metrics,
  closers: Closers,
  config: Readonly<WorkerConfig>,
): void {
  let round = 0;
  closers.add(
    'relay',
    every(sweepIntervalMs, async () => {
      try {
        const result = await sweep(pool, queues);
        if (result.released + result.readded + result.poisoned > 0)
          logger.warn({ event: 'relay.swept', ...result });
        // Re-asserted every half minute: Redis may have been wiped, and the chores' schedule with it.
        if (round++ % 30 === 0) {
          await queues.upkeep.upsertJobScheduler(
            'observe',
            { every: config.OBSERVE_INTERVAL_SECONDS * 1_000 },
            { name: 'observe', data: {} },
          );
          await queues.upkeep.upsertJobScheduler(
            'decide-due',
            { every: 5_000 },
            { name: 'decide-due', data: {} },
          );
          await queues.upkeep.upsertJobScheduler(
            'restore-floors',
            { every: 10_000 },
            { name: 'restore-floors', data: {} },
          );
          await queues.upkeep.upsertJobScheduler('expire', { every: 10_000 }, { name: 'expire', data: {} });
          const waiting = await countWaitingByQueue(pool);
          metrics.queueDepth.reset();
          for (const { queue, n } of waiting) metrics.queueDepth.set({ queue }, n);
        }
      } catch (error) {
        logger.warn({ event: 'relay.failed', detail: errorMessage(error) }, 'the next sweep tries again');
      }
    }),
  );
}

function startHeartbeat(own: {
  id: string;
  served: readonly QueueName[];
  stopped: boolean;
  consumers: readonly Worker[];
  pool: pg.Pool;
  queues: Queues;
  logger: Logger;
  closers: Closers;
}): void {
  const watch = new ProgressWatch(3);
  const hold = new OutdatedHold(own.consumers, own.logger);
  own.closers.add(
    'heartbeat',
    every(heartbeatIntervalMs, async () => {
      try {
        const needed = await beat(own.pool, {
          id: own.id,
          queues: own.served,
          version,
          stopped: own.stopped,
        });
        if (await hold.follow(needed)) return;
        const stuck = await watch.look(own.queues, own.served);
        if (stuck !== null) {
          own.logger.fatal(
            { event: 'worker.stuck', queue: stuck },
            'entries wait and none is taken: ending, so that the supervisor starts afresh',
          );
          process.exit(1);
        }
      } catch (error) {
        own.logger.debug({ event: 'heartbeat.failed', detail: errorMessage(error) });
      }
    }),
  );
}

/** Nobody asked for it over REST: it is on record all the same. */
async function tellStopped(pool: pg.Pool, workerId: string): Promise<void> {
  await audit(pool, {
    actor: workerId,
    action: 'worker.stopped',
    subject: workerId,
    request_id: null,
    remote_address: null,
    detail: { reason: 'SCALER_STOP is set: this worker executes nothing' },
  });
}

/** Runs `work` at once and then `intervalMs` after each end. @returns what stops it and waits for the run under way. */
function every(intervalMs: number, work: () => Promise<void>): () => Promise<void> {
  let stopped = false;
  let wake = () => {};
  const loop = (async () => {
    while (!stopped) {
      await work();
      if (stopped) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, intervalMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  })();
  return async () => {
    stopped = true;
    wake();
    await loop;
  };
}

async function serveMetrics(
  metrics: Metrics,
  config: Readonly<WorkerConfig>,
  closers: Closers,
): Promise<void> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    metrics.registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': metrics.registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.WORKER_METRICS_PORT, config.WORKER_METRICS_HOST, resolve);
  });
  closers.add('metrics server', () => new Promise((resolve) => server.close(resolve)));
}
