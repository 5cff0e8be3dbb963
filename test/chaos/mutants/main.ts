import type { Closers } from '../../../shared/lifecycle/closers.ts';
import { inTemporaryFolder, openOwnBackends, readCommandLine } from '../../support/command.ts';
import { type CodeGuard, codeGuards } from './code-guards.ts';
import { databaseGuards } from './database-guards.ts';
import { Scratch } from './run.ts';

const usage = `npm run chaos:mutants -- [--only TEXT] [--json]
  Takes out one guard after the other, in a copy of the sources, and runs the tests that are to notice.
  --only TEXT  only guards whose name contains TEXT
  --json       the report as JSON`;

const { values, say } = readCommandLine('mutants', usage, {
  only: { type: 'string', default: '' },
  json: { type: 'boolean', default: false },
});

interface Verdict {
  readonly guard: string;
  /** The test that failed without it; null when none did. */
  readonly killedBy: string | null;
  readonly why?: string;
}
process.exitCode = await inTemporaryFolder('mutants', main);

async function main(folder: string, closers: Closers): Promise<number> {
  const startedAt = performance.now();
  const { databaseUrl, redisUrl } = await openOwnBackends(folder, closers, say);
  const scratch = new Scratch({ TEST_DATABASE_URL: databaseUrl, TEST_REDIS_URL: redisUrl });
  closers.add('scratch', async () => scratch.close());
  const verdicts: Verdict[] = [];
  const tell = (verdict: Verdict) => {
    verdicts.push(verdict);
    if (!values.json)
      console.log(`${verdict.guard.padEnd(55)} ${verdict.killedBy ?? `SURVIVES ${verdict.why ?? ''}`}`);
  };
  const chosen = codeGuards.filter(({ id }) => id.includes(values.only));
  const unsound = await unsoundWithGuards(scratch, chosen);
  if (unsound !== null) {
    say(unsound);
    return 1;
  }
  for (const verdict of await withoutDatabaseGuards(scratch)) tell(verdict);
  for (const guard of chosen) {
    const restore = scratch.apply(guard);
    const run = await scratch.test(guard.killers);
    restore();
    tell({
      guard: guard.id,
      killedBy: run.failed[0]?.name ?? null,
      ...(run.failed.length > 0 ? {} : { why: run.broken ?? `${run.passed.length} tests passed` }),
    });
  }
  const survivors = verdicts.filter(({ killedBy }) => killedBy === null);
  const seconds = Math.round((performance.now() - startedAt) / 1_000);
  if (values.json)
    console.log(
      JSON.stringify(
        { guards: verdicts.length, killed: verdicts.length - survivors.length, seconds, verdicts },
        null,
        2,
      ),
    );
  else
    console.log(
      `${verdicts.length - survivors.length} of ${verdicts.length} guards are held by a test (${seconds} s)`,
    );
  return survivors.length === 0 ? 0 : 1;
}

/** Nothing is shown by a test that fails anyway, or is not there. @returns what is wrong, or null. */
async function unsoundWithGuards(scratch: Scratch, guards: readonly CodeGuard[]): Promise<string | null> {
  if (guards.length === 0) return null;
  const killers = guards.flatMap((guard) => guard.killers);
  const run = await scratch.test(killers.map(({ file, name }) => ({ file, name: name ?? '.' })));
  if (run.broken !== null || run.failed.length > 0)
    return `with all guards in place, tests fail: ${run.broken ?? run.failed.map(({ name }) => name).join('; ')}`;
  const missing = killers.filter(
    ({ name }) => name !== undefined && !run.passed.some((passed) => passed.includes(name)),
  );
  return missing.length === 0
    ? null
    : `no test is named: ${missing.map(({ file, name }) => `${name} (${file})`).join('; ')}`;
}

/** All at once: the test of each asks for the refusal of its own guard, so that no other can stand in for it. */
async function withoutDatabaseGuards(scratch: Scratch): Promise<Verdict[]> {
  const wanted = databaseGuards.filter(({ guard }) => guard.includes(values.only));
  if (wanted.length === 0) return [];
  const restore = scratch.dropDatabaseGuards();
  const run = await scratch.test([{ file: 'test/integration/last-guards.test.ts' }]);
  restore();
  return wanted.map(({ guard }) => {
    const killer = run.failed.find(({ name }) => name.replaceAll("'", '').endsWith(` ${guard}`));
    return {
      guard,
      killedBy: killer?.name ?? null,
      ...(killer === undefined ? { why: run.broken ?? 'its test passed' } : {}),
    };
  });
}
