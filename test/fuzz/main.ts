import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { migrate } from '../../shared/db/migrate.ts';
import { openBackends } from '../../shared/embedded/backends.ts';
import { errorMessage } from '../../shared/errors.ts';
import { createClosers, onSignals } from '../../shared/lifecycle/closers.ts';
import { breaksOf, type FuzzReport, fuzz } from './run.ts';
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

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      requests: { type: 'string', default: '20000' },
      seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
      'schemathesis-seconds': { type: 'string', default: '120' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const requests = wholeNumber('requests', values.requests, 1);
  const seed = wholeNumber('seed', values.seed, 0);
  const schemathesisSeconds = wholeNumber('schemathesis-seconds', values['schemathesis-seconds'], 0);
  const say = (line: string) => console.error(`fuzz: ${line}`);
  const folder = mkdtempSync(join(tmpdir(), 'scaler-fuzz-'));
  const closers = createClosers();
  closers.add('folder', () => rmSync(folder, { recursive: true, force: true }));
  onSignals(() => closers.closeAll(20_000));
  try {
    const { databaseUrl, redisUrl } = await openBackends({
      environment: {},
      dataDir: folder,
      closers,
      log: say,
    });
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
  } finally {
    await closers.closeAll(20_000);
  }
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least)
    throw new Error(`--${name} must be a whole number of at least ${least}, not ${JSON.stringify(text)}`);
  return value;
}

function print(report: FuzzReport & { readonly breaks: readonly string[] }): void {
  for (const [name, value] of Object.entries(report))
    if (name !== 'examples')
      console.log(`${name.padEnd(28)} ${typeof value === 'object' ? JSON.stringify(value) : value}`);
  for (const example of report.examples) console.log(`  ${example}`);
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    console.error(`fuzz: ${errorMessage(error)}`);
    process.exit(1);
  },
);
