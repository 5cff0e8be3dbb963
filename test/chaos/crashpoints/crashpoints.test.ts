import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { projectRoot } from '../../../shared/project-root.ts';
import { createTestDatabase, type TestDatabase } from '../../support/test-database.ts';
import { createTestRedis } from '../../support/test-redis.ts';
import { ChildPool, type Crash, discover, planCrashes, runCrash } from './enumerate.ts';
import { buildInstrumented, type InstrumentedBuild, instrument } from './instrument.ts';
import { type Rig, startRig } from './rig.ts';
import { scenarios } from './scenarios.ts';

describe('failpoints', () => {
  it('are nowhere in what is shipped', () => {
    for (const part of ['api', 'worker', 'shared', 'dist/api', 'dist/worker', 'dist/shared']) {
      const folder = join(projectRoot(), part);
      for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
        if (!/\.[cm]?[jt]s$/.test(file)) continue;
        expect(readFileSync(join(folder, file), 'utf8'), file).not.toMatch(/failpoint/i);
      }
    }
  });

  it('are put around every await, under a name that says where', () => {
    const { code, points } = instrument(
      `class A { async #b(c) { return await this.#d(await c.e.f(1), async () => await (await g())); } }
async function h() { await new Promise(go); for (const x of y) await x; }`,
      'worker/some-file.js',
    );
    expect(points).toEqual([
      'worker/some-file:A.b:this.d#1',
      'worker/some-file:A.b:e.f#1',
      'worker/some-file:A.b:awaitg#1',
      'worker/some-file:A.b:g#1',
      'worker/some-file:h:Promise#1',
      'worker/some-file:h:x#1',
    ]);
    expect(code).toContain(
      'async #b(c) { return (__failpoints.before("worker/some-file:A.b:this.d#1"), await __fail',
    );
    expect(code.replaceAll(/__failpoints\.(before|settle)\("[^"]*",? ?/g, '$1(')).toContain(
      'async () => (before(), await (settle((before(), await settle(g())))))',
    );
  });

  it('refuse what they cannot wrap', () => {
    expect(() => instrument('async function f() { for await (const x of y) z(x); }', 'a.js')).toThrow(
      /for await/,
    );
  });
});

/** Enough of it to notice at once; `npm run chaos:crashpoints` goes through all of it. */
describe('a worker killed at an await', () => {
  const chosen = scenarios.filter(({ name }) =>
    ['success', 'deployment', 'unknown-applied', 'relay'].includes(name),
  );
  /** Where state changes hands: claim, intent, request, outcome, release. */
  const hot =
    /(claimJobs:db\.query|commitIntent:appendEvent|Run\.send:provider\.setCapacity|settleAttempt:tx\.query|postponeJob:db\.query|Run\.look:provider\.describe|takeLostJobs:db\.query|releaseAbandonedJobs:db\.query)#/;
  let database: TestDatabase;
  let rig: Rig;
  let build: InstrumentedBuild;
  let pool: ChildPool;
  let crashes: Crash[];

  beforeAll(async () => {
    database = await createTestDatabase();
    const redis = createTestRedis();
    rig = await startRig(database.url, redis.url, redis.prefix);
    build = buildInstrumented();
    pool = new ChildPool(build, rig);
    const { coverage, faults } = await discover(rig, pool, chosen);
    expect(faults).toEqual([]);
    const all = planCrashes(coverage, { everyScenario: false }).crashes.filter(({ name }) => hot.test(name));
    // Every hot point once, with another phase each; the first and the second time by turns.
    const names = [...new Set(all.map(({ name }) => name))].filter((name) => name.endsWith('#1'));
    crashes = names.map((name, index) => {
      const of = all.filter((crash) => crash.name === name);
      return of[index % of.length] as Crash;
    });
  }, 60_000);
  afterAll(async () => {
    await pool?.close();
    build?.remove();
    await rig?.close();
    await database?.drop();
  });

  it('leaves one effect, one truth and nothing undone', async () => {
    // One for each part of `hot`.
    expect(crashes.length).toBeGreaterThanOrEqual(8);
    for (const [index, crash] of crashes.entries()) {
      const result = await runCrash(rig, pool, crash, crashes[index + 1]?.scenario);
      const where = `${crash.name} ${crash.phase} ${crash.nth} in ${crash.scenario.name}`;
      expect({ where, crashed: result.crashed, faults: result.faults }).toEqual({
        where,
        crashed: true,
        faults: [],
      });
    }
  }, 60_000);
});
