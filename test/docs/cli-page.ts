import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../shared/project-root.ts';
import { generatedNotice } from './markdown.ts';

/** What the programs without a `--help` do. */
const withoutHelp: Readonly<Record<string, string>> = {
  setup: 'Installs the packages of the lock file and builds; every other command does so first.',
  test: 'Runs all tests, on a PostgreSQL and a Redis that it starts (`TEST_DATABASE_URL`, `TEST_REDIS_URL` name others).',
  'test:real':
    'Tests on real servers: kube-apiserver, moto, PgBouncer, Redis Cluster, Sentinels. Those not there are named and skipped.',
  build: 'Compiles to `dist/`.',
  check: 'Types, format and lint (Biome), unused code (knip).',
  docs: 'Writes these reference pages anew.',
};

/** The commands of package.json, with what each program says to `--help`. It must have been built. */
export async function cliPage(): Promise<string> {
  const manifest = JSON.parse(readFileSync(join(projectRoot(), 'package.json'), 'utf8'));
  const scripts = Object.entries(manifest.scripts as Record<string, string>);
  const sections = await Promise.all(
    scripts.map(
      async ([name, script]) =>
        `## npm ${usual.has(name) ? '' : 'run '}${name}\n\n${await about(name, script)}`,
    ),
  );
  return `# Commands

${generatedNotice}

Options follow \`--\`, as in \`npm run replay -- --help\`. Every command but \`build\` installs and builds
what is missing first.

${sections.join('\n\n')}
`;
}

const usual = new Set(['start', 'test']);

async function about(name: string, script: string): Promise<string> {
  const known = withoutHelp[name];
  if (known !== undefined) return known;
  const program = /node (dist\/\S+\.js)/.exec(script)?.[1];
  if (program === undefined)
    throw new Error(`npm run ${name} starts no program with --help: describe it in test/docs/cli-page.ts`);
  return `\`\`\`text\n${await helpOf(program)}\n\`\`\``;
}

/** With an empty environment: a program that ignored `--help` could do nothing. */
function helpOf(program: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { cwd: projectRoot(), env: { PATH: process.env.PATH }, timeout: 30_000 };
    execFile(process.execPath, [join(projectRoot(), program), '--help'], options, (error, out) => {
      if (error === null) resolve(out.trimEnd());
      else reject(new Error(`${program} --help failed: build first (npm run build)`, { cause: error }));
    });
  });
}
