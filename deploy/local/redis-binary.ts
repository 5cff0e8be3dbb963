import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { errorMessage } from '../../shared/errors.ts';

export interface RedisBinary {
  readonly path: string;
  /** What to start it with: where its shared libraries are, when they are not the system's. */
  readonly environment: Readonly<Record<string, string>>;
}

type Log = (line: string) => void;

const programs = ['redis-server', 'valkey-server'] as const;
/** What BullMQ advises; below it some of its scripts are slower or missing. */
const oldest = [6, 2] as const;

/**
 * The Redis or Valkey to start: one on the PATH, else one fetched earlier into `cacheDir`, else one fetched now.
 * @throws Error that names every way, and why each did not work.
 */
export async function findRedis(cacheDir: string, log: Log): Promise<RedisBinary> {
  const reasons: string[] = [];
  for (const path of programs) {
    const binary = { path, environment: baseEnvironment() };
    const fault = await faultOf(binary);
    if (fault === null) return binary;
    reasons.push(`${path} on the PATH: ${fault}`);
  }
  const tree = join(cacheDir, 'redis');
  const cached = inTree(tree);
  if (cached !== null && (await faultOf(cached)) === null) return cached;
  const ways: readonly [string, (tree: string, log: Log) => Promise<RedisBinary>][] = [
    ['npm', fetchWithNpm],
    ['apt-get', fetchWithApt],
    ['brew', fetchWithBrew],
  ];
  for (const [name, fetch] of ways) {
    try {
      const binary = await fetch(tree, log);
      const fault = await faultOf(binary);
      if (fault === null) return binary;
      throw new Error(fault);
    } catch (error) {
      reasons.push(`${name}: ${errorMessage(error)}`);
    }
  }
  throw new Error(
    `No Redis ${oldest.join('.')} or newer was found or fetched (${reasons.join('; ')}). Install Redis or Valkey (for instance \`apt-get install redis-server\`, \`dnf install valkey\` or \`brew install redis\`), or set REDIS_URL to one that runs.`,
  );
}

const baseEnvironment = (): Record<string, string> => ({
  PATH: process.env.PATH ?? '/usr/bin:/bin',
  LC_ALL: 'C',
});

/** Null when the program runs here and is new enough; finds a missing library and a wrong machine alike. */
async function faultOf(binary: RedisBinary): Promise<string | null> {
  try {
    const version = await run(binary.path, ['--version'], { environment: binary.environment });
    const [, major, minor] = /v=(\d+)\.(\d+)/.exec(version) ?? [];
    if (major === undefined) return `does not say its version: ${version.trim()}`;
    const old = Number(major) < oldest[0] || (Number(major) === oldest[0] && Number(minor) < oldest[1]);
    return old ? `is ${major}.${minor}, older than ${oldest.join('.')}` : null;
  } catch (error) {
    return errorMessage(error);
  }
}

function inTree(tree: string): RedisBinary | null {
  const path = programs.map((name) => join(tree, 'usr', 'bin', name)).find((file) => existsSync(file));
  if (path === undefined) return null;
  const libraries = ['lib', 'usr/lib'].flatMap((folder) => {
    const base = join(tree, folder);
    if (!existsSync(base)) return [];
    const below = readdirSync(base, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    return [base, ...below.map((entry) => join(base, entry.name))];
  });
  return { path, environment: { ...baseEnvironment(), LD_LIBRARY_PATH: libraries.join(':') } };
}

/** The only npm package found that brings a Redis, for x64 Linux with a recent C library; pinned by its checksum. */
const npmPackage = {
  name: '@falkordblite/linux-x64@8.2.3-falkordb.4.16.3',
  sha512: '0X4Olb3lBnMkxvGsRiTTT4q/SNTkDPaNPBGWNm8qSBoWkbY6VxgCs9jHRkkZWB11hIzjLRJbcoVSjjGuroXp6w==',
  glibc: [2, 38],
} as const;

async function fetchWithNpm(tree: string, log: Log): Promise<RedisBinary> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`has no Redis for ${process.platform}-${process.arch}`);
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const found = (header.glibcVersionRuntime ?? '0.0').split('.').map(Number);
  const [major, minor] = npmPackage.glibc;
  if ((found[0] ?? 0) < major || (found[0] === major && (found[1] ?? 0) < minor))
    throw new Error(
      `its Redis needs glibc ${major}.${minor}, here is ${header.glibcVersionRuntime ?? 'none'}`,
    );
  return await inWorkFolder(tree, async (work) => {
    log('Fetching Redis through npm into the cache folder (once, 22 MB) …');
    const npm = process.env.npm_execpath;
    const [command, ...first] = npm?.endsWith('npm-cli.js') ? [process.execPath, npm] : ['npm'];
    await run(
      command as string,
      [...first, 'pack', '--silent', '--pack-destination', work, npmPackage.name],
      {
        directory: work,
        environment: { ...(process.env as Record<string, string>) },
      },
    );
    const archive = readdirSync(work).find((name) => name.endsWith('.tgz'));
    if (archive === undefined) throw new Error('npm pack wrote no archive');
    const sum = createHash('sha512')
      .update(readFileSync(join(work, archive)))
      .digest('base64');
    if (sum !== npmPackage.sha512) throw new Error(`${npmPackage.name} does not have the expected checksum`);
    await run('tar', ['-xzf', archive, 'package/bin/redis-server'], { directory: work });
    const unpacked = join(work, 'tree', 'usr', 'bin');
    mkdirSync(unpacked, { recursive: true });
    cpSync(join(work, 'package', 'bin', 'redis-server'), join(unpacked, 'redis-server'));
    return join(work, 'tree');
  });
}

/** Debian and Ubuntu: downloads and unpacks. Needs no root, takes no lock of the system's and starts no service. */
async function fetchWithApt(tree: string, log: Log): Promise<RedisBinary> {
  await run('apt-get', ['--version'], {});
  return await inWorkFolder(tree, async (work) => {
    for (const folder of ['lists/partial', 'cache/archives/partial', 'tree'])
      mkdirSync(join(work, folder), { recursive: true });
    const quiet = ['-q', '-y', '-o', 'Debug::NoLocking=true', '-o', 'APT::Sandbox::User=root'];
    const systemLists = [...quiet, '-o', `Dir::Cache=${join(work, 'cache')}`];
    const ownLists = [...systemLists, '-o', `Dir::State::lists=${join(work, 'lists')}`];
    log('Fetching Redis through apt-get into the cache folder (once, some seconds) …');
    const archives = await download(work, systemLists).catch(async () => {
      log(
        'The package lists of this machine are missing or old: fetching them for this once (some seconds more) …',
      );
      await run('apt-get', [...ownLists, 'update'], {});
      return await download(work, ownLists);
    });
    for (const archive of archives) await run('dpkg', ['-x', archive, join(work, 'tree')], {});
    return join(work, 'tree');
  });
}

/**
 * The server with those of its libraries that this machine lacks, as apt works them out; or, where apt finds the
 * machine's own packages in disorder, with the libraries that Debian's server is known to need.
 */
async function download(work: string, options: readonly string[]): Promise<string[]> {
  const archives = join(work, 'cache', 'archives');
  const install = [...options, '--no-install-recommends', '--download-only', '--reinstall', 'install'];
  const known = ['liblzf1', 'libjemalloc2', 'libatomic1'];
  const tries: readonly (readonly string[])[] = [
    [...install, 'redis-server', 'redis-tools'],
    [...install, 'valkey-server', 'valkey-tools'],
    [...options, 'download', 'redis-server', 'redis-tools', ...known],
  ];
  let fault: unknown;
  for (const args of tries) {
    try {
      await run('apt-get', args, { directory: archives });
      return readdirSync(archives)
        .filter((name) => name.endsWith('.deb'))
        .map((name) => join(archives, name));
    } catch (error) {
      fault ??= error;
    }
  }
  throw fault;
}

/** macOS: brew keeps its own folders; installing starts no service. */
async function fetchWithBrew(_tree: string, log: Log): Promise<RedisBinary> {
  if (process.platform !== 'darwin') throw new Error('only on macOS');
  const environment = { ...(process.env as Record<string, string>), HOMEBREW_NO_AUTO_UPDATE: '1' };
  const prefix = (await run('brew', ['--prefix'], { environment })).trim();
  log('Installing Redis through brew (once, about a minute) …');
  await run('brew', ['install', '--quiet', 'redis'], { environment });
  return { path: join(prefix, 'bin', 'redis-server'), environment: baseEnvironment() };
}

/** Fetches aside and moves the whole tree into place at once, so that two starts never see half of one. */
async function inWorkFolder(tree: string, fetch: (work: string) => Promise<string>): Promise<RedisBinary> {
  const cacheDir = join(tree, '..');
  mkdirSync(cacheDir, { recursive: true });
  const work = mkdtempSync(join(cacheDir, `${basename(tree)}-fetch-`));
  try {
    const fetched = inTree(await fetch(work));
    if (fetched === null) throw new Error('what was fetched contains no server');
    const fault = await faultOf(fetched);
    if (fault !== null) throw new Error(`what was fetched does not run here: ${fault}`);
    const present = inTree(tree);
    // Another start was faster, and may already run from there.
    if (present !== null && (await faultOf(present)) === null) return present;
    if (existsSync(tree)) renameSync(tree, join(work, 'replaced'));
    renameSync(join(work, 'tree'), tree);
    return inTree(tree) as RedisBinary;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Long enough for a slow mirror, short enough that a dead one is not waited for all day. */
const commandLimitMs = 180_000;

/** @returns what the command printed. @throws Error with its last words. */
async function run(
  command: string,
  args: readonly string[],
  options: { readonly directory?: string; readonly environment?: Readonly<Record<string, string>> },
): Promise<string> {
  const environment = options.environment ?? { ...(process.env as Record<string, string>), LC_ALL: 'C' };
  const child = spawn(command, args, {
    cwd: options.directory,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
    // Not `timeout`: Node leaves its timer running when the program does not exist, and us with it.
    signal: AbortSignal.timeout(commandLimitMs),
  });
  let output = '';
  let faults = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-8_000);
  });
  child.stderr.on('data', (chunk: Buffer) => {
    faults = (faults + chunk.toString()).slice(-2_000);
  });
  return await new Promise((resolve, reject) => {
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' ? new Error('not found') : error),
    );
    child.once('close', (code, signal) => {
      if (code === 0) return resolve(output);
      const words = faults.trim().split('\n').slice(-2).join(' ') || `ended with ${code ?? signal}`;
      reject(new Error(words));
    });
  });
}
