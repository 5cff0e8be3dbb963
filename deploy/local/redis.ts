import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Redis } from 'ioredis';
import { errorMessage } from '../../shared/errors.ts';
import { failIfLocked } from './folder-lock.ts';
import { freePort } from './free-port.ts';
import { type GuardedProcess, startGuarded } from './guarded-process.ts';
import { findRedis } from './redis-binary.ts';

export interface EmbeddedRedis {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** What runs, for the log. */
  readonly binary: string;
  stop(): Promise<void>;
}

export interface EmbeddedRedisOptions {
  readonly dataDir: string;
  /** What has to be fetched goes to its folder `redis`. */
  readonly cacheDir: string;
  /** Default: a free one. */
  readonly port?: number;
  readonly log: (line: string) => void;
}

/** A large append-only file takes its time to load. */
const startLimitMs = 60_000;
const stopPatienceMs = 10_000;

/**
 * Starts a Redis (or Valkey) of our own on loopback, with a password of its own; never adopts one that runs already.
 * What `dataDir` holds from an earlier start is kept. It ends with `stop()`, and when this process ends in whatever
 * way.
 * @throws Error in one sentence when the folder is in use, or naming every way to get a Redis when there is none.
 */
export async function startEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const binary = await findRedis(resolve(options.cacheDir), options.log);
  try {
    const dataDir = resolve(options.dataDir);
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    await failIfLocked(join(dataDir, 'redis.pid'), '-server', dataDir);
    const password = randomBytes(24).toString('hex');
    for (let attempt = 1; ; attempt++) {
      const port = options.port ?? (await freePort());
      const server = await startGuarded({
        command: binary.path,
        args: ['-'],
        environment: binary.environment,
        directory: dataDir,
        logFile: join(dataDir, 'redis.log'),
        input: settings(port, dataDir, password),
        // With the append-only file a quick end loses at most the last second, as a power cut would.
        signals: ['SIGTERM', 'SIGKILL'],
      });
      const url = `redis://:${password}@127.0.0.1:${port}`;
      try {
        await untilReady(server, url);
        return { url, port, pid: server.pid, binary: binary.path, stop: () => server.stop(stopPatienceMs) };
      } catch (error) {
        await server.stop(stopPatienceMs);
        // The port was free a moment ago.
        const portTaken = /Address already in use/.test(errorMessage(error));
        if (!portTaken || options.port !== undefined || attempt >= 3) throw error;
      }
    }
  } catch (error) {
    throw new Error(
      `The embedded Redis (${binary.path}) did not start: ${errorMessage(error)}. Or set REDIS_URL to a Redis of your own.`,
      { cause: error },
    );
  }
}

function settings(port: number, dataDir: string, password: string): string {
  const quoted = (path: string) => `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
  return `${[
    'bind 127.0.0.1',
    `port ${port}`,
    `requirepass ${password}`,
    `dir ${quoted(dataDir)}`,
    `pidfile ${quoted(join(dataDir, 'redis.pid'))}`,
    'appendonly yes',
    'appendfsync everysec',
    // Locks are keys: an evicting Redis loses them.
    'maxmemory-policy noeviction',
    'save ""',
  ].join('\n')}\n`;
}

/** Ready means: takes our password, so that it is ours, and has loaded its data. */
async function untilReady(server: GuardedProcess, url: string): Promise<void> {
  const end = performance.now() + startLimitMs;
  for (;;) {
    const ending = server.ending();
    if (ending !== null)
      throw new Error(`it ended at once (${ending}): ${server.logTail().split('\n').slice(-2).join(' ')}`);
    const client = new Redis(url, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0 });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.ping();
      return;
    } catch (error) {
      if (performance.now() > end)
        throw new Error(`it was not ready within ${startLimitMs / 1_000} s: ${errorMessage(error)}`);
      await new Promise((next) => setTimeout(next, 10));
    } finally {
      client.disconnect();
    }
  }
}
