import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createPool, isDatabaseAway, withTransaction } from '../../shared/db/pool.ts';
import { createConsumerConnection, createProducerConnection } from '../../shared/queues/connections.ts';
import { startFaultProxy } from '../chaos/fault-proxy.ts';
import { createTestDatabase, type TestDatabase } from '../support/test-database.ts';
import { createTestRedis } from '../support/test-redis.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(async () => {
  await database.drop();
});

test('a session that ends before its borrower has listened to it does not end the process', async () => {
  const pool = createPool(database.url, { size: 2, name: 'lines-test' });
  try {
    const client = await pool.connect();
    const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
    const ended = new Promise((resolve) => client.once('end', resolve));
    await pool.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
    await ended;
    client.release();
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  } finally {
    await pool.end();
  }
});

test('who asks while the process is on its way out is told to ask elsewhere', async () => {
  const pool = createPool(database.url, { size: 2, name: 'lines-test' });
  await pool.end();
  const failures = [pool.query('select 1'), withTransaction(pool, async () => {})].map((work) =>
    work.catch((error: unknown) => error),
  );
  expect((await Promise.all(failures)).map(isDatabaseAway)).toEqual([true, true]);
});

test('a line to PostgreSQL that has lost its other end is given up, and the pool serves on', async () => {
  const proxy = await startFaultProxy(Number(new URL(database.url).port));
  const url = new URL(database.url);
  url.port = String(proxy.port);
  const pool = createPool(url.href, { size: 2, name: 'lines-test', answerMs: 300 });
  const ask = () => pool.query('select 1 as one');
  const inTransaction = () => withTransaction(pool, (tx) => tx.query('select 1 as one'));
  try {
    await Promise.all([inTransaction(), inTransaction()]);
    proxy.set({ kind: 'half-open' });
    proxy.heal();
    // Both lines are dead, and nobody was told. Whoever uses one hears of it within the limit.
    const failures = await Promise.all(
      [ask(), inTransaction()].map((work) => work.catch((error: unknown) => error)),
    );
    expect(failures.map(isDatabaseAway)).toEqual([true, true]);
    expect((await ask()).rows).toEqual([{ one: 1 }]);
    expect((await inTransaction()).rows).toEqual([{ one: 1 }]);
  } finally {
    await pool.end();
    await proxy.close();
  }
});

describe('a line to Redis that has lost its other end is given up', () => {
  async function breakable(connect: typeof createConsumerConnection) {
    const url = new URL(createTestRedis().url);
    const proxy = await startFaultProxy(Number(url.port));
    url.port = String(proxy.port);
    const faults: string[] = [];
    const redis = connect(url.href, ({ message }) => faults.push(message), 400);
    await new Promise((resolve) => redis.once('ready', resolve));
    return { proxy, redis, faults };
  }

  test('by a consumer, whose command is answered on another', async () => {
    const { proxy, redis, faults } = await breakable(createConsumerConnection);
    try {
      proxy.set({ kind: 'half-open' });
      proxy.heal();
      expect(await redis.ping()).toBe('PONG');
      expect(faults).toEqual([expect.stringContaining('has not answered')]);
    } finally {
      redis.disconnect();
      await proxy.close();
    }
  });

  test('by a producer, whose next commands succeed', async () => {
    const { proxy, redis } = await breakable(createProducerConnection);
    try {
      proxy.set({ kind: 'half-open' });
      proxy.heal();
      await vi.waitFor(async () => expect(await redis.ping()).toBe('PONG'), { timeout: 8_000 });
    } finally {
      redis.disconnect();
      await proxy.close();
    }
  });

  test('but not one that is only idle', async () => {
    const { proxy, redis, faults } = await breakable(createConsumerConnection);
    const ended = vi.fn();
    redis.on('close', ended);
    try {
      // Several times the silence after which a dead line is given up.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      expect(ended).not.toHaveBeenCalled();
      expect(faults).toEqual([]);
    } finally {
      redis.disconnect();
      await proxy.close();
    }
  });
});
