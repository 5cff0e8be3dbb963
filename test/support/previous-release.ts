import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../shared/project-root.ts';

const run = promisify(execFile);

/** The release before worker versions and the chain of history: what runs beside a new schema during an upgrade. */
const commit = '19fe183';
const parts = ['worker', 'api'];

/**
 * Builds the previous release's worker and API from this repository's history, once, below .data.
 * @returns its folder, or why there is none.
 */
export async function buildPreviousRelease(): Promise<{ folder: string } | { missing: string }> {
  const root = projectRoot();
  try {
    await run('git', ['cat-file', '-e', `${commit}^{commit}`], { cwd: root });
  } catch {
    return {
      missing: `commit ${commit} is not in this clone (shallow, or without git): fetch the whole history to test with the previous release`,
    };
  }
  const folder = join(root, '.data', `release-${commit}`);
  const built = join(folder, 'built');
  if (existsSync(built) && parts.every((part) => existsSync(join(folder, 'dist', part)))) return { folder };
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const archive = join(folder, 'sources.tar');
  await run('git', ['archive', '--format=tar', `--output=${archive}`, commit], { cwd: root });
  await run('tar', ['-xf', archive, '-C', folder]);
  rmSync(archive);
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'), 'junction');
  const compiler = join(root, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [compiler, '-b', ...parts], { cwd: folder });
  writeFileSync(built, '');
  return { folder };
}
