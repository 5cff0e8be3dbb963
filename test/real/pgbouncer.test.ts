import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { createPool, isDatabaseAway, withTransaction } from '../../shared/db/pool.ts';
import { projectRoot } from '../../shared/project-root.ts';
import type { AwsSimulator } from '../simulators/aws/server.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws, TestWorkers } from '../support/worker-rig.ts';
import { type PgBouncer, startPgBouncer } from './pgbouncer.ts';

const folder = mkdtempSync(join(tmpdir(), 'scaler-pgbouncer-'));
const name = `pooled_${randomUUID().replaceAll('-', '')}`;
const passwords = { scaler_api_login: randomUUID(), scaler_worker_login: randomUUID() };
const direct = new URL(inject('databaseUrl'));
direct.pathname = `/${name}`;

let admin: pg.Client;
let bouncer: PgBouncer;
let aws: AwsSimulator;
let api: TestApi;
const workers = new TestWorkers(() => ({
  ...api.environment,
  DATABASE_URL: pooledUrl('scaler_worker_login'),
  LOG_LEVEL: 'info',
  ...awsEnvironment(aws),
}));

/** What `DATABASE_URL` is for a user whose connections go through the pooler. */
function pooledUrl(user: 'scaler_api_login' | 'scaler_worker_login' | 'owner'): string {
  const url = new URL(direct);
  url.port = String(bouncer.port);
  url.pathname = '/pooled';
  if (user !== 'owner') {
    url.username = user;
    url.password = passwords[user];
  }
  return url.href;
}

/** Runs one of our programs as the database's owner. @throws with what it wrote when it ends with another status than 0. */
async function run(program: string, ...args: string[]): Promise<string> {
  const env = {
    ...process.env,
    DATABASE_URL: pooledUrl('owner'),
    API_DATABASE_PASSWORD: passwords.scaler_api_login,
    WORKER_DATABASE_PASSWORD: passwords.scaler_worker_login,
    API_KEY_PEPPER: 'a pepper for tests',
  };
  return (await promisify(execFile)(process.execPath, [join(projectRoot(), program), ...args], { env }))
    .stdout;
}

beforeAll(async () => {
  admin = new pg.Client(inject('databaseUrl'));
  await admin.connect();
  await admin.query(`create database ${name}`);
  const owner = { [direct.username]: direct.password };
  bouncer = await startPgBouncer(direct, { ...passwords, ...owner }, folder);
  aws = await startQuickAws();
});
afterAll(async () => {
  await workers.end();
  await api?.close();
  await aws?.close();
  await bouncer?.stop();
  await admin.query(`drop database ${name} with (force)`);
  await admin.query(`drop role if exists ${Object.keys(passwords)}`);
  await admin.end();
  rmSync(folder, { recursive: true, force: true });
});

describe("behind Debian's PgBouncer in transaction mode", () => {
  it('migrates once, however many do so at a time, and leaves no lock behind', async () => {
    const both = await Promise.all([run('dist/shared/db/migrate.js'), run('dist/shared/db/migrate.js')]);
    expect(both.filter((output) => output.includes('applied 0001'))).toHaveLength(1);
    expect(both.filter((output) => output.includes('nothing to do'))).toHaveLength(1);
    const { rows } = await admin.query(
      `select 1 from pg_locks join pg_database d on d.oid = database where locktype = 'advisory' and datname = $1`,
      [name],
    );
    expect(rows).toEqual([]);
  });

  it('serves everything from a key to an audited execution, and many requests at once', async () => {
    const made = await run(
      ...(['dist/api/keys/cli.js', 'create', '--name', 'all'] as const),
      ...['--scopes', 'admin,read,decide,execute'],
    );
    const key = made.split('\n')[0] as string;
    api = await startTestApi({ DATABASE_URL: pooledUrl('scaler_api_login') });
    const { output } = workers.startProcess();
    const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
      api.call(method, path, { key, ...(body === undefined ? {} : { body }), headers });
    await expect
      .poll(() => call('GET', '/ready'), { timeout: 20_000 })
      .toMatchObject({ status: 200, body: { postgres: 'ok', workers: 1 } });

    aws.createGroup({
      name: 'web',
      region: 'us-east-1',
      min: 1,
      max: 20,
      desired: 4,
      instanceType: 'm5.large',
    });
    const { body: resource } = await call('POST', '/resources', {
      ...{ name: 'web', resource_type: 'ec2', cloud_provider: 'aws', region: 'us-east-1' },
      ...{ min_instances: 1, max_instances: 20, current_instances: 4, cooldown_period: 0 },
    });
    const samples = Array.from({ length: 10 }, (_, n) => ({
      timestamp: new Date(Date.now() - n * 60_000).toISOString(),
      ...{ cpu: 95, instances: 4 },
    }));
    expect((await call('POST', `/resources/${resource.id}/metrics`, { samples })).status).toBeLessThan(300);

    const wait = { prefer: 'wait=20' };
    const decide = { resource_id: resource.id, use_prediction: false };
    const { body: decision } = await call('POST', '/scale/decide', decide, wait);
    expect(decision).toMatchObject({ decision_type: 'scaleup', current_instances: 4 });
    const executed = await call('POST', '/scale/execute', { decision_id: decision.id }, wait);
    expect(executed).toMatchObject({ status: 200, body: { success: true, event: { action: 'ScaleUp' } } });
    expect(aws.group('web')).toMatchObject({ desired: decision.target_instances });

    const answers = await Promise.all(
      Array.from({ length: 300 }, (_, n) =>
        n % 3 === 0
          ? call('POST', '/scale/decide', decide, { 'idempotency-key': `many-${n % 60}` })
          : call('GET', n % 3 === 1 ? `/resources/${resource.id}` : '/scale/history'),
      ),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 202]));
    const jobs = [...new Set(answers.flatMap(({ body }) => body.job_id ?? []))];
    expect(jobs).toHaveLength(20);
    const ends = async () =>
      new Set(await Promise.all(jobs.map(async (id) => (await call('GET', `/jobs/${id}`)).body.status)));
    await expect.poll(ends, { timeout: 20_000 }).toEqual(new Set(['completed']));
    expect(await run('dist/api/audit/verify.js')).toContain('nothing was changed');
    expect(output()).not.toMatch(/"level":(40|50|60)/);
  });

  it('limits each transaction, and keeps nothing in sessions that others get', async () => {
    const pool = createPool(pooledUrl('owner'), { name: 'test', size: 4 });
    const show = {
      name: 'show',
      text: `select current_setting('statement_timeout') as s, current_setting('lock_timeout') as l`,
    };
    const limits = () => withTransaction(pool, async (tx) => (await tx.query(show)).rows[0]);
    expect(await Promise.all([limits(), limits(), limits()])).toEqual(Array(3).fill({ s: '5s', l: '2s' }));
    const outside = await Promise.all([pool.query(show), pool.query(show), pool.query(show)]);
    expect(outside.map(({ rows }) => rows[0])).toEqual(Array(3).fill({ s: '0', l: '0' }));
    expect((await pool.query('select name from pg_prepared_statements')).rows).toEqual([]);
    await pool.end();
  });

  it.each([
    ['/unknown', {}, 'there is no such database'],
    ['/elsewhere', {}, 'there is no such database'],
    ['/pooled', { password: 'wrong' }, 'wrong user or password'],
    ['/pooled', { username: 'nobody' }, 'wrong user or password'],
  ])('says why it gets no session from %s with %j', async (pathname, wrong, reason) => {
    const url = Object.assign(new URL(pooledUrl('owner')), wrong, { pathname });
    const pool = createPool(url.href, { name: 'test', size: 1 });
    const failure = await pool.query('select 1').catch((error: unknown) => error);
    await pool.end();
    expect(isDatabaseAway(failure)).toBe(true);
    expect((failure as Error).message).toBe(`PostgreSQL gives us no session: ${reason} (08P01)`);
  });
});
