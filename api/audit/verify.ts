import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { z } from 'zod';
import { errorMessage } from '../../shared/errors.ts';
import { chainedColumns, chainedRow, type StoredRow } from './audit-export-store.ts';
import {
  type ChainedRow,
  ChainVerifier,
  chainPrefix,
  type Finding,
  type Head,
  type HistoryTable,
  historyTables,
} from './hash-chain.ts';

const help = `Usage: npm run audit:verify -- [--resource ID] [--head FILE] [--file EXPORT] [--json]

  Works every hash of scaling_events and audit_log out again and compares the chains with their heads. Reads the database
  in DATABASE_URL (rights of scaler_auditor are enough), or an export. Status 1 when anything was changed, is missing, was
  put in or stands in the wrong place; 2 when it could not look.

  --resource ID   only the chains of this resource; \`global\` for the rows without one
  --head FILE     heads kept elsewhere (GET /audit/heads): finds a chain that was written again as a whole
  --file EXPORT   verify this file (GET /audit/export) instead of the database
  --json          one JSON object on standard output
  --help          this text`;

export interface VerifyResult {
  readonly ok: boolean;
  readonly rows: number;
  readonly chains: number;
  readonly findings: readonly Finding[];
  /** Above what \`findings\` lists: only the first are kept. */
  readonly findings_total: number;
  readonly ms: number;
  readonly rows_per_second: number;
}

/** Memory stays bounded, however much was bent. */
const keptFindings = 1_000;
const fetchedRows = 2_000;
const progressMs = 2_000;

/** Counts, keeps the first findings, and says now and then how far it is. */
class Tally {
  rows = 0;
  chains = 0;
  readonly #findings: Finding[] = [];
  #total = 0;
  readonly #startedAt = performance.now();
  readonly #progress: (line: string) => void;
  #saidAt = performance.now();

  constructor(progress: (line: string) => void) {
    this.#progress = progress;
  }

  add(findings: Iterable<Finding>): void {
    for (const finding of findings) {
      this.#total++;
      if (this.#findings.length < keptFindings) this.#findings.push(finding);
    }
  }

  row(): void {
    this.rows++;
    if (this.rows % fetchedRows !== 0 || performance.now() - this.#saidAt < progressMs) return;
    this.#saidAt = performance.now();
    this.#progress(`${this.rows} rows, ${this.chains} chains, ${this.#total} finding(s) so far`);
  }

  result(): VerifyResult {
    const ms = Math.round(performance.now() - this.#startedAt);
    return {
      ok: this.#total === 0,
      rows: this.rows,
      chains: this.chains,
      findings: this.#findings,
      findings_total: this.#total,
      ms,
      rows_per_second: Math.round(this.rows / Math.max(0.001, ms / 1_000)),
    };
  }
}

export interface VerifyOptions {
  readonly resource?: string | undefined;
  /** Heads kept elsewhere, by chain. */
  readonly known?: ReadonlyMap<string, Head>;
  readonly progress?: (line: string) => void;
}

/**
 * Verifies the chains of a database as one moment had them: rows and heads stream past each other in the order of the
 * chains, so memory does not grow with either.
 */
export async function verifyDatabase(
  databaseUrl: string,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  const tally = new Tally(options.progress ?? (() => {}));
  const client = new pg.Client({ connectionString: databaseUrl, application_name: 'scaler-audit-verify' });
  await client.connect();
  try {
    await client.query('begin transaction isolation level repeatable read read only');
    await client.query(`set local timezone = 'UTC'`);
    tally.add(await unguarded(client));
    for (const table of historyTables) await verifyTable(client, table, options, tally);
    await client.query('rollback');
  } finally {
    await client.end();
  }
  return tally.result();
}

/** Triggers by what they are for; the ones against changes must fire always, also in a session that plays replica. */
async function unguarded(client: pg.Client): Promise<Finding[]> {
  const { rows } = await client.query<{ table: HistoryTable; name: string }>(
    `select t.name as table, t.name || g.suffix as name
      from unnest($1::text[]) as t (name), (values ('_append_only', 'A'), ('_no_truncate', 'A'), ('_chain', 'OA'), ('_head', 'OA')) as g (suffix, enabled)
      where not exists (select 1 from pg_trigger p where p.tgrelid = t.name::regclass and p.tgname = t.name || g.suffix
        and position(p.tgenabled::text in g.enabled) > 0)`,
    [historyTables],
  );
  return rows.map(({ table, name }) => ({
    chain: `${chainPrefix[table]}:*`,
    position: '0',
    row: null,
    fault: 'unguarded',
    message: `the trigger ${name} is gone or switched off: nothing keeps ${table} from being changed`,
  }));
}

async function verifyTable(
  client: pg.Client,
  table: HistoryTable,
  options: VerifyOptions,
  tally: Tally,
): Promise<void> {
  const prefix = chainPrefix[table];
  const { resource } = options;
  const id = resource === undefined || resource === 'global' ? null : resource;
  const filter = {
    all: '$1::uuid is null',
    global: '$1::uuid is null and t.resource_id is null',
    one: 't.resource_id = $1',
  };
  const where = filter[resource === undefined ? 'all' : resource === 'global' ? 'global' : 'one'];
  // Nulls come last and "global" is above every hexadecimal digit: both cursors have one order.
  const rows = cursor<StoredRow>(
    client,
    `${prefix}_rows`,
    `select ${chainedColumns} from ${table} t where ${where} order by t.resource_id, t.chain_no, t.hash`,
    [id],
  );
  const heads = new PeekableIterator(
    cursor<{ chain: string; length: string; hash: string }>(
      client,
      `${prefix}_heads`,
      `select chain, length::text, encode(hash, 'hex') as hash from audit_heads
        where chain like $1 and ($2::text is null or chain = $2) order by chain collate "C"`,
      [`${prefix}:%`, resource === undefined ? null : `${prefix}:${resource}`],
    ),
  );
  const unseen = new Set(
    [...(options.known?.keys() ?? [])].filter(
      (chain) =>
        chain.startsWith(`${prefix}:`) && (resource === undefined || chain === `${prefix}:${resource}`),
    ),
  );
  let walk: ChainVerifier | null = null;
  const open = (chain: string) => {
    tally.chains++;
    unseen.delete(chain);
    return new ChainVerifier(chain, options.known?.get(chain));
  };
  const close = async (done: ChainVerifier) => {
    for (
      let head = await heads.peek();
      head !== null && head.chain <= done.chain;
      head = await heads.next()
    ) {
      const own = { ...head, length: BigInt(head.length) };
      if (head.chain === done.chain) {
        tally.add(done.end(own));
        await heads.next();
        return;
      }
      tally.add(open(head.chain).end(own));
    }
    tally.add(done.end(null));
  };
  for await (const stored of rows) {
    const row = chainedRow(table, stored);
    if (walk === null || walk.chain !== row.chain) {
      if (walk !== null) await close(walk);
      walk = open(row.chain);
    }
    tally.add(walk.step(row, true));
    tally.row();
  }
  if (walk !== null) await close(walk);
  for (let head = await heads.peek(); head !== null; head = await heads.next())
    tally.add(open(head.chain).end({ ...head, length: BigInt(head.length) }));
  for (const chain of unseen) tally.add(open(chain).end(undefined));
}

async function* cursor<T extends object>(
  client: pg.Client,
  name: string,
  sql: string,
  values: unknown[],
): AsyncGenerator<T> {
  await client.query(`declare ${name} no scroll cursor for ${sql}`, values);
  for (;;) {
    const { rows } = await client.query<T>(`fetch ${fetchedRows} from ${name}`);
    yield* rows;
    if (rows.length < fetchedRows) return;
  }
}

/** A stream whose next item can be looked at before it is taken. */
class PeekableIterator<T> {
  readonly #source: AsyncIterator<T>;
  #item: T | null | undefined;

  constructor(source: AsyncGenerator<T>) {
    this.#source = source;
  }

  async peek(): Promise<T | null> {
    if (this.#item === undefined) {
      const { value, done } = await this.#source.next();
      this.#item = done === true ? null : value;
    }
    return this.#item;
  }

  /** Drops the present item. @returns the one after it. */
  async next(): Promise<T | null> {
    await this.peek();
    if (this.#item !== null) this.#item = undefined;
    return await this.peek();
  }
}

const rowSchema = z.object({
  table: z.enum(historyTables),
  chain: z.string(),
  prev_hash: z.string(),
  hash: z.string(),
  row: z.record(z.string(), z.string()),
});
const headSchema = z.object({ chain: z.string(), length: z.coerce.bigint(), hash: z.string() });

/**
 * Verifies an export (NDJSON, rows of a chain in order). It may begin or end anywhere in a chain: what is left out at
 * either end shows only against heads kept elsewhere. Memory: one small state per chain.
 */
export async function verifyFile(path: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const tally = new Tally(options.progress ?? (() => {}));
  const walks = new Map<string, ChainVerifier>();
  for await (const row of parsedLines(path, rowSchema)) {
    if (options.resource !== undefined && row.chain.split(':')[1] !== options.resource) continue;
    let walk = walks.get(row.chain);
    if (walk === undefined) {
      walk = new ChainVerifier(row.chain, options.known?.get(row.chain));
      walks.set(row.chain, walk);
      tally.chains++;
    }
    tally.add(misattributed(row));
    tally.add(walk.step(row, false));
    tally.row();
  }
  const prefixes = new Set([...walks.keys()].map((chain) => chain.split(':')[0]));
  for (const [chain, head] of options.known ?? []) {
    const [prefix, resource] = chain.split(':');
    const asked = options.resource === undefined || options.resource === resource;
    if (asked && prefixes.has(prefix) && !walks.has(chain)) walks.set(chain, new ChainVerifier(chain, head));
  }
  for (const walk of walks.values()) tally.add(walk.end(undefined));
  return tally.result();
}

/** The chain a line claims must be the one its row belongs to. */
function* misattributed(row: ChainedRow): Generator<Finding> {
  const { chain_no: position = '0', id = null, resource_id } = row.row;
  if (row.chain === `${chainPrefix[row.table]}:${resource_id ?? 'global'}`) return;
  const message = 'the line names another chain than its row belongs to';
  yield { chain: row.chain, position, row: id, fault: 'reordered', message };
}

/** Reads heads as GET /audit/heads writes them. */
export async function readHeads(path: string): Promise<Map<string, Head>> {
  const heads = new Map<string, Head>();
  for await (const head of parsedLines(path, headSchema)) heads.set(head.chain, head);
  return heads;
}

async function* parsedLines<T>(path: string, schema: z.ZodType<T>): AsyncGenerator<T> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  let n = 0;
  for await (const line of lines) {
    n++;
    if (line === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new Error(`${path}, line ${n} is not JSON: the file is cut short or is not an export`);
    }
    const parsed = schema.safeParse(value);
    if (!parsed.success)
      throw new Error(
        `${path}, line ${n}: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`,
      );
    yield parsed.data;
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      resource: { type: 'string' },
      head: { type: 'string' },
      file: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const { resource } = values;
  if (resource !== undefined && resource !== 'global' && !z.guid().safeParse(resource).success)
    throw new Error(`--resource must be a resource's id or global, not ${JSON.stringify(resource)}`);
  const url = process.env.DATABASE_URL;
  if (values.file === undefined && (url === undefined || url === ''))
    throw new Error('set DATABASE_URL to the database to verify, or give --file EXPORT');
  const options: VerifyOptions = {
    resource: resource?.toLowerCase(),
    progress: (line) => console.error(`audit: ${line}`),
    ...(values.head === undefined ? {} : { known: await readHeads(values.head) }),
  };
  const result =
    values.file === undefined
      ? await verifyDatabase(url as string, options)
      : await verifyFile(values.file, options);
  if (values.json === true) console.log(JSON.stringify(result));
  else say(result);
  return result.ok ? 0 : 1;
}

function say(result: VerifyResult): void {
  for (const { chain, position, row, fault, message } of result.findings)
    console.log(`${chain} position ${position}${row === null ? '' : ` (row ${row})`}: ${fault}: ${message}`);
  const more = result.findings_total - result.findings.length;
  if (more > 0) console.log(`… and ${more} more`);
  console.log(
    `audit: ${result.rows} rows in ${result.chains} chains read in ${result.ms} ms: ${
      result.ok
        ? 'nothing was changed, is missing or stands in the wrong place'
        : `${result.findings_total} finding(s)`
    }`,
  );
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      console.error(`audit: ${errorMessage(error)}`);
      process.exitCode = 2;
    },
  );
}
