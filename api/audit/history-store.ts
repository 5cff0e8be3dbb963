import pg from 'pg';
import { withoutLimits } from '../../shared/db/session.ts';
import { chainedColumns, chainedRow, type StoredRow } from './audit-export-store.ts';
import { type ChainedRow, chainPrefix, type Head, type HistoryTable, historyTables } from './hash-chain.ts';

const fetchRows = 2_000;

/** Runs `work` in one read-only snapshot of the database. @throws what `pg` throws when it cannot connect or read. */
export async function withHistorySnapshot(
  databaseUrl: string,
  work: (client: pg.Client) => Promise<void>,
): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'scaler-audit-verify' });
  await client.connect();
  try {
    await client.query('begin transaction isolation level repeatable read read only');
    // Times are hashed as UTC.
    await client.query(`set local timezone = 'UTC'; ${withoutLimits}`);
    await work(client);
    await client.query('rollback');
  } finally {
    await client.end();
  }
}

export interface MissingTrigger {
  readonly table: HistoryTable;
  readonly name: string;
}

/**
 * The integrity triggers that are dropped or disabled. Those against changes must be enabled always ('A'), also in a
 * session whose session_replication_role is replica; for the others the default ('O') will do.
 */
export async function listMissingTriggers(client: pg.Client): Promise<MissingTrigger[]> {
  const { rows } = await client.query<MissingTrigger>(
    `select t.name as table, t.name || g.suffix as name
      from unnest($1::text[]) as t (name),
        (values ('_append_only', 'A'), ('_no_truncate', 'A'), ('_chain', 'OA'), ('_head', 'OA')) as g (suffix, enabled)
      where not exists (select 1 from pg_trigger p where p.tgrelid = t.name::regclass and p.tgname = t.name || g.suffix
        and position(p.tgenabled::text in g.enabled) > 0)`,
    [historyTables],
  );
  return rows;
}

/**
 * A table's rows, chain by chain in the order of their positions. Nulls come last and "global" sorts above every
 * hexadecimal digit, so chains come in the same order as from `readChainHeads`.
 * @param resource a resource's id, `global` for the rows without one, or undefined for all.
 */
export async function* readChainedRows(
  client: pg.Client,
  table: HistoryTable,
  resource: string | undefined,
): AsyncGenerator<ChainedRow> {
  const filter = {
    all: '$1::uuid is null',
    global: '$1::uuid is null and t.resource_id is null',
    one: 't.resource_id = $1',
  }[resource === undefined ? 'all' : resource === 'global' ? 'global' : 'one'];
  const id = resource === undefined || resource === 'global' ? null : resource;
  const pages = readCursor<StoredRow>(
    client,
    `${chainPrefix[table]}_rows`,
    `select ${chainedColumns} from ${table} t where ${filter} order by t.resource_id, t.chain_no, t.hash`,
    [id],
  );
  for await (const rows of pages) yield* rows.map((row) => chainedRow(table, row));
}

/** The stored heads of a table's chains, ordered by name. @param resource as for `readChainedRows`. */
export async function* readChainHeads(
  client: pg.Client,
  table: HistoryTable,
  resource: string | undefined,
): AsyncGenerator<Head> {
  const prefix = chainPrefix[table];
  const pages = readCursor<{ chain: string; length: string; hash: string }>(
    client,
    `${prefix}_heads`,
    `select chain, length::text, encode(hash, 'hex') as hash from audit_heads
      where chain like $1 and ($2::text is null or chain = $2) order by chain collate "C"`,
    [`${prefix}:%`, resource === undefined ? null : `${prefix}:${resource}`],
  );
  for await (const heads of pages) yield* heads.map((head) => ({ ...head, length: BigInt(head.length) }));
}

/** Pages of a server-side cursor. */
async function* readCursor<T extends object>(
  client: pg.Client,
  name: string,
  sql: string,
  values: unknown[],
): AsyncGenerator<T[]> {
  await client.query(`declare ${name} no scroll cursor for ${sql}`, values);
  for (;;) {
    const { rows } = await client.query<T>(`fetch ${fetchRows} from ${name}`);
    yield rows;
    if (rows.length < fetchRows) return;
  }
}
