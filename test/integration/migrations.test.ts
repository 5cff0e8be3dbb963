import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, describe, expect, inject, it, vi } from 'vitest';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { forFile } from '../support/for-file.ts';
import { startTestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws, startTestWorker } from '../support/worker-rig.ts';

const migrationsDir = join(projectRoot(), 'shared/db/migrations');
const fixturesDir = join(projectRoot(), 'test/fixtures/schema');
const migrations = readdirSync(migrationsDir)
  .filter((name) => name.endsWith('.sql'))
  .toSorted();
const web = '00000000-0000-4000-8000-000000000001';

const admin = new pg.Client(inject('databaseUrl'));
await admin.connect();
forFile({ close: () => admin.end() });
const databases: string[] = [];
forFile({
  async close() {
    for (const name of databases) await admin.query(`drop database if exists ${name} with (force)`);
  },
});
const aws = forFile(await startQuickAws());
const fresh = await emptyDatabase();
await migrate(fresh);

afterEach(() => {
  vi.unstubAllEnvs();
});

async function emptyDatabase(): Promise<string> {
  const name = `migrated_${randomUUID().replaceAll('-', '')}`;
  databases.push(name);
  await admin.query(`create database ${name}`);
  const url = new URL(inject('databaseUrl'));
  url.pathname = `/${name}`;
  return url.href;
}

async function using<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** Rows as a service of this version and those before it left them. */
async function loadFixtures(url: string, version: number): Promise<void> {
  const files = readdirSync(fixturesDir).filter((name) => Number(name.slice(0, 4)) <= version);
  for (const name of files.toSorted())
    await using(url, (client) => client.query(readFileSync(join(fixturesDir, name), 'utf8')));
}

type Rows = Map<string, Record<string, unknown>[]>;

/** Every row of every table of ours. */
async function contentOf(url: string): Promise<Rows> {
  return await using(url, async (client) => {
    const { rows: tables } = await client.query<{ name: string }>(
      `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'schema_migrations' order by 1`,
    );
    const content: Rows = new Map();
    for (const { name } of tables)
      content.set(name, (await client.query(`select * from ${name} t order by to_jsonb(t)::text`)).rows);
    return content;
  });
}

const keyOf: Readonly<Record<string, readonly string[]>> = {
  metric_samples: ['resource_id', 'timestamp'],
  predictions: ['resource_id', 'timestamp'],
  idempotency_keys: ['idempotency_key'],
  controls: ['scope'],
  fleet_limits: ['scope'],
  fleet_holds: ['scope'],
  circuits: ['scope'],
  worker_heartbeats: ['worker_id'],
  forecasts: ['resource_id'],
  audit_heads: ['chain'],
};
const identity = (table: string, row: Record<string, unknown>) =>
  JSON.stringify((keyOf[table] ?? ['id']).map((column) => row[column]));

/** Columns, constraints, indexes, triggers and functions: what makes a schema. */
async function schemaOf(url: string): Promise<unknown> {
  return await using(url, async (client) => {
    const lines: string[] = [];
    for (const sql of [
      `select format('%s.%s %s %s %s %s %s', table_name, column_name, data_type, is_nullable, column_default, is_identity, generation_expression) from information_schema.columns where table_schema = 'public'`,
      `select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint where connamespace = 'public'::regnamespace`,
      `select indexdef from pg_indexes where schemaname = 'public'`,
      `select format('%s %s', tgenabled, pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal`,
      `select format('%s %s', proname, pg_get_functiondef(oid)) from pg_proc where pronamespace = 'public'::regnamespace and prolang in (select oid from pg_language where lanname in ('sql', 'plpgsql'))`,
      `select format('%s %s', viewname, definition) from pg_views where schemaname = 'public'`,
      `select format('%s %s %s', grantee, table_name, privilege_type) from information_schema.table_privileges where table_schema = 'public'`,
      `select name from schema_migrations`,
    ])
      lines.push(
        ...(await client.query({ text: sql, rowMode: 'array' })).rows
          .map(([line]) => String(line))
          .toSorted(),
      );
    return lines;
  });
}

describe('a database of every earlier version, with data', () => {
  it.each(migrations.map((name, index) => [name, index + 1] as const))(
    'that stopped at %s comes to the newest schema with all it had, and works',
    async (_, count) => {
      const url = await emptyDatabase();
      expect(await migrate(url, count)).toHaveLength(count);
      await loadFixtures(url, count);
      const before = await contentOf(url);
      expect(before.get('scaling_events')?.length).toBeGreaterThanOrEqual(7);

      expect(await migrate(url)).toEqual(migrations.slice(count).map((name) => name.replace('.sql', '')));
      const after = await contentOf(url);
      for (const [table, rows] of before) {
        const now = new Map(after.get(table)?.map((row) => [identity(table, row), row]));
        expect([table, now.size]).toEqual([table, rows.length]);
        for (const row of rows) expect(now.get(identity(table, row))).toMatchObject(row);
      }
      expect(await schemaOf(url)).toEqual(await schemaOf(fresh));
      expect(await verifyDatabase(url)).toMatchObject({ ok: true, findings: [] });
      await decideAndExecute(url);
      expect(await verifyDatabase(url)).toMatchObject({ ok: true, findings: [] });
    },
  );
});

/** The API and a worker take up the work on what was there. */
async function decideAndExecute(url: string): Promise<void> {
  aws.createGroup({
    name: 'web',
    region: 'us-east-1',
    min: 1,
    max: 20,
    desired: 4,
    instanceType: 'm5.large',
  });
  await using(url, (client) => client.query(`update resources set mode = 'manual' where mode = 'auto'`));
  const api = await startTestApi({}, async ({ redis }) => ({ database: url, redis }));
  const environment = {
    ...api.environment,
    ...awsEnvironment(aws),
    WORKER_QUEUES: 'decide,execute-aws,forecast',
  };
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  const worker = await startTestWorker(environment);
  try {
    const client = await api.client(['read', 'decide', 'execute']);
    const wait = { prefer: 'wait=20' };
    const decided = await client.post('/scale/decide', { resource_id: web }, wait);
    expect(decided.body).toMatchObject({ decision_type: 'scaleup', current_instances: 4 });
    const executed = await client.post('/scale/execute', { decision_id: decided.body.id }, wait);
    expect(executed.body).toMatchObject({ success: true, event: { previous_instances: 4 } });
    for (const path of ['/scale/history', '/scale/decisions', '/jobs', '/resources'])
      expect((await client.get(path)).status).toBe(200);
  } finally {
    await worker.close();
    await api.close();
  }
}

describe('migrating', () => {
  it('does nothing the second time', async () => {
    const before = await schemaOf(fresh);
    expect(await migrate(fresh)).toEqual([]);
    expect(await schemaOf(fresh)).toEqual(before);
  });

  it('is safe from two processes at once: one does the work, the other waits and finds it done', async () => {
    const url = await emptyDatabase();
    // A user may be limited, as behind a pooler: waiting for the other one is not.
    await admin.query(`alter database ${databases.at(-1)} set lock_timeout = '50ms'`);
    const program = join(projectRoot(), 'dist/shared/db/migrate.js');
    const run = (): Promise<{ code: number | null; output: string }> =>
      new Promise((resolve) => {
        const child: ChildProcess = spawn(process.execPath, [program], {
          env: { ...process.env, DATABASE_URL: url },
        });
        let output = '';
        for (const stream of [child.stdout, child.stderr])
          stream?.on('data', (chunk: Buffer) => {
            output += chunk.toString();
          });
        child.once('close', (code) => resolve({ code, output }));
      });
    const runs = await Promise.all([run(), run()]);
    expect(runs.map((one) => one.code)).toEqual([0, 0]);
    expect(runs.map((one) => one.output.split(' ').slice(0, 2).join(' ')).toSorted()).toEqual([
      'migrate: applied',
      'migrate: nothing',
    ]);
    expect(await schemaOf(url)).toEqual(await schemaOf(fresh));
  });

  it('needs no more than the owner of the database, who then serves as one user for everything', async () => {
    const name = `owner_${randomUUID().replaceAll('-', '')}`;
    const url = new URL(await emptyDatabase());
    const database = url.pathname.slice(1);
    await admin.query(`create role ${name} login password 'owner' nosuperuser nocreaterole nobypassrls`);
    await admin.query(`alter database ${database} owner to ${name}`);
    url.username = name;
    url.password = 'owner';
    try {
      expect(await migrate(url.href)).toHaveLength(migrations.length);
      await loadFixtures(url.href, migrations.length);
      expect(await verifyDatabase(url.href)).toMatchObject({ ok: true });
      await using(url.href, async (client) => {
        for (const sql of [
          'delete from audit_log',
          'update scaling_events set seq = default',
          'truncate audit_log',
        ])
          await expect(client.query(sql)).rejects.toThrow();
      });
    } finally {
      await admin.query(`drop database ${database} with (force)`);
      await admin.query(`drop role ${name}`);
    }
  });

  it('only goes forward, and what is released never changes', () => {
    for (const name of migrations)
      expect(readFileSync(join(migrationsDir, name), 'utf8')).not.toMatch(/^\s*--+\s*down\s+migration/im);
    const hash = (name: string) =>
      createHash('sha256')
        .update(readFileSync(join(migrationsDir, name)))
        .digest('hex')
        .slice(0, 16);
    // Those that databases out there may have: a migration's line is added here once the commit with it has left the house.
    expect(Object.fromEntries(migrations.map((name) => [name, hash(name)]))).toMatchObject({
      '0001_initial.sql': '1070efbcce392b85',
      '0002_forecasts.sql': 'b3f3ff42d6e428a2',
      '0003_protection.sql': '43a83d4c789c35a7',
      '0004_audit_chain.sql': '3acbf9a605bd87e8',
      '0005_key_selectors.sql': '71a01fb7b21cfa5d',
      '0006_sample_units.sql': 'c8a3db6aa7a1acad',
      '0007_jobs_autovacuum.sql': 'f710df67de67c222',
    });
  });
});
