import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { loadEvidence } from './check-evidence.ts';
import { type ChainVerdict, checkEvidence, printCheck, withChain } from './check-report.ts';

const help = `Usage: node dist/test/chaos/check.js --dir DIR [--json] [--database-url URL]

  Judges what a chaos run left in DIR: the clients' log, the tables, the clouds' ledgers. It reads files only, and shares
  no code with the service. Ends with status 1 when an invariant was broken.

  --json               the report as JSON
  --database-url URL   also runs \`npm run audit:verify\` against this database; when that cannot be done, the chain
                       counts as broken
  --help               this text`;

const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    json: { type: 'boolean', default: false },
    'database-url': { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help || values.dir === undefined) {
  console.log(help);
  process.exit(values.help ? 0 : 2);
}
try {
  const url = values['database-url'];
  const evidence = checkEvidence(await loadEvidence(values.dir));
  const report = withChain(evidence, url === undefined ? 'not asked' : verifyChain(url));
  console.log(values.json ? JSON.stringify(report, null, 2) : printCheck(report));
  process.exit(report.ok ? 0 : 1);
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}

/** The service's own verifier of its hash chain (I17), as a program beside us. */
function verifyChain(databaseUrl: string): ChainVerdict {
  const { status, stdout, stderr, error } = spawnSync('npm', ['run', '--silent', 'audit:verify'], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
    encoding: 'utf8',
  });
  if (status === 0) return 'verified';
  console.error(error?.message ?? `${stdout}${stderr}`);
  // Of npm itself, too: then there are findings to read, or its own words about what is missing.
  return status === 1 && stdout.includes('finding(s)') ? 'broken' : 'could not be looked at';
}
