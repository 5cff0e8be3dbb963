import pg from 'pg';
import { DependencyUnavailable, errorMessage } from '../errors.ts';

export type Queryable = Pick<pg.Pool, 'query'>;

/** Longer than any statement may run: then the line is dead, though nobody has said so. */
const answerLimitMs = 8_000;

/**
 * A pool whose sessions cannot hang: statements end after 5 s, lock waits after 2 s and forgotten transactions
 * after 10 s, all of which PostgreSQL leaves unlimited by default. A statement that is not answered at all (a line that
 * lost its other end, and no reset came) fails after `answerMs`, and its session is given up.
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
  const pool = new pg.Pool({
    connectionString: url,
    max: options.size ?? 8,
    connectionTimeoutMillis: 3_000,
    idleTimeoutMillis: 30_000,
    application_name: options.name,
    statement_timeout: 5_000,
    lock_timeout: 2_000,
    idle_in_transaction_session_timeout: 10_000,
    query_timeout: options.answerMs ?? answerLimitMs,
    keepAlive: true,
  });
  // An idle client whose server went away must not end the process; the next query reports the fault.
  pool.on('error', (error) => options.onError?.(error));
  // Nor must one that is being lent out: its end may come in one piece with the answer its borrower still waits for.
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
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
    await client.query('begin');
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
const awayCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
  '57P01',
  '57P02',
  '57P03',
  '53300',
  '08006',
  '08001',
  '08003',
  // It cannot write: demoted, disk full, out of memory.
  readOnly,
  '53100',
  '53200',
  '57014',
  '55P03',
]);

/** True when the fault lies with PostgreSQL, the way to it or our own end, so that trying again later can help. */
export function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = codeOf(error);
  if (code !== null && awayCodes.has(code)) return true;
  if (isUnanswered(error)) return true;
  return /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Cannot use a pool after calling end/.test(
    error.message,
  );
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
