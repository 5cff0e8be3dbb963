import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';

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
