import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { migrate } from '../../shared/db/migrate.ts';

const help = `Usage: npm run bench:audit -- [--seconds N] [--rows N] [--json]

  What the hash chain of the audit log costs, on a PostgreSQL of its own: committed rows a second on one chain and on a
  hundred, with the chain and without it; chaining what an older release left; verifying.

  --seconds N   length of each measurement of writing (default 5)
  --rows N      rows to chain by the migration and to verify (default 200000)
  --json        figures as one JSON object
  --help        this text`;

/** The last migration before the chain. */
const migrationsBefore = 3;
const writers = 8;
const insert = `insert into audit_log (actor, action, resource_id, subject, request_id, remote_address, detail)
  values ('key', 'execute.requested', $1, 'a subject', 'a request', '127.0.0.1', '{"job_id": "0b7d7b9e-7f0f-4f0e-9a0c-0a6d8a2b9a3f"}')`;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' },
    rows: { type: 'string', default: '200000' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
if (values.help === true) {
  console.log(help);
  process.exit(0);
}
const seconds = Number(values.seconds);
const rows = Number(values.rows);
if (!(seconds > 0 && seconds <= 600) || !Number.isSafeInteger(rows) || rows < 1 || rows > 100_000_000) {
  console.error('bench:audit: --seconds must be up to 600 and --rows a whole number up to 100000000');
  process.exit(2);
}

/** Committed rows a second of writers that each wait for their commit. */
async function committed(pool: pg.Pool, resources: readonly (string | null)[]): Promise<number> {
  const end = performance.now() + seconds * 1_000;
  let n = 0;
  await Promise.all(
    Array.from({ length: writers }, async () => {
      while (performance.now() < end) {
        await pool.query({
          name: 'insert',
          text: insert,
          values: [resources[Math.floor(Math.random() * resources.length)]],
        });
        n++;
      }
    }),
  );
  return Math.round(n / seconds);
}

/** Rows a second of one statement that writes many, so without the commit's wait. */
async function bulk(pool: pg.Pool): Promise<number> {
  const startedAt = performance.now();
  await pool.query(
    `insert into audit_log (actor, action, subject, detail) select 'key', 'refused', n::text, '{"status": 401}' from generate_series(1, 20000) n`,
  );
  return Math.round(20_000 / ((performance.now() - startedAt) / 1_000));
}

async function chainOld(url: string): Promise<{ rows_per_second: number; ms: number }> {
  await migrate(url, migrationsBefore);
  const client = new pg.Client(url);
  await client.connect();
  await client.query(
    `insert into scaling_events (resource_id, decision_id, attempt_id, phase, outcome, action, previous_instances, new_instances, success, execution_time_ms, epoch, actor)
      select ('00000000-0000-4000-8000-' || lpad((n % 500)::text, 12, '0'))::uuid, gen_random_uuid(), n, 'outcome', 'succeeded', 'ScaleUp', 4, 5, true, 120, n, 'worker-1'
      from generate_series(1, $1::integer) n`,
    [rows],
  );
  await client.query('vacuum analyze scaling_events');
  await client.end();
  const startedAt = performance.now();
  await migrate(url);
  const ms = Math.round(performance.now() - startedAt);
  return { ms, rows_per_second: Math.round(rows / (ms / 1_000)) };
}

const folder = mkdtempSync(join(tmpdir(), 'scaler-bench-audit-'));
const server = await startEmbeddedPostgres({ dataDir: folder, log: () => {} });
try {
  const old = new pg.Client(server.url);
  await old.connect();
  await old.query('create database old');
  await old.end();
  const oldUrl = new URL(server.url);
  oldUrl.pathname = '/old';
  const migrated = await chainOld(oldUrl.href);
  const verified = await verifyDatabase(oldUrl.href);

  await migrate(server.url);
  const pool = new pg.Pool({ connectionString: server.url, max: writers });
  pool.on('error', () => {});
  const many = Array.from({ length: 100 }, () => randomUUID());
  const one = await committed(pool, [null]);
  const hundred = await committed(pool, many);
  const bulkRows = await bulk(pool);
  await pool.query('alter table audit_log disable trigger audit_log_chain');
  await pool.query(
    'alter table audit_log alter chain_no drop not null, alter prev_hash drop not null, alter hash drop not null',
  );
  await pool.query('drop index audit_log_chain');
  const without = await committed(pool, [null]);
  const bulkWithout = await bulk(pool);
  await pool.end();

  const result = {
    machine: `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, Node ${process.version}`,
    writers,
    committed_rows_per_second: { one_chain: one, hundred_chains: hundred, without_chain: without },
    bulk_rows_per_second: { one_chain: bulkRows, without_chain: bulkWithout },
    migration: { rows, ...migrated },
    verification: { rows: verified.rows, rows_per_second: verified.rows_per_second, ok: verified.ok },
  };
  if (values.json === true) console.log(JSON.stringify(result));
  else console.log(JSON.stringify(result, null, 2));
} finally {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
