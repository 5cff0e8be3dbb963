import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { claimJobs, finishJobs } from '../../worker/queue/jobs-store.ts';
import {
  type DatabaseGuard,
  databaseGuards,
  type GuardedRows,
  unguarded,
} from '../chaos/mutants/database-guards.ts';
import { forFile } from '../support/for-file.ts';
import { seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';
import { openTestPool } from '../support/test-database.ts';

const { pool } = forFile(await openTestPool());
const resource = await seedResource(pool);
const decision = await seedDecision(pool, resource, 4, 6);
const other = await seedDecision(pool, resource, 4, 5);
const job = await seedExecuteJob(pool, resource, decision);
const finished = await seedExecuteJob(pool, resource, other);
const [claimed] = await claimJobs(pool, [finished], 30_000);
const end = { status: 'completed', outcome: 'succeeded', result: {}, error: null } as const;
await finishJobs(pool, [{ id: finished, fence: claimed?.fence ?? 0, ...end }]);
const rows: GuardedRows = { resource, decision, other, job, finished };

/** Runs the statements and takes them back. @returns the error, or how many rows the last one touched or found. */
async function attempt({ violate }: DatabaseGuard): Promise<pg.DatabaseError | number> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const statements = violate(rows);
    for (const statement of statements.slice(0, -1)) await client.query(statement);
    return (await client.query(statements.at(-1) as string)).rowCount ?? 0;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

describe('the database alone refuses what breaks', () => {
  it.each(databaseGuards.map((guard) => [guard.guard, guard] as const))('%s', async (_name, guard) => {
    const end = await attempt(guard);
    if (guard.refusal === 'no rows') expect(end).toBe(0);
    else if (guard.refusal === 'by name')
      expect(end).toMatchObject({ constraint: guard.guard.split(' ')[1] });
    else expect((end as pg.DatabaseError).message).toMatch(guard.refusal);
  });

  it('by nothing that the table of guards does not name', async () => {
    const { rows: found } = await pool.query<{ guard: string }>(
      `select case contype when 'c' then 'check ' else 'key ' end || conname as guard from pg_constraint
        where connamespace = 'public'::regnamespace and contype in ('c', 'u', 'x', 'f', 'p')
      union all select 'index ' || indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indrelid
        where indisunique and c.relnamespace = 'public'::regnamespace and not exists (select 1 from pg_constraint where conindid = indexrelid)
      union all select 'trigger ' || tgrelid::regclass || '.' || tgname from pg_trigger where not tgisinternal`,
    );
    const named = new Set(databaseGuards.map(({ guard }) => guard));
    const missing = found
      .map(({ guard }) => guard)
      .filter((guard) => !named.has(guard) && !unguarded.some(({ pattern }) => pattern.test(guard)));
    expect(missing).toEqual([]);
  });
});
