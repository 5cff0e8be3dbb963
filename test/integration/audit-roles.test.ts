import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { withHistorySnapshot } from '../../api/audit/history-store.ts';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { applicationRoles, applyGrants, privileges } from '../../shared/db/grants.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { decideDueResources, expireOldRows } from '../../worker/upkeep/chores.ts';
import { type ApplicationUser, createApplicationUser } from '../support/application-user.ts';
import { forFile } from '../support/for-file.ts';
import { startTestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws, startTestWorker } from '../support/worker-rig.ts';

type Role = (typeof applicationRoles)[number];

const users = new Map<Role, ApplicationUser>();
const urlOf = (role: Role) => (users.get(role) as ApplicationUser).url;

let ownerUrl!: string;
const api = forFile(
  await startTestApi({}, async (urls) => {
    ownerUrl = urls.database;
    for (const role of applicationRoles) {
      const user = await createApplicationUser(ownerUrl, role);
      forFile({ close: user.drop });
      users.set(role, user);
    }
    return { database: urlOf('scaler_api'), redis: urls.redis };
  }),
);
const owner = new pg.Client(ownerUrl);
await owner.connect();
forFile({ close: () => owner.end() });
const aws = forFile(await startQuickAws());
const environment = {
  ...api.environment,
  DATABASE_URL: urlOf('scaler_worker'),
  ...awsEnvironment(aws),
  OBSERVE_INTERVAL_SECONDS: '1',
};
for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
afterAll(() => {
  vi.unstubAllEnvs();
});
forFile(await startTestWorker(environment));
const workerPool = new pg.Pool({ connectionString: urlOf('scaler_worker'), max: 1 });
forFile({ close: () => workerPool.end() });

async function as<T>(role: Role, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(urlOf(role));
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

describe('the application roles', () => {
  it('have every table of the schema on their list, and no table that is not there', async () => {
    const { rows } = await owner.query<{ relname: string }>(
      `select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm')`,
    );
    expect(rows.map((row) => row.relname).toSorted()).toEqual(Object.keys(privileges).toSorted());
  });

  it('get what the list says and nothing else, whatever they had before', async () => {
    const all = `select grantee, table_name, privilege_type, column_name from information_schema.column_privileges
      where grantee like 'scaler\\_%' order by 1, 2, 3, 4`;
    const before = (await owner.query(all)).rows;
    await owner.query('begin');
    await owner.query('grant all on all tables in schema public to scaler_api, scaler_worker');
    await applyGrants(owner);
    const after = (await owner.query(all)).rows;
    await owner.query('rollback');
    expect(after).toEqual(before);
    expect(
      before.filter((row) => row.table_name === 'scaling_events' && row.privilege_type === 'UPDATE'),
    ).toEqual([]);
  });

  it('carry a decision and its execution through, with the API and the worker logged in as nothing more', async () => {
    const client = await api.client();
    const name = `asg-${randomUUID().slice(0, 8)}`;
    aws.createGroup({ name, region: 'us-east-1', min: 1, max: 20, desired: 4, instanceType: 'm5.large' });
    const id = await client.createGroup({ name, region: 'us-east-1' });
    const now = Date.now();
    const samples = Array.from({ length: 10 }, (_, n) => ({
      timestamp: new Date(now - n * 60_000).toISOString(),
      cpu: 95,
      instances: 4,
    }));
    expect((await client.post(`/resources/${id}/metrics`, { samples })).status).toBe(200);
    const headers = { prefer: 'wait=20', 'idempotency-key': randomUUID() };
    const decided = await client.post('/scale/decide', { resource_id: id, use_prediction: true }, headers);
    expect(decided.body).toMatchObject({ decision_type: 'scaleup' });
    const executed = await client.post(
      '/scale/execute',
      { decision_id: decided.body.id },
      { prefer: 'wait=20' },
    );
    expect(executed.body).toMatchObject({ success: true });
    expect(aws.ledger.writes().at(-1)).toMatchObject({ from: 4, to: decided.body.target_instances });

    // What else they do of themselves or are asked for.
    const etag = (await client.get(`/resources/${id}`)).headers.get('etag') as string;
    const patch = { max_instances: 30, mode: 'recommend' };
    expect((await client.patch(`/resources/${id}`, patch, { 'if-match': etag })).status).toBe(200);
    const stop = { stopped: true, reason: 'a test' };
    expect((await client.put(`/controls/resource:${id}`, stop)).status).toBe(200);
    for (const path of [
      '/ready',
      '/controls',
      '/jobs',
      '/scale/decisions',
      '/scale/history',
      `/resources/${id}/forecast`,
    ])
      expect([path, (await client.get(path)).status]).toEqual([path, 200]);
    for (const path of [
      '/audit',
      '/audit/export?table=events',
      '/audit/export?table=audit',
      '/audit/heads',
    ]) {
      const { status, body } = await client.get(path);
      expect([path, status, JSON.stringify(body).length > 100]).toEqual([path, 200, true]);
    }
    const version = { min_worker_version: 2, reason: 'a test' };
    expect((await client.put('/settings/min-worker-version', version)).status).toBe(200);
    const made = await client.post('/keys', { name: 'x', scopes: ['read'] });
    expect((await client.post(`/keys/${made.body.id}/rotate`, {})).status).toBe(201);
    expect((await client.delete(`/keys/${made.body.id}`)).status).toBe(204);
    expect(await decideDueResources(workerPool, api.api.deps.queues)).toBeGreaterThanOrEqual(0);
    expect(await expireOldRows(workerPool, { sampleDays: 30, historyDays: 90 })).toBeGreaterThanOrEqual(0);
    expect((await client.delete(`/resources/${id}`)).status).toBe(204);

    await as('scaler_auditor', async (auditor) => {
      const { rows } = await auditor.query('select count(*)::integer as n from scaling_events');
      expect(rows[0].n).toBeGreaterThanOrEqual(2);
    });
    const result = await verifyDatabase(urlOf('scaler_auditor'));
    expect(result).toMatchObject({ ok: true, findings: [] });
    expect(result.rows).toBeGreaterThan(5);
  });

  it('read the history for as long as it takes, whatever their users are limited to', async () => {
    const url = urlOf('scaler_auditor');
    await owner.query(`alter role ${new URL(url).username} set statement_timeout = '5s'`);
    await withHistorySnapshot(url, async (client) => {
      const { rows } = await client.query('show statement_timeout');
      expect(rows).toEqual([{ statement_timeout: '0' }]);
    });
  });

  it.each(
    applicationRoles.flatMap((role) =>
      ['scaling_events', 'audit_log'].map((table) => [role, table] as const),
    ),
  )('%s cannot bend %s', async (role, table) => {
    const statements = [
      `update ${table} set actor = 'nobody'`,
      `delete from ${table}`,
      `truncate ${table}`,
      `alter table ${table} disable trigger all`,
      `alter table ${table} add column x text`,
      `drop trigger ${table}_append_only on ${table}`,
      `create trigger mine before insert on ${table} for each row execute function refuse_change()`,
      `drop table ${table}`,
      `set session_replication_role = replica`,
      `insert into ${table} (actor, chain_no) values ('ghost', 1)`,
      `insert into ${table} (actor, hash) values ('ghost', '')`,
      `update audit_heads set length = 0`,
      `delete from audit_heads`,
      `insert into audit_heads values ('events:x', 0, '')`,
      `create temporary table audit_log (resource_id uuid, id bigint, chain_no bigint, prev_hash bytea, hash bytea);
          create trigger mine before insert on audit_log for each row execute function audit_chain('audit')`,
      `create or replace function audit_chain() returns trigger language plpgsql as 'begin return new; end'`,
      `create table mine (x integer)`,
    ];
    await as(role, async (client) => {
      for (const sql of statements)
        await expect(client.query(sql), sql).rejects.toThrow(/permission denied|must be owner/);
    });
  });

  it.each<[Role, string]>([
    [
      'scaler_api',
      `insert into scaling_events (resource_id, phase, actor) values (gen_random_uuid(), 'outcome', 'api')`,
    ],
    ['scaler_api', `update attempts set state = 'succeeded'`],
    ['scaler_api', `delete from attempts`],
    ['scaler_api', `update resources set epoch = 0`],
    ['scaler_api', `update scaling_decisions set state = 'pending'`],
    ['scaler_api', `update jobs set status = 'queued'`],
    ['scaler_api', `delete from fleet_settings`],
    ['scaler_worker', `select secret_hash from api_keys`],
    ['scaler_worker', `select * from api_keys`],
    ['scaler_worker', `update api_keys set revoked_at = null`],
    ['scaler_worker', `insert into api_keys (id) values ('x')`],
    ['scaler_worker', `update resources set max_instances = 1000`],
    ['scaler_worker', `update controls set stopped = false`],
    ['scaler_worker', `update fleet_settings set min_worker_version = 1`],
    [
      'scaler_worker',
      `insert into scaling_events (resource_id, phase, actor, created_at) values (gen_random_uuid(), 'control', 'w', now())`,
    ],
    ['scaler_auditor', `insert into audit_log (actor, action) values ('x', 'y')`],
    ['scaler_auditor', `select * from api_keys`],
    ['scaler_auditor', `select * from resources`],
  ])('%s may not: %s', async (role, sql) => {
    await as(role, (client) => expect(client.query(sql)).rejects.toThrow(/permission denied/));
  });

  it('bend nothing even as the owner who forgets the triggers, or who plays a replica', async () => {
    for (const sql of [
      'update audit_log set actor = null',
      'delete from scaling_events',
      'truncate audit_log',
    ])
      await expect(owner.query(sql)).rejects.toThrow(/append-only/);
    await owner.query('set session_replication_role = replica');
    await expect(owner.query('delete from scaling_events')).rejects.toThrow(/append-only/);
    await owner.query('set session_replication_role = origin');
  });

  it('are what the users have whom migrating makes, whatever these had before', async () => {
    const names = ['scaler_api_login', 'scaler_worker_login'];
    const migrateWith = (password: string) =>
      promisify(execFile)(process.execPath, [join(projectRoot(), 'dist/shared/db/migrate.js')], {
        env: {
          ...process.env,
          DATABASE_URL: ownerUrl,
          API_DATABASE_PASSWORD: password,
          WORKER_DATABASE_PASSWORD: password,
        },
      });
    expect((await migrateWith('first')).stdout).toContain('scaler_api_login, scaler_worker_login may log in');
    await owner.query('alter role scaler_api_login createdb superuser');
    await migrateWith('second');
    for (const name of names) {
      const url = new URL(ownerUrl);
      url.username = name;
      url.password = 'second';
      const client = new pg.Client(url.href);
      await client.connect();
      try {
        const { rows } = await client.query(
          `select rolsuper, rolcreatedb, current_setting('statement_timeout') as limit from pg_roles where rolname = current_user`,
        );
        expect(rows).toEqual([{ rolsuper: false, rolcreatedb: false, limit: '5s' }]);
        await client.query('select count(*) from scaling_events');
        await expect(client.query(`update scaling_events set actor = 'nobody'`)).rejects.toMatchObject({
          code: '42501',
        });
        await expect(client.query('alter table audit_log disable trigger all')).rejects.toMatchObject({
          code: '42501',
        });
      } finally {
        await client.end();
      }
    }
    const login = new URL(ownerUrl);
    login.username = 'scaler_api_login';
    login.password = 'second';
    await promisify(execFile)(
      process.execPath,
      [join(projectRoot(), 'dist/api/keys/cli.js'), 'create', '--name', 'first', '--scopes', 'admin'],
      { env: { ...process.env, DATABASE_URL: login.href, API_KEY_PEPPER: 'a pepper for tests' } },
    );
    expect((await owner.query(`select scopes from api_keys where name = 'first'`)).rows).toEqual([
      { scopes: ['admin'] },
    ]);
    // Roles belong to the whole server.
    for (const name of names) await owner.query(`drop role ${name}`);
  });
});
