import pg from 'pg';

/** What PostgreSQL leaves unlimited: how long a statement, a wait for a lock and a forgotten transaction may take. */
export const sessionLimits = {
  statement_timeout: '5s',
  lock_timeout: '2s',
  idle_in_transaction_session_timeout: '10s',
} as const;

const limits = Object.entries(sessionLimits);
const setLocal = (value: (limit: string) => string) =>
  limits.map(([name, limit]) => `set local ${name} = '${value(limit)}'`).join('; ');
/** Lets a transaction take its time, whatever the database's user is limited to. */
export const withoutLimits = setLocal(() => '0');
const beginWithLimits = `begin; ${setLocal((limit) => limit)}`;
/** A pooler that lets us in and then has no server for us says nothing. */
const firstAnswerMs = 3_000;

/** Sessions in which each transaction may be another server session's. */
const pooled = new WeakSet<pg.ClientBase>();

/**
 * Readies a session that was just opened. The process that answers is the one that the login named: then the session is
 * ours, and keeps the limits. Else a pooler stands between, and nothing that a session keeps is used: statements have no
 * names, and each transaction sets its limits. Statements outside of one have those of the database's user.
 */
export function prepareSession(client: pg.ClientBase): Promise<void> {
  const { processID } = client as { processID?: number | null };
  const settings = limits.map(([name, value]) => `set_config('${name}', '${value}', not direct)`);
  const question = {
    text: `select direct, ${settings.join(', ')}
      from (select coalesce(pg_backend_pid() = $1::integer, false) as direct) as session`,
    values: [processID ?? null],
    query_timeout: firstAnswerMs,
  };
  return client.query<{ direct: boolean }>(question).then(({ rows }) => {
    if (rows[0]?.direct === true) return;
    pooled.add(client);
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    const unnamed = (first: unknown, ...rest: unknown[]) =>
      query(isNamed(first) ? { ...first, name: undefined } : first, ...rest);
    Object.assign(client, { query: unnamed });
  });
}

function isNamed(query: unknown): query is pg.QueryConfig {
  return typeof query === 'object' && query !== null && 'name' in query;
}

/** The statement that begins a transaction within the limits. */
export function beginStatement(client: pg.ClientBase): string {
  return pooled.has(client) ? beginWithLimits : 'begin';
}

type Callback = Parameters<pg.Pool['connect']>[0];

/** A log line for each request that finds no session would be a flood. */
const sayEveryMs = 5_000;

/**
 * A pool that tells a session that could not be had (`NoSession`) from whatever goes wrong in one. Its event `error` has
 * the server's words, now and then.
 */
export class SessionPool extends pg.Pool {
  #saidAt = Number.NEGATIVE_INFINITY;

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.PoolClient> | undefined {
    if (callback === undefined)
      return new Promise((resolve, reject) => {
        this.connect((error, client) => {
          if (client === undefined) reject(error);
          else resolve(client);
        });
      });
    super.connect((error, client, done) => {
      if (error !== undefined) this.#say(error);
      callback(error && new NoSession(error), client, done);
    });
    return undefined;
  }

  #say(error: Error): void {
    const now = performance.now();
    if (this.ending || now - this.#saidAt < sayEveryMs) return;
    this.#saidAt = now;
    this.emit('error', error);
  }
}

/**
 * No session with PostgreSQL could be had. The message is fit for `/ready`, which asks for no key: it names neither user,
 * database nor address. The cause has the server's words.
 */
export class NoSession extends Error {
  constructor(cause: Error) {
    const refusal = refusalOf(cause);
    super(refusal === null ? 'PostgreSQL is away' : `PostgreSQL gives us no session: ${refusal}`, { cause });
    this.name = 'NoSession';
  }
}

/** By SQLSTATE, or by PgBouncer's words: its code is always 08P01. */
const refusals: readonly (readonly [RegExp, string])[] = [
  [/^28P01|password authentication failed|no such user/, 'wrong user or password'],
  [/^28000/, 'pg_hba.conf does not let us in, or the user may not log in'],
  [/^3D000|no such database|^08P01 database .* does not exist/, 'there is no such database'],
  [/^42501/, 'the user may not connect to the database'],
  [/^53300|no more connections/, 'it has too many connections'],
  [/^57P03/, 'it is starting or stopping'],
  [/query_wait_timeout/, 'the pooler has no connection to spare'],
];

/** Why we are not let in, or do not go in; null when nobody answers. */
function refusalOf(error: Error): string | null {
  const { code } = error as { code?: unknown };
  if (error instanceof pg.DatabaseError) {
    const answer = `${error.code} ${error.message}`;
    return `${refusals.find(([pattern]) => pattern.test(answer))?.[1] ?? 'refused'} (${error.code})`;
  }
  if (/does not support SSL|establishing an SSL/.test(error.message)) return 'it does not speak TLS';
  if (typeof code === 'string' && /CERT|SSL|TLS|SIGNATURE|EPROTO/.test(code))
    return `its TLS certificate is not accepted (${code})`;
  return null;
}
