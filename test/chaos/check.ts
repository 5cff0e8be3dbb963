import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadEvidence } from './check-evidence.ts';
import { checkEvidence, printCheck } from './check-report.ts';

const help = `Usage: node dist/test/chaos/check.js --dir DIR [--json] [--database-url URL]

  Judges what a chaos run left in DIR: the clients' log, the tables, the clouds' ledgers. It reads files only, and shares
  no code with the service. Ends with status 1 when an invariant was broken.

  --json               the report as JSON
  --database-url URL   also runs \`npm run audit:verify\` against this database, where that script exists
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
  const report = checkEvidence(await loadEvidence(values.dir));
  const audit_chain =
    values['database-url'] === undefined ? 'not asked' : verifyChain(values['database-url']);
  const ok = report.ok && audit_chain !== 'broken';
  console.log(
    values.json
      ? JSON.stringify({ ...report, ok, audit_chain }, null, 2)
      : `${printCheck(report)}\n  audit chain: ${audit_chain}`,
  );
  process.exit(ok ? 0 : 1);
} catch (error) {
  console.error((error as Error).message);
  process.exit(2);
}

/** The service's own verifier of its hash chain (I17), as a program beside us. */
function verifyChain(databaseUrl: string): string {
  const { scripts } = existsSync('package.json')
    ? (JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> })
    : { scripts: {} as Record<string, string> };
  if (scripts['audit:verify'] === undefined) return 'there is no audit:verify yet';
  const { status, stdout, stderr } = spawnSync('npm', ['run', '--silent', 'audit:verify'], {
    env: { ...process.env, DATABASE_URL: databaseUrl },
    encoding: 'utf8',
  });
  if (status === 0) return 'verified';
  console.error(`${stdout}${stderr}`);
  return status === 1 ? 'broken' : 'could not be looked at';
}
