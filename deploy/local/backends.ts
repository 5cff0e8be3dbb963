import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { startEmbeddedPostgres } from './postgres.ts';
import { startEmbeddedRedis } from './redis.ts';

export interface Backends {
  readonly databaseUrl: string;
  readonly redisUrl: string;
}

/**
 * Takes the databases that are named and starts the ones that are not, below `dataDir`. In production both must be
 * named: an embedded database there would be a surprise nobody backs up.
 * @throws Error saying which variable to set.
 */
export async function openBackends(options: {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly dataDir: string;
  readonly closers: Closers;
  readonly log: (line: string) => void;
}): Promise<Backends> {
  const { environment, dataDir, closers, log } = options;
  const named = {
    databaseUrl: environment.DATABASE_URL || undefined,
    redisUrl: environment.REDIS_URL || undefined,
  };
  if (environment.NODE_ENV === 'production') {
    const missing = [
      named.databaseUrl === undefined && 'DATABASE_URL',
      named.redisUrl === undefined && 'REDIS_URL',
    ].filter(Boolean);
    if (missing.length > 0)
      throw new Error(
        `NODE_ENV is production: set ${missing.join(' and ')}. The embedded databases are for trying things out.`,
      );
  }
  mkdirSync(dataDir, { recursive: true });
  const [databaseUrl, redisUrl] = await Promise.all([
    named.databaseUrl ?? startPostgres(join(dataDir, 'postgres'), closers, log),
    named.redisUrl ??
      startRedis(
        join(dataDir, 'redis'),
        environment.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache'),
        closers,
        log,
      ),
  ]);
  return { databaseUrl, redisUrl };
}

async function startPostgres(
  dataDir: string,
  closers: Closers,
  log: (line: string) => void,
): Promise<string> {
  const postgres = await startEmbeddedPostgres({ dataDir, log });
  closers.add('embedded PostgreSQL', () => postgres.stop());
  return postgres.url;
}

async function startRedis(
  dataDir: string,
  cacheDir: string,
  closers: Closers,
  log: (line: string) => void,
): Promise<string> {
  const redis = await startEmbeddedRedis({ dataDir, cacheDir, log });
  closers.add('embedded Redis', () => redis.stop());
  return redis.url;
}
