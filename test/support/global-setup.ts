import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { startEmbeddedRedis } from '../../deploy/local/redis.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { projectRoot } from '../../shared/project-root.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    databaseUrl: string;
    templateName: string;
    redisUrl: string;
  }
}

/** Once per run: a real PostgreSQL with a migrated template database, and a real Redis; ours unless the environment names others. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = mkdtempSync(join(tmpdir(), 'scaler-test-'));
  const log = (line: string) => console.error(`test: ${line}`);
  const closers: (() => Promise<void>)[] = [];
  const [databaseUrl, redisUrl] = await Promise.all([
    process.env.TEST_DATABASE_URL ?? postgres(folder, log, closers),
    process.env.TEST_REDIS_URL ?? redis(folder, log, closers),
  ]);
  const templateName = `scaler_template_${process.pid}`;
  const admin = new pg.Client(databaseUrl);
  await admin.connect();
  await admin.query(`create database ${templateName}`);
  const templateUrl = new URL(databaseUrl);
  templateUrl.pathname = `/${templateName}`;
  await migrate(templateUrl.href);
  project.provide('databaseUrl', databaseUrl);
  project.provide('templateName', templateName);
  project.provide('redisUrl', redisUrl);
  return async () => {
    await admin.query(`drop database ${templateName} with (force)`).catch(() => {});
    await admin.end();
    for (const close of closers) await close();
    rmSync(folder, { recursive: true, force: true });
  };
}

async function postgres(
  folder: string,
  log: (line: string) => void,
  closers: (() => Promise<void>)[],
): Promise<string> {
  const server = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log });
  closers.push(() => server.stop());
  return server.url;
}

async function redis(
  folder: string,
  log: (line: string) => void,
  closers: (() => Promise<void>)[],
): Promise<string> {
  const server = await startEmbeddedRedis({
    dataDir: join(folder, 'redis'),
    cacheDir: process.env.SCALER_CACHE_DIR ?? join(projectRoot(), '.cache'),
    log,
  });
  closers.push(() => server.stop());
  return server.url;
}
