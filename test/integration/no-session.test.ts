import { createServer, type Server, type Socket } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateKey } from '../../api/keys/api-key.ts';
import { isDatabaseAway } from '../../shared/db/pool.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';

/** A server of whom the API asks a session, and what it does when it is spoken to for the nth time. */
let answers: readonly (string | Buffer | null)[];
let server: Server;
let api: TestApi;
const { key } = generateKey();

beforeAll(async () => {
  server = createServer((socket: Socket) => {
    let heard = 0;
    socket.on('error', () => {});
    socket.on('data', () => {
      const answer = answers[Math.min(heard++, answers.length - 1)] ?? null;
      if (answer === null) socket.destroy();
      else if (answer === welcome || answer === noTls) socket.write(answer);
      else socket.end(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const database = `postgres://secret_user:secret_word@127.0.0.1:${port}/secret_db`;
  api = await startTestApi({}, async (urls) => ({ ...urls, database }));
});
afterAll(async () => {
  await api.close();
  server.close();
});

/** The message of a server that ends the session. */
function fatal(code: string, message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${code}\0M${message}\0\0`);
  const head = Buffer.from('E\0\0\0\0');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
/** AuthenticationOk, ReadyForQuery. */
const welcome = Buffer.from('R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I', 'latin1');
const noTls = Buffer.from('N');

const gives = 'PostgreSQL gives us no session: ';
describe('a server that gives no session is told by /ready, and is never our fault', () => {
  it.each<[string, readonly (Buffer | null)[], string]>([
    [
      'a wrong password',
      [fatal('28P01', 'password authentication failed for user "secret_user"')],
      `${gives}wrong user or password (28P01)`,
    ],
    [
      'a missing entry in pg_hba.conf',
      [fatal('28000', 'no pg_hba.conf entry for host "10.1.2.3", user "secret_user", no encryption')],
      `${gives}pg_hba.conf does not let us in, or the user may not log in (28000)`,
    ],
    [
      'a missing database',
      [fatal('3D000', 'database "secret_db" does not exist')],
      `${gives}there is no such database (3D000)`,
    ],
    [
      'a missing privilege',
      [fatal('42501', 'permission denied for database "secret_db"')],
      `${gives}the user may not connect to the database (42501)`,
    ],
    [
      'too many connections',
      [fatal('53300', 'sorry, too many clients already')],
      `${gives}it has too many connections (53300)`,
    ],
    [
      'a start',
      [fatal('57P03', 'the database system is starting up')],
      `${gives}it is starting or stopping (57P03)`,
    ],
    ['a fault nobody knows', [fatal('XX000', 'secret_db is upset')], `${gives}refused (XX000)`],
    [
      'a refused startup parameter',
      [fatal('08P01', 'unsupported startup parameter: secret_db')],
      `${gives}refused (08P01)`,
    ],
    [
      "a pooler's missing database",
      [fatal('08P01', 'no such database: secret_db')],
      `${gives}there is no such database (08P01)`,
    ],
    [
      "a pooler's wrong password for the server",
      [
        welcome,
        fatal('08P01', 'server login failed: FATAL password authentication failed for user "secret_user"'),
      ],
      `${gives}wrong user or password (08P01)`,
    ],
    [
      'a pooler that is full',
      [fatal('08P01', 'no more connections allowed (max_client_conn)')],
      `${gives}it has too many connections (08P01)`,
    ],
    [
      'a pooler without a server',
      [welcome, fatal('08P01', 'query_wait_timeout')],
      `${gives}the pooler has no connection to spare (08P01)`,
    ],
    ['a line that is cut', [null], 'PostgreSQL is away'],
    ['a line that is cut after the login', [welcome, null], 'PostgreSQL is away'],
  ])('%s', async (_what, given, reason) => {
    answers = given;
    const ready = await api.call('GET', '/ready');
    expect(ready).toMatchObject({ status: 503, body: { postgres: 'away', reasons: [reason] } });
    const refused = await api.call('POST', '/scale/decide', { key, body: {} });
    expect(refused).toMatchObject({
      status: 503,
      body: { code: 'database_unavailable', context: { detail: reason } },
    });
    expect(refused.headers.get('retry-after')).toBe('5');
    expect(JSON.stringify([ready.body, refused.body])).not.toMatch(/secret|10\.1\.2\.3/);
  });
});

describe('an error in a session', () => {
  const told = (code: string, severity = 'ERROR') =>
    isDatabaseAway(Object.assign(new pg.DatabaseError('told', 4, 'error'), { code, severity }));

  it.each(['25006', '53100', '53200', '55P03', '57014', '57P01', '57P05', '08006'])(
    'passes with time: %s',
    (code) => expect(told(code)).toBe(true),
  );
  it.each(['08P01', '25P03', '3D000'])('ended it: %s', (code) => expect(told(code, 'FATAL')).toBe(true));
  it.each(['08P01', '22P02', '23505', '26000', '42P05', '42P01', '40001', 'XX000'])(
    'is our fault: %s',
    (code) => expect(told(code)).toBe(false),
  );
});
