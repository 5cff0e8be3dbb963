import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';

let clone = '';

function write(path: string, text: string): void {
  mkdirSync(dirname(join(clone, path)), { recursive: true });
  writeFileSync(join(clone, path), text);
}

/** Runs the bootstrap in a clone where npm and tsc say that they were called, and npm ends with this status. */
function install(npmStatus: number) {
  write('npm.cjs', `console.error('npm', ...process.argv.slice(2)); process.exitCode = ${npmStatus};`);
  const environment = { ...process.env, npm_execpath: join(clone, 'npm.cjs') };
  const run = spawnSync(process.execPath, [join(clone, 'deploy/local/install.mjs')], { env: environment });
  return { status: run.status, said: String(run.stderr), isLocked: existsSync(join(clone, '.install-lock')) };
}

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'scaler-install-'));
  mkdirSync(join(clone, 'deploy/local'), { recursive: true });
  copyFileSync(join(projectRoot(), 'deploy/local/install.mjs'), join(clone, 'deploy/local/install.mjs'));
  write('package-lock.json', '{}');
  write('node_modules/.package-lock.json', '{}');
  write('node_modules/typescript/bin/tsc', "console.error('tsc', ...process.argv.slice(2));");
});
afterEach(() => rmSync(clone, { recursive: true, force: true }));

describe('the bootstrap', () => {
  const makeStale = () => utimesSync(join(clone, 'node_modules/.package-lock.json'), 0, 0);

  it('builds without asking npm while the packages are newer than the lock file', () => {
    expect(install(1)).toEqual({ status: 0, said: 'tsc -b\n', isLocked: false });
  });

  it('installs just what the lock file lists once that is newer', () => {
    makeStale();
    const { status, said } = install(0);
    expect(status).toBe(0);
    expect(said).toMatch(/^install: fetching .*\nnpm ci --no-audit --no-fund\ntsc -b\n$/);
  });

  it('builds nothing when npm fails, and says what to do next', () => {
    makeStale();
    const { status, said, isLocked } = install(1);
    expect({ status, isLocked }).toEqual({ status: 1, isLocked: false });
    expect(said).not.toContain('tsc');
    expect(said).toContain('run `npm install --package-lock-only`');
    expect(said).toContain('check the network or the proxy');
  });
});
