import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chownSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { errorMessage } from '../../shared/errors.ts';
import { failIfLocked } from './folder-lock.ts';
import { freePort } from './free-port.ts';
import { type GuardedProcess, startGuarded } from './guarded-process.ts';
import { type PostgresBinaries, postgresBinaries } from './postgres-binaries.ts';
import { type ServerHome, type ServerUser, serverHome } from './postgres-user.ts';

export interface EmbeddedPostgres {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Where the data is: `dataDir`, but for a root whose folder the server's user cannot enter. */
  readonly folder: string;
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  readonly dataDir: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Default: scaler. Created when it is not there. */
  readonly database?: string;
  readonly log: (line: string) => void;
  /** Further server settings, e.g. for tests. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** Recovery after a power cut may have a lot to replay. */
const startLimitMs = 60_000;
/** A fast shutdown writes a checkpoint; past this, an immediate one leaves the work to the next start. */
const stopPatienceMs = 15_000;

/**
 * Starts a PostgreSQL of our own on loopback, below `dataDir`. What the folder holds from an earlier start is kept. It
 * ends with `stop()`, and when this process ends in whatever way; only a kill of this process and of its watcher (named
 * scaler-watch) at the same moment leaves it running, and the next start then names the process.
 * @throws Error in one sentence when the folder is in use or PostgreSQL cannot run here.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    return await start(options);
  } catch (error) {
    throw new Error(
      `The embedded PostgreSQL did not start: ${errorMessage(error)}. Or set DATABASE_URL to a PostgreSQL of your own.`,
      { cause: error },
    );
  }
}

async function start(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const home = serverHome(resolve(options.dataDir), options.log);
  const cluster = join(home.folder, 'cluster');
  await failIfLocked(join(cluster, 'postmaster.pid'), cluster, home.folder);
  const programs = postgresBinaries(home, options.log);
  const password = passwordIn(home);
  if (!existsSync(cluster)) {
    options.log('Creating a PostgreSQL database (once, some seconds) …');
    await createCluster(cluster, programs, home);
  }
  const { server, port } = await launch(options, { home, cluster, programs, password });
  const database = options.database ?? 'scaler';
  try {
    await createDatabase(urlOf(port, password, 'postgres'), database);
  } catch (error) {
    await server.stop(stopPatienceMs);
    throw error;
  }
  return {
    url: urlOf(port, password, database),
    port,
    pid: server.pid,
    folder: home.folder,
    stop: () => server.stop(stopPatienceMs),
  };
}

interface Cluster {
  readonly home: ServerHome;
  readonly cluster: string;
  readonly programs: PostgresBinaries;
  readonly password: string;
}

/** A port that was free a moment ago may be taken by now: then another one is tried, unless the caller named it. */
async function launch(
  options: EmbeddedPostgresOptions,
  own: Cluster,
): Promise<{ server: GuardedProcess; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort());
    const server = await startGuarded({
      command: own.programs.postgres,
      args: ['-D', own.cluster, ...flags({ ...settingsOf(port), ...options.settings })],
      environment: serverEnvironment,
      directory: own.home.folder,
      logFile: join(own.home.folder, 'postgres.log'),
      user: own.home.user,
      signals: ['SIGINT', 'SIGQUIT'],
    });
    try {
      await untilReady(server, urlOf(port, own.password, 'postgres'));
      return { server, port };
    } catch (error) {
      await server.stop(stopPatienceMs);
      const portTaken = /Address already in use/.test(errorMessage(error));
      if (!portTaken || options.port !== undefined || attempt >= 3) throw error;
    }
  }
}

const settingsOf = (port: number): Readonly<Record<string, string>> => ({
  port: String(port),
  listen_addresses: '127.0.0.1',
  // Loopback with a password is the only way in.
  unix_socket_directories: '',
  max_connections: '200',
  fsync: 'on',
  synchronous_commit: 'on',
  timezone: 'UTC',
  log_timezone: 'UTC',
});

function flags(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/** Nothing of ours: PGDATA, PGPORT and the like would bend it, and secrets are not its business. */
const serverEnvironment = { PATH: '/usr/bin:/bin', LC_ALL: 'C' };

async function untilReady(server: GuardedProcess, url: string): Promise<void> {
  const end = performance.now() + startLimitMs;
  for (;;) {
    const ending = server.ending();
    if (ending !== null) throw new Error(`it ended at once (${ending}): ${lastFault(server.logTail())}`);
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
    client.on('error', () => {});
    try {
      await client.connect();
      return;
    } catch (error) {
      if (performance.now() > end)
        throw new Error(`it was not ready within ${startLimitMs / 1_000} s: ${errorMessage(error)}`);
      await new Promise((next) => setTimeout(next, 25));
    } finally {
      await client.end().catch(() => {});
    }
  }
}

/** The line of the log that says why, without its time stamp. */
function lastFault(log: string): string {
  const lines = log.split('\n');
  const faults = lines.filter((line) => /(FATAL|PANIC|ERROR|could not|Address already in use)/.test(line));
  return (faults.length > 0 ? faults : lines)
    .slice(-2)
    .map((line) => line.replace(/^[-\d]+ [\d:.]+ \w+ \[\d+\] /, '').trim())
    .join('; ');
}

/** Into a folder of another name first: an interrupted start never leaves half a cluster. */
async function createCluster(cluster: string, programs: PostgresBinaries, home: ServerHome): Promise<void> {
  const work = mkdtempSync(`${cluster}-new-`);
  try {
    own(work, home.user);
    await run(
      programs.initdb,
      [
        `--pgdata=${work}`,
        '--username=postgres',
        '--auth=scram-sha-256',
        `--pwfile=${passwordFile(home)}`,
        '--encoding=UTF8',
        // The same on every machine, and in the order our pages are read: by bytes.
        '--locale=C',
      ],
      home,
    );
    renameSync(work, cluster);
  } catch (error) {
    rmSync(work, { recursive: true, force: true });
    // Another start created it meanwhile; whoever is second is told so by the server's own lock.
    if (!existsSync(cluster)) throw error;
  }
}

async function run(command: string, args: readonly string[], home: ServerHome): Promise<void> {
  const child = spawn(command, args, {
    ...home.user,
    cwd: home.folder,
    env: serverEnvironment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-2_000);
  });
  await new Promise<void>((done, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) =>
      code === 0 ? done() : reject(new Error(`initdb ended with ${code ?? signal}: ${lastFault(output)}`)),
    );
  });
}

async function createDatabase(adminUrl: string, name: string): Promise<void> {
  const client = new pg.Client(adminUrl);
  await client.connect();
  try {
    const { rows } = await client.query('select 1 from pg_database where datname = $1', [name]);
    if (rows.length === 0) await client.query(`create database ${client.escapeIdentifier(name)}`);
  } finally {
    await client.end();
  }
}

const passwordFile = (home: ServerHome) => join(home.folder, 'password');

/** Made once, kept beside the cluster, and readable by the server's user alone. */
function passwordIn(home: ServerHome): string {
  const file = passwordFile(home);
  try {
    writeFileSync(file, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
    own(file, home.user);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(file, 'utf8').trim();
}

function own(path: string, user: ServerUser): void {
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

function urlOf(port: number, password: string, database: string): string {
  return `postgres://postgres:${password}@127.0.0.1:${port}/${encodeURIComponent(database)}`;
}
