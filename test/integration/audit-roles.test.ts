import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { withHistorySnapshot } from '../../api/audit/history-store.ts';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { applicationRoles, applyGrants, privileges } from '../../shared/db/grants.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { type RunningWorker, startWorker } from '../../worker/compose.ts';
import { readWorkerConfig } from '../../worker/config.ts';
import { decideDueResources, expireOldRows } from '../../worker/upkeep/chores.ts';
import type { AwsSimulator } from '../simulators/aws/server.ts';
import { type ApplicationUser, createApplicationUser } from '../support/application-user.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws } from '../support/worker-rig.ts';

type Role = (typeof applicationRoles)[number];

let owner: pg.Client;
let ownerUrl: string;
let api: TestApi;
let aws: AwsSimulator;
let worker: RunningWorker;
let workerPool: pg.Pool;
const users = new Map<Role, ApplicationUser>();

beforeAll(async () => {
  api = await startTestApi({}, async (urls) => {
    ownerUrl = urls.database;
    for (const role of applicationRoles) users.set(role, await createApplicationUser(ownerUrl, role));
    return { database: urlOf('scaler_api'), redis: urls.redis };
  });
  owner = new pg.Client(ownerUrl);
  await owner.connect();
  aws = await startQuickAws();
  const environment = {
    ...api.environment,
    DATABASE_URL: urlOf('scaler_worker'),
    ...awsEnvironment(aws),
    OBSERVE_INTERVAL_SECONDS: '1',
  };
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  worker = await startWorker(readWorkerConfig(environment));
  workerPool = new pg.Pool({ connectionString: urlOf('scaler_worker'), max: 1 });
});
afterAll(async () => {
  await worker?.close(5_000);
  await workerPool?.end();
  await aws?.close();
  await owner?.end();
  await api?.close();
  for (const user of users.values()) await user.drop();
  vi.unstubAllEnvs();
});

const urlOf = (role: Role) => (users.get(role) as ApplicationUser).url;

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
    const key = await api.key(['read', 'decide', 'execute', 'admin']);
    const name = `asg-${randomUUID().slice(0, 8)}`;
    aws.createGroup({ name, region: 'us-east-1', min: 1, max: 20, desired: 4, instanceType: 'm5.large' });
    const created = await api.call('POST', '/resources', {
      key,
      body: {
        ...{
          name,
          resource_type: 'ec2',
          cloud_provider: 'aws',
          region: 'us-east-1',
          min_instances: 1,
          max_instances: 20,
        },
        ...{ current_instances: 4, target_cpu: 70, target_memory: 80, cooldown_period: 300 },
      },
    });
    expect(created.status).toBe(201);
    const id = created.body.id as string;
    const now = Date.now();
    const samples = Array.from({ length: 10 }, (_, n) => ({
      timestamp: new Date(now - n * 60_000).toISOString(),
      cpu: 95,
      instances: 4,
    }));
    expect((await api.call('POST', `/resources/${id}/metrics`, { key, body: { samples } })).status).toBe(200);
    const headers = { prefer: 'wait=20', 'idempotency-key': randomUUID() };
    const decided = await api.call('POST', '/scale/decide', {
      ...{ key, headers },
      body: { resource_id: id, use_prediction: true },
    });
    expect(decided.body).toMatchObject({ decision_type: 'scaleup' });
    const executed = await api.call('POST', '/scale/execute', {
      key,
      body: { decision_id: decided.body.id },
      headers: { prefer: 'wait=20' },
    });
    expect(executed.body).toMatchObject({ success: true });
    expect(aws.ledger.writes().at(-1)).toMatchObject({ from: 4, to: decided.body.target_instances });

    // What else they do of themselves or are asked for.
    const etag = (await api.call('GET', `/resources/${id}`, { key })).headers.get('etag') as string;
    const patch = { key, body: { max_instances: 30, mode: 'recommend' }, headers: { 'if-match': etag } };
    expect((await api.call('PATCH', `/resources/${id}`, patch)).status).toBe(200);
    const stop = { key, body: { stopped: true, reason: 'a test' } };
    expect((await api.call('PUT', `/controls/resource:${id}`, stop)).status).toBe(200);
    for (const path of [
      '/ready',
      '/controls',
      '/jobs',
      '/scale/decisions',
      '/scale/history',
      `/resources/${id}/forecast`,
    ])
      expect([path, (await api.call('GET', path, { key })).status]).toEqual([path, 200]);
    for (const path of [
      '/audit',
      '/audit/export?table=events',
      '/audit/export?table=audit',
      '/audit/heads',
    ]) {
      const answer = await fetch(api.url + path, { headers: { authorization: `Bearer ${key}` } });
      expect([path, answer.status, (await answer.text()).length > 100]).toEqual([path, 200, true]);
    }
    const version = { key, body: { min_worker_version: 2, reason: 'a test' } };
    expect((await api.call('PUT', '/settings/min-worker-version', version)).status).toBe(200);
    const made = await api.call('POST', '/keys', { key, body: { name: 'x', scopes: ['read'] } });
    expect((await api.call('POST', `/keys/${made.body.id}/rotate`, { key, body: {} })).status).toBe(201);
    expect((await api.call('DELETE', `/keys/${made.body.id}`, { key })).status).toBe(204);
    expect(await decideDueResources(workerPool, api.api.deps.queues)).toBeGreaterThanOrEqual(0);
    expect(await expireOldRows(workerPool, { sampleDays: 30, historyDays: 90 })).toBeGreaterThanOrEqual(0);
    expect((await api.call('DELETE', `/resources/${id}`, { key })).status).toBe(204);

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
