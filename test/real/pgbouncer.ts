import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { freePort } from '../../deploy/local/free-port.ts';
import { type GuardedProcess, startGuarded } from '../../deploy/local/guarded-process.ts';
import { serverHome } from '../../deploy/local/postgres-user.ts';
import { errorMessage } from '../../shared/errors.ts';

export interface PgBouncer {
  readonly port: number;
  stop(): Promise<void>;
}

/**
 * Debian's PgBouncer with the configuration it comes with, but for its lines of databases and users, the pool mode, and
 * where it listens and writes. PGBOUNCER names the program, else it is looked for on the PATH.
 * @param users names and passwords.
 */
export async function startPgBouncer(
  postgres: URL,
  users: Readonly<Record<string, string>>,
  folder: string,
): Promise<PgBouncer> {
  mkdirSync(folder, { recursive: true });
  const home = serverHome(join(folder, 'pgbouncer'), () => {});
  const port = await freePort();
  const write = (name: string, text: string) => {
    const file = join(home.folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    if (home.user !== undefined) chownSync(file, home.user.uid, home.user.gid);
    return file;
  };
  const authFile = write(
    'userlist.txt',
    Object.entries(users)
      .map(([name, password]) => `"${name}" "${password}"\n`)
      .join(''),
  );
  const configuration = write(
    'pgbouncer.ini',
    `[databases]
pooled = host=${postgres.hostname} port=${postgres.port} dbname=${postgres.pathname.slice(1)}
elsewhere = host=${postgres.hostname} port=${postgres.port} dbname=nowhere
[users]
[pgbouncer]
pool_mode = transaction
logfile = ${join(home.folder, 'pgbouncer.log')}
pidfile = ${join(home.folder, 'pgbouncer.pid')}
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = md5
auth_file = ${authFile}
`,
  );
  const command = process.env.PGBOUNCER ?? 'pgbouncer';
  try {
    const server = await startGuarded({
      command,
      args: [configuration],
      environment: { PATH: `${process.env.PATH ?? ''}:/usr/sbin` },
      directory: home.folder,
      logFile: join(home.folder, 'output.txt'),
      user: home.user,
      signals: ['SIGINT', 'SIGKILL'],
    });
    await untilListening(port, server);
    return { port, stop: () => server.stop(5_000) };
  } catch (error) {
    throw new Error(
      `${command} did not start: ${errorMessage(error)}. Install PgBouncer (Debian's package pgbouncer), or name it in PGBOUNCER.`,
      { cause: error },
    );
  }
}

async function untilListening(port: number, server: GuardedProcess): Promise<void> {
  for (;;) {
    const ending = server.ending();
    if (ending !== null) throw new Error(`it ended (${ending}): ${server.logTail()}`);
    const isListening = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
      socket.once('connect', () => socket.end());
    });
    if (isListening) return;
    await new Promise((next) => setTimeout(next, 25));
  }
}
