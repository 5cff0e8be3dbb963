import { migrate } from '../../shared/db/migrate.ts';
import { errorMessage } from '../../shared/errors.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { inTemporaryFolder, openOwnBackends, readCommandLine } from '../support/command.ts';
import { breaksOf, type FuzzReport } from './report.ts';
import { fuzz } from './run.ts';
import { runSchemathesis } from './schemathesis.ts';
import { startTarget } from './target.ts';

const help = `Usage: npm run fuzz -- [--json] [--requests N] [--seed S] [--schemathesis-seconds N]

  Attacks a real API process on an embedded PostgreSQL and Redis with requests made from its OpenAPI document and with
  what no client sends, and checks that none gets a 5xx, changes something though it is refused, takes over 2 s, or gets
  an answer that the document does not describe. Where schemathesis is on the PATH, it attacks as well.

  --requests N               how many (default 20000)
  --seed S                   the same seed sends the same requests (default: the time)
  --schemathesis-seconds N   at most so long (default 120; 0: not at all)
  --json                     the report as JSON on standard output
  --help                     this text

  Exit status 1 when something broke.`;

const { values, wholeNumber, say } = readCommandLine('fuzz', help, {
  json: { type: 'boolean' },
  requests: { type: 'string', default: '20000' },
  seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
  'schemathesis-seconds': { type: 'string', default: '120' },
});
const requests = wholeNumber('requests', 1);
const seed = wholeNumber('seed', 0);
const schemathesisSeconds = wholeNumber('schemathesis-seconds', 0);

async function main(folder: string, closers: Closers): Promise<number> {
  const { databaseUrl, redisUrl } = await openOwnBackends(folder, closers, say);
  await migrate(databaseUrl);
  const target = await startTarget({ databaseUrl, redisUrl, folder, closers });
  say(`seed ${seed}, ${requests} requests to the API at 127.0.0.1:${target.port}`);
  const report = await fuzz(target, { requests, seed, cutOffMs: 15_000, say });
  const schemathesis = await runSchemathesis(target, schemathesisSeconds, say);
  const breaks = [...breaksOf(report), ...schemathesis.breaks];
  const whole = { ...report, schemathesis: schemathesis.summary, breaks };
  if (values.json === true) console.log(JSON.stringify(whole, null, 2));
  else print(whole);
  return breaks.length === 0 ? 0 : 1;
}

function print(report: FuzzReport & { readonly breaks: readonly string[] }): void {
  for (const [name, value] of Object.entries(report))
    if (name !== 'examples')
      console.log(`${name.padEnd(28)} ${typeof value === 'object' ? JSON.stringify(value) : value}`);
  for (const example of report.examples) console.log(`  ${example}`);
}

inTemporaryFolder('fuzz', main).then(
  (status) => process.exit(status),
  (error: unknown) => {
    say(errorMessage(error));
    process.exit(1);
  },
);
