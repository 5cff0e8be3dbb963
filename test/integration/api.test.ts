import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { forFile } from '../support/for-file.ts';
import { seedDecision } from '../support/seed.ts';
import { newGroup, refusal, startTestApi } from '../support/test-api.ts';
import { readValue } from '../support/test-database.ts';
import { startTestWorker } from '../support/worker-rig.ts';

const api = forFile(await startTestApi());
forFile(await startTestWorker(api.environment, { WORKER_QUEUES: 'decide' }));
const admin = await api.client(['admin']);
const all = await api.client();

async function withSamples(cpu: number): Promise<string> {
  const id = await all.createGroup();
  const samples = Array.from({ length: 15 }, (_, index) => ({
    timestamp: new Date(Date.now() - index * 60_000).toISOString(),
    cpu,
    memory: 40,
    instances: 4,
  }));
  expect(await all.post(`/resources/${id}/metrics`, { samples })).toMatchObject({
    status: 200,
    body: { inserted: 15, updated: 0 },
  });
  return id;
}

describe('deciding', () => {
  it("answers 202 with the job, and the job ends with the decision in the platform's shape", async () => {
    const id = await withSamples(90);
    const accepted = await all.post('/scale/decide', { resource_id: id, use_prediction: false });
    expect(accepted).toMatchObject({
      status: 202,
      body: { status: 'queued', status_url: `/jobs/${accepted.body.job_id}` },
    });
    expect(accepted.headers.get('location')).toBe(`/jobs/${accepted.body.job_id}`);
    await expect
      .poll(async () => (await all.get(`/jobs/${accepted.body.job_id}`)).body.status, { timeout: 10_000 })
      .toBe('completed');
    const { body: job } = await all.get(`/jobs/${accepted.body.job_id}`);
    expect(Object.keys(job.result).sort()).toEqual(
      [
        'id',
        'resource_id',
        'decision_type',
        'current_instances',
        'target_instances',
        'reason',
        'estimated_cost',
        'confidence',
        'created_at',
        'executed',
        'explanation',
      ].sort(),
    );
    expect(job.result).toMatchObject({
      decision_type: 'scaleup',
      current_instances: 4,
      target_instances: 6,
      executed: false,
    });
    expect((await all.get(`/scale/decisions/${job.result.id}`)).body).toMatchObject({
      id: job.result.id,
      state: 'pending',
    });
  });

  it('waits when asked to', async () => {
    const id = await withSamples(90);
    const answer = await all.post('/scale/decide', { resource_id: id }, { prefer: 'wait=20' });
    expect(answer).toMatchObject({ status: 200, body: { resource_id: id, target_instances: 6 } });
    expect(answer.headers.get('preference-applied')).toBe('wait=20');
  });

  it('uses a prediction when asked to, and says so first', async () => {
    const id = await withSamples(50);
    await all.post(`/resources/${id}/predictions`, {
      timestamp: new Date(Date.now() + 60_000).toISOString(),
      predicted_cpu: 85,
      predicted_memory: 70,
    });
    const { body } = await all.post(
      '/scale/decide',
      { resource_id: id, use_prediction: true },
      { prefer: 'wait=20' },
    );
    expect(body.reason).toMatch(/^Predicted CPU: 85%, Memory: 70%/);
  });

  it('takes batches in order, and none of a batch with an unknown id', async () => {
    const id = await withSamples(90);
    const batch = await all.post('/scale/decide/batch', { resource_ids: Array(100).fill(id) });
    expect(batch).toMatchObject({ status: 202, body: { count: 100 } });
    await expect
      .poll(async () => (await all.get(`/jobs/${batch.body.job_ids[99]}`)).body.status, { timeout: 10_000 })
      .toBe('completed');
    expect(await all.post('/scale/decide/batch', { resource_ids: [id, randomUUID()] })).toMatchObject({
      status: 404,
      body: { code: 'resource_not_found', errors: [{ field: 'resource_ids[1]' }] },
    });
  });

  it('gives the same answer to the same key and body, and 422 to another body', async () => {
    const id = await withSamples(90);
    const headers = { 'idempotency-key': randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => all.post('/scale/decide', { resource_id: id }, headers)),
    );
    expect(new Set(answers.map((answer) => answer.body.job_id)).size).toBe(1);
    expect(answers.filter((answer) => answer.headers.get('idempotent-replayed') === 'true')).toHaveLength(19);
    expect(await all.post('/scale/decide', { resource_id: id, use_prediction: true }, headers)).toMatchObject(
      refusal(422, 'idempotency_key_reused'),
    );
  });
});

describe('executing', () => {
  it.each(['executed', 'expired', 'superseded'])('refuses a decision that is %s', async (state) => {
    const id = await all.createGroup();
    const decision = await seedDecision(api.pool, id, 4, 6);
    await api.pool.query(
      "update scaling_decisions set state = $2, executed = ($2 = 'executed') where id = $1",
      [decision, state],
    );
    expect(await all.post('/scale/execute', { decision_id: decision })).toMatchObject(
      refusal(409, `decision_${state}`),
    );
  });

  it('answers the same job while a decision is being executed, and keeps its resource', async () => {
    const id = await all.createGroup();
    const decision = await seedDecision(api.pool, id, 4, 6);
    const first = await all.post('/scale/execute', { decision_id: decision });
    const second = await all.post('/scale/execute', { decision_id: decision });
    expect(first.status).toBe(202);
    expect(second).toMatchObject({ status: 202, body: { job_id: first.body.job_id } });
    expect(await all.delete(`/resources/${id}`)).toMatchObject(refusal(409, 'resource_busy'));
  });
});

describe('resources', () => {
  it('are guarded by their ETag', async () => {
    const made = await all.post('/resources', newGroup());
    const path = `/resources/${made.body.id}`;
    const etag = made.headers.get('etag') as string;
    expect(made.headers.get('location')).toBe(path);
    expect((await all.patch(path, { max_instances: 30 })).status).toBe(428);
    const changed = await all.patch(path, { max_instances: 30 }, { 'if-match': etag });
    expect(changed).toMatchObject({ status: 200, body: { max_instances: 30, version: 2 } });
    expect((await all.patch(path, { max_instances: 40 }, { 'if-match': etag })).status).toBe(412);
    expect((await all.patch(path, { min_instances: 31 }, { 'if-match': '"2"' })).status).toBe(400);
    expect((await all.delete(path)).status).toBe(204);
    expect((await all.get(path)).status).toBe(404);
  });

  it('take 10,000 samples at once, replace what is sent again, and count the last of doubles', async () => {
    const id = await all.createGroup();
    const start = Date.parse('2026-01-01T00:00:00Z');
    const samples = Array.from({ length: 10_000 }, (_, index) => ({
      timestamp: new Date(start + index * 1_000).toISOString(),
      cpu: 50,
      instances: 3,
    }));
    expect(await all.post(`/resources/${id}/metrics`, { samples })).toMatchObject({
      status: 200,
      body: { inserted: 10_000, updated: 0 },
    });
    const again = [
      { ...samples[0], cpu: 60 },
      { ...samples[0], cpu: 70 },
    ];
    expect((await all.post(`/resources/${id}/metrics`, { samples: again })).body).toEqual({
      inserted: 0,
      updated: 1,
    });
    const read = await all.get(`/resources/${id}/metrics?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:01Z`);
    expect(read.body.samples).toMatchObject([{ cpu: 70 }]);
  });
});

describe('cost, operations and documents', () => {
  it('estimates at once, says where the price is from', async () => {
    const id = await all.createGroup({ hourly_price: 0.1 });
    const { body } = await all.post('/cost/estimate', { resource_id: id, instance_count: 3 });
    expect(body).toMatchObject({
      hourly_cost: 0.3,
      daily_cost: 7.2,
      monthly_cost: 219,
      delta_hourly_cost: -0.1,
      currency: 'USD',
      price_source: 'override',
    });
  });

  it('is alive, ready with a worker, and measured', async () => {
    expect((await api.get('/health')).body).toMatchObject({ status: 'healthy', service: 'scaler' });
    await expect.poll(async () => (await api.get('/ready')).status, { timeout: 10_000 }).toBe(200);
    const { body: metrics } = await all.get('/metrics');
    expect(metrics).toContain('scaler_http_request_duration_seconds');
    // This request's own, at least.
    expect(metrics).toMatch(/^scaler_http_connections [1-9]/m);
  });

  it('describes every route, and only with references that exist', async () => {
    const { body } = await api.get('/openapi.json');
    expect(body.openapi).toBe('3.1.0');
    for (const route of api.api.routes)
      expect(body.paths[route.path][route.method].operationId).toBe(route.operationId);
    const references = [...JSON.stringify(body).matchAll(/"\$ref":"([^"]+)"/g)].map(([, to]) => to as string);
    expect(references).toContain('#/components/schemas/Resource');
    for (const to of references) {
      const name = /^#\/components\/schemas\/(\w+)$/.exec(to)?.[1];
      expect(name, to).toBeDefined();
      expect(body.components.schemas).toHaveProperty(name as string);
    }
    expect((await api.get('/docs')).body).toContain('swagger-ui');
  });

  it('shows the queues only to an admin with a session', async () => {
    expect((await api.get('/admin/queues')).status).toBe(401);
    expect((await api.get('/admin/queues/api/queues')).status).toBe(401);
    const login = (key: string) =>
      api.call('POST', '/admin/queues/login', {
        raw: `key=${key}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      });
    expect((await login(await api.key(['read']))).status).toBe(403);
    expect((await login('as_live_x')).status).toBe(401);
    const session = await login(admin.key);
    expect(session.status).toBe(303);
    const cookie = session.headers.get('set-cookie') as string;
    expect(cookie).toMatch(/HttpOnly; SameSite=Strict/);
    const headers = { cookie: cookie.split(';')[0] as string };
    expect((await api.get('/admin/queues', headers)).status).toBe(200);
    expect((await api.get('/admin/queues/api/queues', headers)).status).toBe(200);
    const pause = '/admin/queues/api/queues/decide/pause';
    expect((await api.put(pause, undefined, headers)).status).toBe(405);
    expect((await api.put(pause)).status).toBe(401);
    for (const foreign of [
      { origin: 'https://attacker.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { 'sec-fetch-site': 'same-site', origin: api.url },
    ]) {
      expect(await api.put(pause, undefined, { ...headers, ...foreign })).toMatchObject(
        refusal(403, 'cross_site'),
      );
      expect((await admin.post('/admin/queues/login', undefined, foreign)).status).toBe(403);
    }
    const other = headers.cookie.replace(/.$/, (last) => (last === '0' ? '1' : '0'));
    expect((await api.get('/admin/queues', { cookie: other })).status).toBe(401);
  });

  it('stops and releases a scope with a reason', async () => {
    expect((await all.put('/controls/global', { stopped: true })).status).toBe(400);
    expect((await all.put('/controls/global', { stopped: true, reason: 'a drill' })).status).toBe(200);
    expect((await all.get('/controls')).body.controls).toMatchObject([
      { scope: 'global', state: 'stopped', reason: 'a drill' },
    ]);
    const release = async (body: Record<string, unknown>) =>
      await all.put('/controls/global', { stopped: false, reason: 'over', ...body });
    const asked = await release({});
    expect(asked).toMatchObject({
      status: 200,
      body: { state: 'stopped', release_code: expect.any(String) },
    });
    expect((await release({ release_code: 'guessed' })).body.code).toBe('release_code_wrong');
    expect(await release({ release_code: asked.body.release_code, observe_seconds: 0 })).toMatchObject({
      status: 200,
      body: { state: 'observing', observe_until: expect.any(String) },
    });
    expect((await all.get('/controls')).body.controls).toMatchObject([
      { scope: 'global', state: 'released' },
    ]);
  });
});

describe('bad input', () => {
  const decide = '/scale/decide';
  type Options = Parameters<typeof api.call>[2];
  async function refuses(method: string, path: string, options: Options, status: number, code: string) {
    const count = () =>
      readValue(api.pool, 'select (select count(*) from jobs) + (select count(*) from resources)');
    const before = await count();
    const answer = await api.call(method, path, { key: all.key, ...options });
    expect(answer).toMatchObject({ status, body: { status, code } });
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    expect(answer.body.detail).not.toMatch(/\n\s+at |node_modules/);
    expect(await count()).toBe(before);
  }

  it.each<[string, Options, number, string]>([
    ['a wrong type', { body: { resource_id: 7 } }, 400, 'invalid_request'],
    ['a malformed id', { body: { resource_id: '../../etc/passwd' } }, 400, 'invalid_request'],
    ['an unknown field', { body: { resource_id: randomUUID(), admin: true } }, 400, 'invalid_request'],
    ['an unknown resource', { body: { resource_id: randomUUID() } }, 404, 'resource_not_found'],
    ['no JSON', { raw: '{"resource_id":' }, 400, 'invalid_json'],
    ['an empty body', { raw: '', headers: { 'content-type': 'application/json' } }, 400, 'invalid_json'],
    [
      'another content type',
      { raw: 'a=b', headers: { 'content-type': 'text/plain' } },
      415,
      'wrong_content_type',
    ],
    ['a field twice', { raw: '{"resource_id":"a","resource_id":"b"}' }, 400, 'duplicate_key'],
    ['an escaped field twice', { raw: '{"resource_id":"a","resource\\u005fid":"b"}' }, 400, 'duplicate_key'],
    ['__proto__', { raw: '{"__proto__":{"x":1}}' }, 400, 'forbidden_key'],
    ['deep nesting', { raw: `${'['.repeat(10_000)}${']'.repeat(10_000)}` }, 400, 'json_too_deep'],
    ['NUL', { raw: '{"resource_id":"a\\u0000"}' }, 400, 'invalid_text'],
    ['half a character', { raw: '{"resource_id":"\\ud800"}' }, 400, 'invalid_text'],
    ['bytes that are not UTF-8', { raw: Buffer.from([0x7b, 0xff, 0x7d]) }, 400, 'invalid_json'],
    ['one byte too many', { raw: `{"x":"${'a'.repeat(64 * 1024 - 7)}"}` }, 413, 'body_too_large'],
    [
      'a huge idempotency key',
      { body: { resource_id: randomUUID() }, headers: { 'idempotency-key': 'a'.repeat(256) } },
      400,
      'invalid_idempotency_key',
    ],
  ])('refuses to decide on %s and changes nothing', (_what, options, status, code) =>
    refuses('POST', decide, options, status, code),
  );

  it.each<[string, string, number, string]>([
    ['a limit too high', '/scale/history?limit=101', 400, 'invalid_request'],
    ['NUL in a query', '/jobs?cursor=a%00', 400, 'invalid_text'],
    ['NUL in the name of a query', '/jobs?a%00=1', 400, 'invalid_text'],
    ['NUL in the path', '/jobs/%00', 400, 'invalid_text'],
    [
      'an offset PostgreSQL does not know',
      `/resources/${randomUUID()}/metrics?from=2026-01-01T00:00:00%2B23:59`,
      404,
      'resource_not_found',
    ],
    [
      'a forged cursor',
      `/jobs?cursor=${Buffer.from('["2026-02-30 00:00:00+00","00000000-0000-4000-8000-000000000000"]').toString('base64url')}`,
      400,
      'invalid_cursor',
    ],
    [
      'a forged number as a cursor',
      `/scale/history?cursor=${Buffer.from('["99999999999999999999"]').toString('base64url')}`,
      400,
      'invalid_cursor',
    ],
    ['a foreign cursor', '/jobs?cursor=x', 400, 'invalid_cursor'],
    ['a malformed id in the path', '/jobs/1', 400, 'invalid_request'],
    ['another address', '/nothing', 404, 'not_found'],
  ])('refuses to answer %s and changes nothing', (_what, path, status, code) =>
    refuses('GET', path, {}, status, code),
  );

  it.each<[string, string, string, Options, number, string]>([
    [
      'an unknown decision',
      'POST',
      '/scale/execute',
      { body: { decision_id: randomUUID() } },
      404,
      'decision_not_found',
    ],
    [
      '1e309',
      'POST',
      '/cost/estimate',
      { raw: `{"resource_id":"${randomUUID()}","instance_count":1e309}` },
      400,
      'invalid_request',
    ],
    [
      'a fraction',
      'POST',
      '/cost/estimate',
      { body: { resource_id: randomUUID(), instance_count: 1.5 } },
      400,
      'invalid_request',
    ],
    [
      'a negative count',
      'POST',
      '/cost/estimate',
      { body: { resource_id: randomUUID(), instance_count: -1 } },
      400,
      'invalid_request',
    ],
    [
      'min over max',
      'POST',
      '/resources',
      { body: newGroup({ min_instances: 9, max_instances: 3 }) },
      400,
      'invalid_request',
    ],
    [
      'a name that does not fit',
      'POST',
      '/resources',
      { body: newGroup({ resource_type: 'kubernetes', cloud_provider: 'kubernetes', name: 'web' }) },
      400,
      'invalid_request',
    ],
    [
      'a provider that does not fit',
      'POST',
      '/resources',
      { body: newGroup({ cloud_provider: 'kubernetes' }) },
      400,
      'invalid_request',
    ],
    [
      'NUL where there is a reason',
      'DELETE',
      '/fleet-limits/global?reason=because%00',
      {},
      400,
      'invalid_text',
    ],
    ['another method', 'DELETE', '/scale/decide', {}, 405, 'method_not_allowed'],
  ])('refuses %s and changes nothing', (_what, method, path, options, status, code) =>
    refuses(method, path, options, status, code),
  );

  it('refuses the same cloud object twice', async () => {
    const body = newGroup();
    expect((await all.post('/resources', body)).status).toBe(201);
    expect(await all.post('/resources', body)).toMatchObject(refusal(409, 'resource_exists'));
  });
});
