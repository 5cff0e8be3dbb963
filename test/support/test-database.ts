import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { createPool } from '../../shared/db/pool.ts';

export interface TestDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

/** A fresh, migrated database for one test file, cloned from the run's template. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const url = new URL(inject('databaseUrl'));
  const name = `test_${randomUUID().replaceAll('-', '')}`;
  await administer(inject('databaseUrl'), `create database ${name} template ${inject('templateName')}`);
  url.pathname = `/${name}`;
  return {
    url: url.href,
    drop: () => administer(inject('databaseUrl'), `drop database ${name} with (force)`),
  };
}

async function administer(url: string, sql: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    // Two clones of one template at once get in each other's way.
    await client.query('select pg_advisory_lock(7150)');
    await client.query(sql);
  } finally {
    await client.end();
  }
}

export interface TestPool {
  readonly url: string;
  readonly pool: pg.Pool;
  close(): Promise<void>;
}

/** A database of its own, with a pool on it. @param size most connections of the pool. */
export async function openTestPool(size?: number): Promise<TestPool> {
  const { url, drop } = await createTestDatabase();
  const pool = createPool(url, { name: 'test', ...(size === undefined ? {} : { size }) });
  return {
    url,
    pool,
    async close() {
      await pool.end();
      await drop();
    },
  };
}

/** @returns the first column of the first row, undefined where there is none. */
export async function readValue<T = ReturnType<typeof JSON.parse>>(
  db: Pick<pg.Pool, 'query'>,
  sql: string,
  values: unknown[] = [],
): Promise<T> {
  const { rows, fields } = await db.query(sql, values);
  return rows[0]?.[fields[0]?.name ?? ''];
}

/** @returns the rows as they are. */
export async function readRows<T extends pg.QueryResultRow = ReturnType<typeof JSON.parse>>(
  db: Pick<pg.Pool, 'query'>,
  sql: string,
  values: unknown[] = [],
): Promise<T[]> {
  return (await db.query<T>(sql, values)).rows;
}
