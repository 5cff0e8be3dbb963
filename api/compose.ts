import type { Server } from 'node:http';
import { promisify } from 'node:util';
import { Gauge, type Registry } from 'prom-client';
import { createPool } from '../shared/db/pool.ts';
import { errorMessage } from '../shared/errors.ts';
import { type Closers, createClosers } from '../shared/lifecycle/closers.ts';
import { createLogger } from '../shared/observability/logger.ts';
import { createMetrics } from '../shared/observability/metrics.ts';
import { createProducerConnection, createSubscriberConnection } from '../shared/queues/connections.ts';
import { createQueues } from '../shared/queues/queues.ts';
import { buildApp } from './app.ts';
import { AuditTrail } from './audit/audit-trail.ts';
import type { ApiConfig } from './config.ts';
import { createMatchedServer } from './http/create-server.ts';
import type { Deps } from './http/deps.ts';
import type { Route } from './http/route.ts';
import { JobIntake } from './jobs/job-intake.ts';
import { JobWaiters } from './jobs/job-waiters.ts';
import { hasLiveKey } from './keys/keys-store.ts';

export interface Api {
  readonly server: Server;
  readonly deps: Deps;
  readonly routes: readonly Route[];
  readonly closers: Closers;
}

/**
 * Connections the kernel queues until the process accepts them, capped by net.core.somaxconn. With Node's default of
 * 511 a spike's connections are dropped, and clients retransmit after 1, 3 and 7 s: worse than a 503.
 */
const acceptBacklog = 4_096;

const loopback = new Set(['127.0.0.1', '::1', 'localhost']);

/** Builds the API process. The only place of this process that opens connections and constructs shared parts. */
export function composeApi(config: Readonly<ApiConfig>): Api {
  const logger = createLogger({ level: config.LOG_LEVEL, name: 'api' });
  const metrics = createMetrics();
  const closers = createClosers(logger);
  const logWarning = (event: string) => (error: unknown) =>
    logger.warn({ event, detail: errorMessage(error) });
  const pool = createPool(config.DATABASE_URL, {
    size: config.DATABASE_POOL,
    name: 'scaler-api',
    onError: logWarning('postgres.error'),
  });
  closers.add('postgres', () => pool.end());
  const redis = createProducerConnection(config.REDIS_URL, logWarning('redis.error'));
  closers.add('redis', () => redis.disconnect());
  const subscriber = createSubscriberConnection(config.REDIS_URL, logWarning('redis.error'));
  closers.add('redis subscriber', () => subscriber.disconnect());
  const queues = createQueues(redis, config.QUEUE_PREFIX, logWarning('queue.error'));
  closers.add('queues', () => Promise.all(Object.values(queues).map((queue) => queue.close())));
  const intake = new JobIntake(pool, queues, logWarning('enqueue.failed'), config.DECIDE_PACK_SIZE);
  const waiters = new JobWaiters(pool, subscriber, config.QUEUE_PREFIX);
  const auditTrail = new AuditTrail(pool, metrics.registry, logWarning('audit.failed'));
  closers.add('audit trail', () => auditTrail.close());
  const deps: Deps = { config, pool, redis, queues, intake, waiters, auditTrail, logger, metrics };
  const { app, routes, line } = buildApp(deps);
  const server = createMatchedServer(app, {
    headersTimeoutMs: config.HEADERS_TIMEOUT_MS,
    requestTimeoutMs: config.REQUEST_TIMEOUT_MS,
  });
  line.attachTo(server);
  countConnections(server, metrics.registry);
  return {
    server,
    deps,
    routes,
    closers,
  };
}

/** @throws Error when the API would listen beyond this machine while there is no API key. */
export async function requireKeyBeyondLoopback(api: Api): Promise<void> {
  const { HOST } = api.deps.config;
  if (loopback.has(HOST) || (await hasLiveKey(api.deps.pool))) return;
  throw new Error(
    `HOST is ${HOST} and there is no API key yet: make one first ` +
      '(npm run keys -- create --name admin --scopes admin,read,decide,execute), or set HOST=127.0.0.1.',
  );
}

/** Starts listening. @returns the port. @throws Error when the address is taken. */
export async function listen(api: Api): Promise<number> {
  const { server, deps, closers } = api;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: deps.config.PORT, host: deps.config.HOST, backlog: acceptBacklog }, resolve);
  });
  closers.add('http server', async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    await closed;
  });
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : deps.config.PORT;
}

function countConnections(server: Server, registry: Registry): void {
  const connections: Gauge = new Gauge({
    name: 'scaler_http_connections',
    help: 'Connections of clients that are open',
    registers: [registry],
    collect: async () => connections.set(await promisify(server.getConnections.bind(server))()),
  });
}
