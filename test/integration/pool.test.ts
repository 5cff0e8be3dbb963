import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createPool, isDatabaseAway, withTransaction } from '../../shared/db/pool.ts';
import { forFile } from '../support/for-file.ts';
import { openTestPool } from '../support/test-database.ts';

const { pool, url } = forFile(await openTestPool(1));

describe('a transaction whose connection is ended by the server', () => {
  it('fails with an error its caller can act on, and takes nothing else down', async () => {
    const surprises: unknown[] = [];
    const onSurprise = (error: unknown) => surprises.push(error);
    process.on('uncaughtException', onSurprise);
    const admin = createPool(url, { name: 'pool-test-admin', size: 1 });
    const work = withTransaction(pool, async (tx) => {
      const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid');
      await admin.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
      // Nothing is under way when the end of the connection is seen.
      await expect
        .poll(() => (tx as unknown as { _queryable: boolean })._queryable, { timeout: 5_000 })
        .toBe(false);
      await tx.query('select 1');
    });
    const failure = await work.then(
      () => null,
      (error: unknown) => error,
    );
    process.off('uncaughtException', onSurprise);
    await admin.end();
    expect(surprises).toEqual([]);
    expect(isDatabaseAway(failure)).toBe(true);
    expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });
});

describe('a server that may no longer write, as after a failover', () => {
  it('is away, and so is every session with it: the next ones write again', async () => {
    const name = new URL(url).pathname.slice(1);
    const admin = createPool(url, { name: 'pool-test-admin', size: 1 });
    await admin.query('create table notes (text text)');
    const setReadOnly = (on: 'on' | 'off') =>
      admin.query(`alter database "${name}" set default_transaction_read_only = ${on}`);
    const note = (on: pg.Pool) =>
      withTransaction(on, (tx) => tx.query(`insert into notes values ('noted')`)).then(
        () => 'noted',
        (error: unknown) => isDatabaseAway(error),
      );
    await setReadOnly('on');
    const demoted = createPool(url, { name: 'pool-test', size: 1 });
    await demoted.query('select 1');
    await setReadOnly('off');
    expect(await note(demoted)).toBe(true);
    expect(await note(demoted)).toBe('noted');
    await Promise.all([admin.end(), demoted.end()]);
  });
});
