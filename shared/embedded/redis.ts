import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { freePort } from './free-port.ts';

export interface EmbeddedRedis {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** What runs, for the log. */
  readonly binary: string;
  stop(): Promise<void>;
}

interface Binary {
  readonly path: string;
  /** Folder of its shared libraries, when they are not the system's. */
  readonly libraries: string | null;
}

/**
 * Starts a Redis (or Valkey) of our own on a free loopback port: the one on the PATH, else one fetched through a package
 * manager into `cacheDir`. Never adopts one that runs already.
 * @throws Error naming every way to get one.
 */
export async function startEmbeddedRedis(options: {
  readonly dataDir: string;
  readonly cacheDir: string;
  readonly port?: number;
  readonly log: (line: string) => void;
}): Promise<EmbeddedRedis> {
  const binary = findBinary(resolve(options.cacheDir), options.log);
  const dataDir = resolve(options.dataDir);
  mkdirSync(dataDir, { recursive: true });
  const port = options.port ?? (await freePort());
  const child = spawn(
    binary.path,
    // biome-ignore format: one setting a line
    [
      '--bind', '127.0.0.1',
      '--port', String(port),
      '--dir', dataDir,
      '--appendonly', 'yes',
      '--appendfsync', 'everysec',
      '--maxmemory-policy', 'noeviction', // locks are keys: an evicting Redis loses them
      '--save', '',
    ],
    { env: environmentOf(binary), stdio: ['ignore', 'pipe', 'pipe'] },
  );
  await untilReady(child, binary.path);
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    pid: child.pid as number,
    binary: binary.path,
    stop: () => stop(child),
  };
}

function findBinary(cacheDir: string, log: (line: string) => void): Binary {
  for (const name of ['redis-server', 'valkey-server']) {
    if (runs({ path: name, libraries: null })) return { path: name, libraries: null };
  }
  const cached = join(cacheDir, 'redis');
  const found = inFolder(cached);
  if (found !== null && runs(found)) return found;
  for (const fetch of [fetchWithApt, fetchWithBrew]) {
    const fetched = fetch(cached, log);
    if (fetched !== null && runs(fetched)) return fetched;
  }
  throw new Error(
    'No Redis: none was found on the PATH (redis-server, valkey-server) and none could be fetched through apt-get or brew. Install Redis 6.2 or newer (for instance `apt-get install redis-server` or `brew install redis`), or set REDIS_URL.',
  );
}

function runs(binary: Binary): boolean {
  return spawnSync(binary.path, ['--version'], { env: environmentOf(binary), stdio: 'ignore' }).status === 0;
}

function environmentOf(binary: Binary): NodeJS.ProcessEnv {
  return binary.libraries === null ? process.env : { ...process.env, LD_LIBRARY_PATH: binary.libraries };
}

function inFolder(folder: string): Binary | null {
  const path = join(folder, 'usr', 'bin', 'redis-server');
  if (!existsSync(path)) return null;
  const base = join(folder, 'usr', 'lib');
  const libraries = existsSync(base)
    ? readdirSync(base)
        .map((name) => join(base, name))
        .join(':')
    : null;
  return { path, libraries };
}

/** Debian and Ubuntu: downloads the packages and unpacks them into the cache. Needs no root and starts no service. */
function fetchWithApt(folder: string, log: (line: string) => void): Binary | null {
  if (spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).status !== 0) return null;
  log('Fetching Redis through apt-get into the cache folder (once, some seconds) …');
  mkdirSync(join(folder, '..'), { recursive: true });
  const work = mkdtempSync(join(folder, '..', 'redis-fetch-'));
  try {
    // Lists and archives of our own, so that neither root nor an earlier `apt-get update` is needed.
    for (const name of ['lists/partial', 'archives/partial', 'tree'])
      mkdirSync(join(work, name), { recursive: true });
    const own = [
      '-o',
      `Dir::State::lists=${join(work, 'lists')}`,
      '-o',
      `Dir::Cache=${work}`,
      '-o',
      'APT::Sandbox::User=',
      '-qq',
    ];
    if (spawnSync('apt-get', [...own, 'update'], { stdio: 'ignore' }).status !== 0) return null;
    const packages = ['redis-server', 'redis-tools', 'liblzf1', 'libjemalloc2', 'libatomic1'];
    if (spawnSync('apt-get', [...own, 'download', ...packages], { cwd: work, stdio: 'ignore' }).status !== 0)
      return null;
    for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
      if (spawnSync('dpkg', ['-x', file, 'tree'], { cwd: work, stdio: 'ignore' }).status !== 0) return null;
    }
    rmSync(folder, { recursive: true, force: true });
    renameSync(join(work, 'tree'), folder);
    return inFolder(folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** macOS: brew keeps its own cellar; it starts no service. */
function fetchWithBrew(_folder: string, log: (line: string) => void): Binary | null {
  const prefix = spawnSync('brew', ['--prefix'], { encoding: 'utf8' });
  if (prefix.status !== 0) return null;
  log('Installing Redis through brew (once) …');
  if (spawnSync('brew', ['install', '--quiet', 'redis'], { stdio: 'ignore' }).status !== 0) return null;
  return { path: join(prefix.stdout.trim(), 'bin', 'redis-server'), libraries: null };
}

async function untilReady(child: ChildProcess, path: string): Promise<void> {
  await new Promise<void>((resolveReady, reject) => {
    let output = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${path} was not ready within 20 s: ${output.slice(-500)}`));
    }, 20_000);
    const take = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4_000);
      if (!output.includes('Ready to accept connections')) return;
      clearTimeout(timer);
      resolveReady();
    };
    child.stdout?.on('data', take);
    child.stderr?.on('data', take);
    child.once('error', reject);
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`${path} ended at once with status ${code}: ${output.slice(-500)}`));
    });
  });
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolveEnded) => child.once('exit', resolveEnded));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await ended;
  clearTimeout(timer);
}
