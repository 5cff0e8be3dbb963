import type pg from 'pg';
import { type Queryable, withTransaction } from '../../shared/db/pool.ts';
import { DependencyUnavailable } from '../../shared/errors.ts';
import { type ChainedRow, chainOf, type Head, type HistoryTable, numberColumn } from './hash-chain.ts';

/** Columns of a StoredRow. Built-in functions only: others could be tampered with together with the rows. */
export const chainedColumns = `encode(t.prev_hash, 'hex') as prev_hash, encode(t.hash, 'hex') as hash,
  (select jsonb_object_agg(key, value) from jsonb_each_text(to_jsonb(t) - 'hash' - 'prev_hash')
    where value is not null) as row`;

/** A row as `chainedColumns` selects it; hashes in hexadecimal, all columns as text. */
export interface StoredRow {
  readonly prev_hash: string;
  readonly hash: string;
  readonly row: Readonly<Record<string, string>>;
}

/** A stored row with the name of its chain. */
export function chainedRow(table: HistoryTable, { prev_hash, hash, row }: StoredRow): ChainedRow {
  return { table, chain: chainOf(table, row.resource_id), prev_hash, hash, row };
}

export interface ExportRange {
  readonly table: HistoryTable;
  /** A resource's id, `global` for the rows without one, or undefined for all. */
  readonly resource?: string | undefined;
  /** Exclusive start: the `seq` of an event or the `id` of an audit entry. */
  readonly after: string;
  readonly limit: number;
}

const pageRows = 500;

/**
 * Pages of history in the order of `seq` or `id`, each read when it is asked for: a slow client holds one page in
 * memory and no connection. No row is skipped, even while others are being written.
 * @throws DependencyUnavailable when a transaction that writes the table stays open for longer than 10 s.
 */
export async function* exportRows(pool: pg.Pool, range: ExportRange): AsyncGenerator<ChainedRow[]> {
  const page =
    range.resource === undefined
      ? await pagesOfTable(pool, range)
      : await pagesOfChain(pool, range, range.resource);
  for (let left = range.limit; left > 0; ) {
    const rows = await page(Math.min(left, pageRows));
    if (rows.length > 0) yield rows.map((row) => chainedRow(range.table, row));
    if (rows.length < pageRows) return;
    left -= rows.length;
  }
}

type NextPage = (limit: number) => Promise<StoredRow[]>;

async function pagesOfTable(pool: pg.Pool, { table, after }: ExportRange): Promise<NextPage> {
  const number = numberColumn[table];
  const last = await highWaterMark(pool, table);
  let at = after;
  return async (limit) => {
    const rows = await readPage(
      pool,
      `select ${chainedColumns} from ${table} t where t.${number} > $1 and t.${number} <= $2
        order by t.${number} limit $3`,
      [at, last, limit],
    );
    at = rows.at(-1)?.row[number] ?? at;
    return rows;
  };
}

/** A chain commits in the order of its positions, so what is visible of it has no gaps. */
async function pagesOfChain(
  pool: pg.Pool,
  { table, after }: ExportRange,
  resource: string,
): Promise<NextPage> {
  const number = numberColumn[table];
  const where = resource === 'global' ? 't.resource_id is null and $1::uuid is null' : 't.resource_id = $1';
  const id = resource === 'global' ? null : resource;
  const { rows: begin } = await pool.query<{ chain_no: string }>(
    `select t.chain_no::text from ${table} t where ${where} and t.${number} <= $2
      order by t.resource_id desc, t.chain_no desc limit 1`,
    [id, after],
  );
  let at = begin[0]?.chain_no ?? '0';
  return async (limit) => {
    const rows = await readPage(
      pool,
      `select ${chainedColumns} from ${table} t where ${where} and t.chain_no > $2
        order by t.resource_id, t.chain_no limit $3`,
      [id, at, limit],
    );
    at = rows.at(-1)?.row.chain_no ?? at;
    return rows;
  };
}

async function readPage(pool: pg.Pool, sql: string, values: unknown[]): Promise<StoredRow[]> {
  return await withTransaction(pool, async (tx) => {
    // Times are hashed as UTC, so they are exported as UTC.
    await tx.query(`set local timezone = 'UTC'`);
    return (await tx.query<StoredRow>(sql, values)).rows;
  });
}

const writersTimeoutMs = 10_000;
const writersPollMs = 20;

/**
 * The highest visible number, once no lower one can still appear: numbers come from a sequence before the commit, so
 * rows do not become visible in their order. A transaction that holds such a number also holds the table's write
 * lock, so this waits until every writer of now has ended.
 * @throws DependencyUnavailable when a transaction stays open for longer than 10 s.
 */
async function highWaterMark(pool: pg.Pool, table: HistoryTable): Promise<string> {
  const { rows } = await pool.query<{ n: string }>(
    `select coalesce(max(${numberColumn[table]}), 0)::text as n from ${table}`,
  );
  const writers = await writersOf(pool, table);
  const end = performance.now() + writersTimeoutMs;
  while (writers.size > 0) {
    const present = await writersOf(pool, table);
    for (const writer of writers) if (!present.has(writer)) writers.delete(writer);
    if (writers.size === 0) break;
    if (performance.now() > end)
      throw new DependencyUnavailable(
        'history_busy',
        `A transaction that writes ${table} has been open for more than 10 s: try again when it has ended.`,
        { retryAfterMs: 5_000 },
      );
    await new Promise((resolve) => setTimeout(resolve, writersPollMs));
  }
  return rows[0]?.n ?? '0';
}

/** The transactions that hold the table's write lock. */
async function writersOf(db: Queryable, table: HistoryTable): Promise<Set<string>> {
  const { rows } = await db.query<{ writer: string }>(
    `select distinct virtualtransaction as writer from pg_locks
      where locktype = 'relation' and relation = $1::regclass
        and database = (select oid from pg_database where datname = current_database())
        and mode = 'RowExclusiveLock' and granted`,
    [table],
  );
  return new Set(rows.map((row) => row.writer));
}

/** Pages of the heads of all chains, ordered by name. */
export async function* exportHeads(pool: pg.Pool): AsyncGenerator<Head[]> {
  for (let after = ''; ; ) {
    const { rows } = await pool.query<{ chain: string; length: string; hash: string }>(
      `select chain, length::text, encode(hash, 'hex') as hash from audit_heads where chain collate "C" > $1
        order by chain collate "C" limit $2`,
      [after, pageRows],
    );
    if (rows.length > 0) yield rows.map((row) => ({ ...row, length: BigInt(row.length) }));
    if (rows.length < pageRows) return;
    after = rows.at(-1)?.chain ?? after;
  }
}
