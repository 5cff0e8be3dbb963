import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPool } from '../../../shared/db/pool.ts';
import { createTestDatabase, type TestDatabase } from '../../support/test-database.ts';
import { regressions } from './regressions.ts';
import { checkModel } from './run.ts';

let database: TestDatabase;
let pool: pg.Pool;
beforeAll(async () => {
  database = await createTestDatabase();
  pool = createPool(database.url, { name: 'model', size: 16 });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});

/** `npm run chaos:model` plays as many as wanted, each time others. */
describe('executions against the model', () => {
  for (const { note, ...options } of regressions) {
    it(note, async () => {
      const details = await checkModel(pool, options);
      expect(details.failed ? String(details.errorInstance) : null).toBeNull();
    });
  }

  it('keep every invariant, however they are interleaved', async () => {
    const details = await checkModel(pool, { runs: Number(process.env.MODEL_RUNS ?? 40), seed: 20 });
    const why = details.failed
      ? `npm run chaos:model -- --seed ${details.seed} --path "${details.counterexamplePath}"\n${details.errorInstance}`
      : null;
    expect(why).toBeNull();
  }, 120_000);
});
