import pg from 'pg';
import { parseIntoClientConfig } from 'pg-connection-string';
import { DependencyUnavailable, errorMessage } from '../errors.ts';
import { beginStatement, NoSession, prepareSession, SessionPool } from './session.ts';

export type Queryable = Pick<pg.Pool, 'query'>;

/** Longer than any statement may run: then the line is dead, though nobody has said so. */
const answerLimitMs = 8_000;

/**
 * A pool whose sessions cannot hang: they have the limits of `session.ts`. A statement that is not answered at all (a
 * line that lost its other end, and no reset came) fails after `answerMs`, and its session is given up.
 * @throws Error when the URL is wrong, or names a file of certificates that cannot be read.
 */
export function createPool(
  url: string,
  options: {
    readonly size?: number;
    readonly name: string;
    readonly onError?: (error: Error) => void;
    readonly answerMs?: number;
  },
): pg.Pool {
  const pool = new SessionPool({
    max: options.size ?? 8,
    connectionTimeoutMillis: 3_000,
    idleTimeoutMillis: 30_000,
    application_name: options.name,
    query_timeout: options.answerMs ?? answerLimitMs,
    keepAlive: true,
    onConnect: prepareSession,
    ...readUrl(url),
  });
  // An idle client whose server went away must not end the process; the next query reports the fault.
  pool.on('error', (error) => options.onError?.(error));
  // Nor must one that is being lent out: its end may come in one piece with the answer its borrower still waits for.
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

/** Once, not for each session: its files of certificates may be gone later. */
function readUrl(url: string): pg.ClientConfig {
  try {
    return parseIntoClientConfig(url);
  } catch (error) {
    throw new Error(`DATABASE_URL: ${errorMessage(error)}`, { cause: error });
  }
}

/** Runs `work` in one transaction; rolls back on any error. */
export async function withTransaction<T>(pool: pg.Pool, work: (tx: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  // While it is ours the pool does not listen: a server that went away between two statements would end the process.
  const onLost = (error: Error): void => {
    broken = error;
  };
  client.on('error', onLost);
  try {
    await client.query(beginStatement(client));
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    // A dead line would not answer the rollback either; the server rolls back when the session is gone. And a session
    // on a server that may no longer write stays there after a failover, until it is given up.
    if (isUnanswered(error) || codeOf(error) === readOnly) broken = error as Error;
    else
      await client.query('rollback').catch((rollbackError: Error) => {
        broken = rollbackError;
      });
    throw error;
  } finally {
    client.off('error', onLost);
    client.release(broken);
  }
}

function codeOf(error: unknown): string | null {
  const code = error instanceof Error ? (error as { code?: unknown }).code : null;
  return typeof code === 'string' ? code : null;
}

function isUnanswered(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout';
}

const readOnly = '25006';
/** It cannot write (demoted), or a lock was not to be had in time. */
const passingCodes = new Set([readOnly, '55P03', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT']);
/** Classes of SQLSTATE: connection exception (but for our own breach of the protocol), resources, operator intervention. */
const passingClasses = /^(08(?!P01)|53|57)/;

/** True when the fault lies with PostgreSQL, the way to it or our own end, so that trying again later can help. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof NoSession || isUnanswered(error)) return true;
  // Fatal: the server, or a pooler in its place, has ended the session.
  if (error instanceof pg.DatabaseError && error.severity === 'FATAL') return true;
  const code = codeOf(error);
  if (code !== null && (passingCodes.has(code) || passingClasses.test(code))) return true;
  return /Connection terminated|Client has encountered a connection error/.test(error.message);
}

/** Turns a connection fault into the error the API answers 503 with; passes everything else on. */
export function databaseError(error: unknown): unknown {
  if (!isDatabaseAway(error)) return error;
  return new DependencyUnavailable(
    'database_unavailable',
    'PostgreSQL cannot be reached just now: try again in some seconds.',
    {
      cause: error,
      context: { detail: errorMessage(error) },
      retryAfterMs: 5_000,
    },
  );
}

/** The PostgreSQL error code and constraint of an error, if it has them. */
export function constraintOf(error: unknown): { code: string; constraint: string } | null {
  if (!(error instanceof pg.DatabaseError) || error.code === undefined) return null;
  return { code: error.code, constraint: error.constraint ?? '' };
}
