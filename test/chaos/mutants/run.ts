import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../../shared/project-root.ts';
import type { CodeGuard, Killer } from './code-guards.ts';
import { databaseGuards } from './database-guards.ts';

/** What the tests need of the project. */
const parts = [
  ...['api', 'deploy', 'shared', 'test', 'worker', 'docs'],
  ...['package.json', 'tsconfig.json', 'tsconfig.base.json', 'vitest.config.ts', 'README.md'],
];

/** One run of some tests. */
export interface TestRun {
  readonly passed: readonly string[];
  readonly failed: readonly { readonly name: string; readonly why: string }[];
  /** Set when the tests could not even begin. */
  readonly broken: string | null;
}

/** A copy of the project in which guards are taken out, one after the other. */
export class Scratch {
  readonly folder: string;
  readonly #environment: Readonly<Record<string, string>>;
  #running: ChildProcess | null = null;

  constructor(environment: Readonly<Record<string, string>>) {
    const root = projectRoot();
    mkdirSync(join(root, '.data'), { recursive: true });
    this.folder = mkdtempSync(join(root, '.data', 'mutants-'));
    this.#environment = environment;
    for (const part of parts) cpSync(join(root, part), join(this.folder, part), { recursive: true });
    for (const shared of ['node_modules', 'dist', '.cache'])
      symlinkSync(join(root, shared), join(this.folder, shared));
  }

  /** @returns what puts the files back. @throws Error when a text is not there exactly once. */
  apply(guard: CodeGuard): () => void {
    const path = join(this.folder, guard.file);
    const original = readFileSync(path, 'utf8');
    writeFileSync(path, mutated(original, guard));
    return () => writeFileSync(path, original);
  }

  /** Drops every guard of the database in one more migration: each test asks for its own guard's name. */
  dropDatabaseGuards(): () => void {
    const path = join(this.folder, 'shared/db/migrations/9999_mutant.sql');
    writeFileSync(path, `-- Up Migration\n${databaseGuards.map(({ drop }) => `${drop};`).join('\n')}\n`);
    return () => rmSync(path);
  }

  async test(killers: readonly Killer[]): Promise<TestRun> {
    // Where vitest.config.ts has it written.
    const report = join(this.folder, '.data/test-report.json');
    rmSync(report, { force: true });
    const names = killers.flatMap(({ name }) =>
      name === undefined ? [] : [name === '.' ? name : escaped(name)],
    );
    const args = [
      'run',
      ...new Set(killers.map(({ file }) => file)),
      ...(names.length > 0 ? ['-t', names.join('|')] : []),
    ];
    const output = await this.#vitest(args);
    return readReport(report, output);
  }

  close(): void {
    this.#running?.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #vitest(args: readonly string[]): Promise<string> {
    const program = join(this.folder, 'node_modules/vitest/vitest.mjs');
    const child = spawn(process.execPath, [program, ...args], {
      cwd: this.folder,
      env: { ...process.env, ...this.#environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running = child;
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    const timer = setTimeout(() => child.kill('SIGKILL'), 240_000);
    await new Promise((resolve) => child.once('close', resolve));
    clearTimeout(timer);
    this.#running = null;
    return output;
  }
}

/** The source without the guard. @throws when one of its texts does not stand in it exactly once. */
export function mutated(source: string, { id, file, edits }: CodeGuard): string {
  let result = source;
  for (const [find, replace] of edits) {
    const count = result.split(find).length - 1;
    if (count !== 1)
      throw new Error(
        `${id}: its text is ${count} times in ${file}, not once: bring test/chaos/mutants/code-guards.ts up to date\n${find}`,
      );
    result = result.replace(find, () => replace);
  }
  return result;
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly title: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

function readReport(path: string, output: string): TestRun {
  let report: VitestReport;
  try {
    report = JSON.parse(readFileSync(path, 'utf8')) as VitestReport;
  } catch {
    return { passed: [], failed: [], broken: `no report: ${output.slice(-500)}` };
  }
  const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = tests
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => ({
      name: fullName,
      why: (failureMessages[0] ?? '').slice(0, 300),
    }));
  const passed = tests.filter(({ status }) => status === 'passed').map(({ fullName }) => fullName);
  const unstarted = report.testResults.find(({ status }) => status === 'failed' && failed.length === 0);
  return { passed, failed, broken: unstarted === undefined ? null : unstarted.message.slice(0, 500) };
}
