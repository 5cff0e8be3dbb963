import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../../deploy/local/postgres.ts';
import { migrate } from '../../../shared/db/migrate.ts';
import { createPool } from '../../../shared/db/pool.ts';
import type { Closers } from '../../../shared/lifecycle/closers.ts';
import { inTemporaryFolder, readCommandLine } from '../../support/command.ts';
import { checkModel } from './run.ts';

const usage = `npm run chaos:model -- [--runs N] [--seed S] [--path P] [--commands N] [--json]
  Random histories (posts, deliveries, crashes, pauses, lost and late writes, other writers, time) against the real
  execution code on a real PostgreSQL; after each, the invariants. A failure is shrunk and named by seed, path and
  commands: add the commands to test/chaos/model/regressions.ts.`;

const { values, wholeNumber, say } = readCommandLine('model', usage, {
  runs: { type: 'string', default: '1000' },
  seed: { type: 'string' },
  path: { type: 'string' },
  commands: { type: 'string', default: '30' },
  json: { type: 'boolean', default: false },
});
const choice = {
  runs: wholeNumber('runs', 1),
  seed: values.seed === undefined ? undefined : wholeNumber('seed', -(2 ** 31), 2 ** 32 - 1),
  path: values.path,
  maxCommands: wholeNumber('commands', 1),
};
process.exitCode = await inTemporaryFolder('model', main);

async function main(folder: string, closers: Closers): Promise<number> {
  const postgres = await startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), log: say });
  closers.add('postgres', () => postgres.stop());
  await migrate(postgres.url);
  const pool = createPool(postgres.url, { name: 'model', size: 16 });
  closers.add('pool', () => pool.end());
  const startedAt = Date.now();
  let runs = 0;
  let commands = 0;
  const details = await checkModel(pool, {
    ...choice,
    onRun: (count) => {
      commands += count;
      if (++runs % 100 === 0)
        say(`${runs} runs, ${commands} commands, ${Math.round((Date.now() - startedAt) / 1_000)} s`);
    },
  });
  const report = {
    seed: details.seed,
    runs,
    commands,
    failed: details.failed,
    path: details.counterexamplePath,
    error: details.failed ? String(details.errorInstance) : null,
    counterexample: details.failed ? (details.counterexample as unknown[]).map(String) : null,
    seconds: Math.round((Date.now() - startedAt) / 1_000),
  };
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else if (report.failed)
    console.log(
      `FAILED with --seed ${report.seed} --path "${report.path}"\n${report.error}\n${report.counterexample?.join('\n')}`,
    );
  else
    console.log(
      `${runs} runs of ${commands} commands in ${report.seconds} s, seed ${report.seed}: every invariant held`,
    );
  return report.failed ? 1 : 0;
}
