import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { RateLimit } from '../../api/middleware/rate-limit.ts';
import { createProducerConnection } from '../../shared/queues/connections.ts';
import { forFile } from '../support/for-file.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { newGroup, refusal, startTestApi } from '../support/test-api.ts';

let database!: TcpProxy;
let redis!: TcpProxy;
const api = forFile(
  await startTestApi({ MAX_WAITING_JOBS: '40' }, async (urls) => {
    database = forFile(await startTcpProxy(urls.database));
    redis = forFile(await startTcpProxy(urls.redis));
    return { database: database.url, redis: redis.url };
  }),
);
const client = await api.client();

const post = (path: string, body: unknown, idempotencyKey?: string) =>
  client.post(path, body, idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey });
const countOf = async (sql: string, values: unknown[] = []): Promise<number> =>
  (await api.pool.query<{ n: number }>(sql, values)).rows[0]?.n ?? -1;

const retryAfter = (answer: { headers: Headers }): number => Number(answer.headers.get('retry-after'));

describe('an Idempotency-Key on a request that starts no job', () => {
  it('gives the same answer again, headers and all, and creates once', async () => {
    const body = newGroup();
    const first = await post('/resources', body, 'create-1');
    const again = await post('/resources', body, 'create-1');
    expect(first.status).toBe(201);
    expect(again).toMatchObject({ status: 201, body: first.body });
    expect(again.headers.get('etag')).toBe(first.headers.get('etag'));
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    const named = 'select count(*)::integer as n from resources where name = $1';
    expect(await countOf(named, [body.name])).toBe(1);
  });

  it('refuses another body under the same key, and changes nothing', async () => {
    const body = newGroup();
    await post('/resources', body, 'create-2');
    const other = newGroup();
    expect(await post('/resources', other, 'create-2')).toMatchObject(refusal(422, 'idempotency_key_reused'));
    const named = 'select count(*)::integer as n from resources where name = $1';
    expect(await countOf(named, [other.name])).toBe(0);
  });

  it('has one effect however many come at once', async () => {
    const body = newGroup();
    const answers = await Promise.all(Array.from({ length: 20 }, () => post('/resources', body, 'create-3')));
    const statuses = answers.map((answer) => answer.status);
    expect(new Set(statuses).size).toBeLessThanOrEqual(2);
    expect(statuses).toContain(201);
    for (const answer of answers)
      if (answer.status !== 201) {
        expect(answer).toMatchObject(refusal(409, 'request_in_progress'));
        expect(answer.headers.get('retry-after')).toBe('1');
      }
    expect((await post('/resources', body, 'create-3')).body.id).toBe(
      answers.find((answer) => answer.status === 201)?.body.id,
    );
  });

  it('is free again after a refusal, so that the corrected request may use it', async () => {
    const id = await client.createGroup();
    const sample = { timestamp: new Date().toISOString(), cpu: 50, instances: 4 };
    const wrong = await post(`/resources/${randomUUID()}/metrics`, sample, 'samples-1');
    expect(wrong.status).toBe(404);
    expect(await post(`/resources/${id}/metrics`, sample, 'samples-1')).toMatchObject({
      status: 200,
      body: { inserted: 1, updated: 0 },
    });
    expect(await post(`/resources/${id}/metrics`, sample, 'samples-1')).toMatchObject({
      status: 200,
      body: { inserted: 1, updated: 0 },
    });
    const estimate = () => post('/cost/estimate', { resource_id: randomUUID(), instance_count: 1 }, 'cost-1');
    for (const answer of [await estimate(), await estimate()]) expect(answer.status).toBe(404);
  });

  it('never repeats a secret, and stores none', async () => {
    const body = { name: 'ci', scopes: ['read'] };
    const first = await post('/keys', body, 'key-1');
    expect(first.status).toBe(201);
    expect(await post('/keys', body, 'key-1')).toMatchObject(refusal(409, 'secret_shown_once'));
    const secret = first.body.key.split('_')[3];
    const { rows } = await api.pool.query('select * from idempotency_keys');
    expect(JSON.stringify(rows)).not.toContain(secret);
  });

  it.each(['', ' ', 'ä', 'x'.repeat(256)])('refuses the key %j', async (given) => {
    const answer = await client.post('/resources', newGroup(), {
      'idempotency-key': Buffer.from(given, 'utf8').toString('latin1'),
    });
    expect(answer).toMatchObject(refusal(400, 'invalid_idempotency_key'));
  });

  it('left by a process that died is free after a minute', async () => {
    const body = newGroup();
    await post('/resources', body, 'create-9');
    const { pool } = api;
    const dead = `update idempotency_keys set response_status = null, created_at = now() - $1 * interval '1 second' where idempotency_key = 'create-9'`;
    await pool.query(dead, [30]);
    expect((await post('/resources', body, 'create-9')).body.code).toBe('request_in_progress');
    await pool.query(dead, [61]);
    expect((await post('/resources', newGroup(), 'create-9')).status).toBe(422);
    expect((await post('/resources', body, 'create-9')).body.code).toBe('resource_exists');
  });
});

describe('rotating a key', () => {
  it('makes another with the same scopes, and ends the old one after the overlap', async () => {
    const old = (await post('/keys', { name: 'agent', scopes: ['read', 'decide'] })).body;
    const made = await post(`/keys/${old.id}/rotate`, { overlap_seconds: 600 });
    expect(made).toMatchObject({ status: 201, body: { name: 'agent', scopes: ['read', 'decide'] } });
    expect(made.body.key).not.toBe(old.key);
    for (const each of [old.key, made.body.key]) expect((await api.as(each).get('/jobs')).status).toBe(200);
    const seconds = `select extract(epoch from expires_at - now())::integer as n from api_keys where id = $1`;
    expect(await countOf(seconds, [old.id])).toBeLessThanOrEqual(600);
    expect(await countOf(seconds, [made.body.id])).toBeGreaterThan(80 * 86_400);
    const entry = `select count(*)::integer as n from audit_log where action = 'key.rotated' and subject = $1`;
    expect(await countOf(entry, [old.id])).toBe(1);
    expect((await post(`/keys/${'0'.repeat(12)}/rotate`, {})).status).toBe(404);
    expect((await post(`/keys/${old.id}/rotate`, { overlap_seconds: 86_401 })).status).toBe(400);
  });

  it('without an overlap ends it at once', async () => {
    const old = (await post('/keys', { name: 'leaked', scopes: ['read'] })).body;
    await post(`/keys/${old.id}/rotate`, { overlap_seconds: 0 });
    expect((await api.as(old.key).get('/jobs')).status).toBe(401);
  });
});

describe('too many waiting jobs', () => {
  it('refuse new ones with 503 and Retry-After, before anything is written, and pass', async () => {
    const id = await client.createGroup();
    const waiting = `select count(*)::integer as n from jobs where status = 'queued'`;
    // Nobody works here. The gate looks once a second.
    await post('/scale/decide/batch', { resource_ids: Array.from({ length: 45 }, () => id) });
    await expect
      .poll(async () => (await post('/scale/decide', { resource_id: id })).status, { timeout: 5_000 })
      .toBe(503);
    const before = await countOf(waiting);
    const refused = await post('/scale/decide', { resource_id: id });
    expect(refused).toMatchObject(refusal(503, 'queue_full'));
    // Nobody works here, so the backlog will never drain: a minute, give or take half.
    await expect
      .poll(async () => retryAfter(await post('/scale/decide', { resource_id: id })), { timeout: 10_000 })
      .toBeGreaterThan(20);
    expect(retryAfter(await post('/scale/decide', { resource_id: id }))).toBeLessThanOrEqual(90);
    expect((await post('/scale/decide/batch', { resource_ids: [id] })).status).toBe(503);
    expect(await countOf(waiting)).toBe(before);
    // Carrying out is not held back by questions: this one is refused because there is no such decision.
    expect((await post('/scale/execute', { decision_id: randomUUID() })).status).toBe(404);
    // Reading and posting samples go on.
    expect((await client.get('/jobs')).status).toBe(200);
    await api.pool.query('delete from jobs');
    await expect
      .poll(async () => (await post('/scale/decide', { resource_id: id })).status, { timeout: 5_000 })
      .toBe(202);
    await api.pool.query('delete from jobs');
  });
});

describe('readiness', () => {
  it('says what is missing', async () => {
    const { pool } = api;
    const ready = () => api.get('/ready');
    expect(await ready()).toMatchObject({
      status: 503,
      body: {
        status: 'not_ready',
        reasons: [expect.stringContaining('no worker')],
        postgres: 'ok',
        redis: 'ok',
        workers: 0,
      },
    });
    await pool.query(
      `insert into worker_heartbeats (worker_id, queues, version) values ('w', '{decide}', '0')`,
    );
    expect(await ready()).toMatchObject({
      status: 200,
      body: {
        status: 'degraded',
        reasons: ['no worker serves execute-aws, execute-kubernetes, forecast, upkeep'],
      },
    });
    await pool.query(
      `update worker_heartbeats set queues = '{decide,execute-aws,execute-kubernetes,forecast,upkeep}'`,
    );
    expect(await ready()).toMatchObject({ status: 200, body: { status: 'ready', reasons: [], workers: 1 } });
  });
});

describe('the rate limit', () => {
  it('is counted in leases, holds for every process together, and says how long to wait', async () => {
    const { REDIS_URL, QUEUE_PREFIX } = api.environment;
    const client = createProducerConnection(REDIS_URL as string, () => {});
    await new Promise((resolve) => client.once('ready', resolve));
    const limits = [1, 2].map(() => new RateLimit(client, `${QUEUE_PREFIX}:test-limit`, 400));
    let passed = 0;
    const attempts = Array.from({ length: 500 }, (_, index) =>
      (limits[index % 2] as RateLimit).consume('a').then(
        () => passed++,
        (error) => expect(error).toMatchObject({ code: 'rate_limited', httpStatus: 429 }),
      ),
    );
    await Promise.all(attempts);
    // A lease is half a percent: 2 requests.
    expect(passed).toBeGreaterThanOrEqual(396);
    expect(passed).toBeLessThanOrEqual(400);
    await (limits[0] as RateLimit).consume('b');
    client.disconnect();
  });
});

// Last: they cut the lines.
describe('with Redis away', () => {
  it('still accepts jobs, which wait in PostgreSQL', async () => {
    const id = await client.createGroup();
    redis.cut();
    const startedAt = performance.now();
    const accepted = await post('/scale/decide', { resource_id: id });
    expect(accepted.status).toBe(202);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    expect((await client.get(`/jobs/${accepted.body.job_id}`)).body.status).toBe('queued');
    redis.mend();
  });
});

describe('with PostgreSQL away', () => {
  it('refuses quickly with 503 and Retry-After, known keys and unknown ones alike', async () => {
    const id = await client.createGroup();
    const other = await api.key(['read']);
    database.cut();
    for (const call of [
      () => post('/scale/decide', { resource_id: id }),
      () => post('/resources', newGroup(), 'while-away'),
      () => api.as(other).get('/jobs'),
    ]) {
      const startedAt = performance.now();
      const answer = await call();
      expect(answer).toMatchObject(refusal(503, 'database_unavailable'));
      expect(answer.headers.get('retry-after')).toBe('5');
      expect(performance.now() - startedAt).toBeLessThan(3_000);
    }
    expect((await api.get('/health')).status).toBe(200);
    expect(await api.get('/ready')).toMatchObject({ status: 503, body: { postgres: 'away' } });
    database.mend();
    await expect.poll(async () => (await post('/scale/decide', { resource_id: id })).status).toBe(202);
  });
});
