import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';

import { type GuardedProcess, startGuarded } from '../../deploy/local/guarded-process.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { findRedis } from '../../deploy/local/redis-binary.ts';
import { steadyPort } from './steady-port.ts';

/** A database that may be ended in any way and comes back on the same port with the same data. */
export interface BreakableServer {
  readonly port: number;
  readonly url: string;
  pid(): number;
  /** Starts it again after it has ended; resolves when it takes commands. */
  start(): Promise<void>;
  /** Ends it in order. */
  stop(): Promise<void>;
}

/** After a kill the old server's children need a moment to let go of the port and of shared memory. */
const startAgainMs = 20_000;

/** A PostgreSQL that can be killed and started again on the same data. @param connections most at once. */
export async function startBreakablePostgres(folder: string, connections: number): Promise<BreakableServer> {
  const port = await steadyPort();
  const open = () =>
    startEmbeddedPostgres({
      dataDir: join(folder, 'postgres'),
      port,
      log: () => {},
      settings: { max_connections: String(connections), shared_buffers: '256MB', max_wal_size: '4GB' },
    });
  let server: EmbeddedPostgres = await open();
  return {
    port,
    url: server.url,
    pid: () => server.pid,
    async start() {
      server = await persistently(open);
    },
    stop: () => server.stop(),
  };
}

/** A Redis that can be killed and started again. @throws when no Redis server can be found or fetched. */
export async function startBreakableRedis(folder: string, cacheDir: string): Promise<BreakableServer> {
  const port = await steadyPort();
  const password = 'chaos';
  const dataDir = join(folder, 'redis');
  mkdirSync(dataDir, { recursive: true });
  const binary = await findRedis(cacheDir, () => {});
  const url = `redis://:${password}@127.0.0.1:${port}`;
  const settings = [
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    `dir "${dataDir}"`,
    'appendonly yes',
    'appendfsync everysec',
    'maxmemory-policy noeviction',
    'save ""',
  ].join('\n');
  const open = async (): Promise<GuardedProcess> => {
    const started = await startGuarded({
      command: binary.path,
      args: ['-'],
      environment: binary.environment,
      directory: dataDir,
      logFile: join(dataDir, 'redis.log'),
      input: `${settings}\n`,
      signals: ['SIGTERM', 'SIGKILL'],
    });
    await untilRedisAnswers(url, started);
    return started;
  };
  let server = await persistently(open);
  return {
    port,
    url,
    pid: () => server.pid,
    async start() {
      server = await persistently(open);
    },
    stop: () => server.stop(5_000),
  };
}

async function untilRedisAnswers(url: string, server: GuardedProcess): Promise<void> {
  const end = performance.now() + startAgainMs;
  for (;;) {
    if (server.ending() !== null) throw new Error(`Redis ended at once: ${server.logTail().slice(-300)}`);
    const client = new Redis(url, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.ping();
      return;
    } catch (error) {
      if (performance.now() > end) throw error;
      await delay(10);
    } finally {
      client.disconnect();
    }
  }
}

async function persistently<T>(work: () => Promise<T>): Promise<T> {
  const end = performance.now() + startAgainMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > end) throw error;
      await delay(100);
    }
  }
}
