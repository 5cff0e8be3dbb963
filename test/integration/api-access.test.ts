import { randomUUID } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { Registry } from 'prom-client';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildApp } from '../../api/app.ts';
import type { Route } from '../../api/http/route.ts';
import { generateKey } from '../../api/keys/api-key.ts';
import { insertJobs } from '../../shared/db/jobs-store.ts';
import { type Scope, scopes } from '../../shared/domain/api-key.ts';
import { refusalOfActor } from '../../worker/execute/actor-store.ts';
import { forFile } from '../support/for-file.ts';
import { newJob, seedDecision, seedResource } from '../support/seed.ts';
import { refusal, startTestApi } from '../support/test-api.ts';
import { readValue } from '../support/test-database.ts';

const api = forFile(await startTestApi());
const { pool } = api;
const all = await api.client();
const short = (await all.post('/keys', { name: 'short', scopes: ['read'] })).body;
const revoked = api.as(short.key);
expect((await revoked.get('/jobs')).status).toBe(200);
expect((await all.delete(`/keys/${short.id}`)).status).toBe(204);
const revokedAt = performance.now();

const labelOf = (route: Route) => `${route.method.toUpperCase()} ${route.path}`;
const guarded = () => api.api.routes.filter((route) => route.scope !== 'public');
const idOf = (key: string) => key.split('_')[2] as string;

/** Calls a route by its place in the table; `id` stands wherever it names a resource, a decision or a job. */
async function request(route: Route, key: string | undefined, id: string, body?: unknown) {
  const path = route.path.replace('{id}', id).replace(/\{\w+\}/, 'global');
  return await api.call(route.method.toUpperCase(), path, {
    ...(key === undefined ? {} : { key }),
    ...(body === undefined ? {} : { body }),
    headers: {
      ...(route.method === 'patch' ? { 'if-match': '"1"' } : {}),
      ...(route.operationId === 'replayDecision' ? { prefer: 'wait=1' } : {}),
    },
  });
}

describe('every route', () => {
  it('declares a scope, or the API does not start', () => {
    const { deps } = api.api;
    expect(() => buildApp({ ...deps, metrics: { ...deps.metrics, registry: newRegistry() } })).not.toThrow();
    const undeclared = { ...api.api.routes[0], path: '/undeclared', scope: undefined } as unknown as Route;
    expect(() =>
      buildApp({ ...deps, metrics: { ...deps.metrics, registry: newRegistry() } }, [undeclared]),
    ).toThrow('GET /undeclared declares no scope'.replace('GET', undeclared.method.toUpperCase()));
  });

  it('is open without a key only where that is meant', () => {
    const open = api.api.routes.filter((route) => route.scope === 'public').map(labelOf);
    expect(open.sort()).toEqual(['GET /health', 'GET /ready']);
  });

  it('answers a key with its scope, and no other: no, malformed, wrong, expired and revoked keys get 401', async () => {
    const expired = await api.key([...scopes]);
    await pool.query(`update api_keys set expires_at = now() - interval '1 second' where id = $1`, [
      idOf(expired),
    ]);
    const withdrawn = await api.key([...scopes]);
    await pool.query('update api_keys set revoked_at = now() where id = $1', [idOf(withdrawn)]);
    const live = await api.key([...scopes]);
    const refused = {
      none: undefined,
      malformed: 'as_live_x',
      'with a wrong checksum': `${live.slice(0, -8)}00000000`,
      'with another secret': withAnotherSecret(live),
      unknown: generateKey().key,
      expired,
      revoked: withdrawn,
    };
    const byScope = Object.fromEntries(
      await Promise.all(scopes.map(async (scope) => [scope, await api.key([scope])] as const)),
    ) as Record<Scope, string>;
    for (const route of guarded()) {
      for (const [what, key] of Object.entries(refused))
        expect(await request(route, key, randomUUID()), `${labelOf(route)}, key ${what}`).toMatchObject(
          refusal(401, 'unauthenticated'),
        );
      for (const scope of scopes) {
        const answer = await request(route, byScope[scope], randomUUID());
        const label = `${labelOf(route)}, key with ${scope}`;
        if (scope === route.scope) {
          expect([401, 403], label).not.toContain(answer.status);
          expect(answer.status, label).toBeLessThan(500);
        } else expect(answer, label).toMatchObject(refusal(403, 'forbidden'));
      }
    }
  });
});

interface Tenant {
  readonly key: string;
  readonly resource: string;
  readonly decision: string;
  readonly job: string;
}

/** A resource with history, and a key that may touch nothing else. */
async function tenant(prefix: string): Promise<Tenant> {
  const resource = await seedResource(pool, { name: `${prefix}-${randomUUID().slice(0, 8)}` });
  const decision = await seedDecision(pool, resource, 4, 6);
  const job = newJob('decide', resource, null);
  await insertJobs(pool, [job]);
  await pool.query(
    `insert into scaling_events (resource_id, phase, actor) values ($1, 'observed', 'test'), ($1, 'control', 'test')`,
    [resource],
  );
  const key = await api.key([...scopes], 1, [
    { provider: 'aws', scope: 'us-east-1', name: `${prefix}-*` },
    { name: 'no%such_name' },
  ]);
  return { key, resource, decision, job: job.id };
}

const now = new Date().toISOString();
/** Bodies that would be accepted, by operation; what is missing here has none, or fails the test with a 400. */
const bodies: Readonly<Record<string, (id: string) => unknown>> = {
  decide: (resource_id) => ({ resource_id }),
  execute: (decision_id) => ({ decision_id }),
  estimateCost: (resource_id) => ({ resource_id, instance_count: 2 }),
  updateResource: () => ({ max_instances: 25 }),
  addSamples: () => ({ timestamp: now, cpu: 50 }),
  addPredictions: () => ({ timestamp: now, predicted_cpu: 50 }),
  simulate: (resource_id) => ({ resource_id, from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' }),
};

describe('a key with selectors', () => {
  let a: Tenant;
  let b: Tenant;
  beforeAll(async () => {
    [a, b] = [await tenant('shop'), await tenant('bank')];
  });

  const touching = (kind: string) => guarded().filter((route) => (route.touches ?? 'fleet') === kind);

  it.each(['resource', 'decision', 'job'] as const)(
    'gets for a foreign %s what it gets for one that does not exist, and changes nothing',
    async (kind) => {
      const state = async () =>
        (
          await pool.query(
            'select (select count(*) from jobs) as jobs, (select count(*) from metric_samples) as samples, (select array_agg(r order by id) from resources r) as resources',
          )
        ).rows[0];
      expect(touching(kind).length).toBeGreaterThan(0);
      for (const route of touching(kind))
        for (const [own, foreign] of [
          [a, b],
          [b, a],
        ] as const) {
          const before = await state();
          const unknown = randomUUID();
          const body = bodies[route.operationId];
          const answers = [];
          for (const id of [foreign[kind], unknown]) {
            const answer = await request(route, own.key, id, body?.(id));
            expect(answer.status, labelOf(route)).toBe(404);
            const { request_id: _, ...rest } = answer.body;
            answers.push(JSON.stringify(rest).replaceAll(id, 'ID'));
          }
          expect(answers[0], labelOf(route)).toBe(answers[1]);
          expect(await state(), labelOf(route)).toEqual(before);
        }
    },
  );

  it.each(['resource', 'decision', 'job'] as const)('reaches its own %s', async (kind) => {
    // Last what deletes it.
    for (const route of touching(kind).filter(({ method }) => method !== 'delete')) {
      const answer = await request(route, a.key, a[kind], bodies[route.operationId]?.(a[kind]));
      expect([401, 403, 404], labelOf(route)).not.toContain(answer.status);
      expect(answer.status, labelOf(route)).not.toBe(400);
      expect(answer.status, labelOf(route)).toBeLessThan(500);
    }
  });

  it('sees its own in lists, whatever it filters for', async () => {
    const lists: Readonly<Record<string, string>> = {
      listResources: 'resources',
      history: 'events',
      listDecisions: 'decisions',
      listJobs: 'jobs',
    };
    const others = ['createResource', 'decideBatch', 'addSamplesOfMany'];
    const filtered = touching('filtered');
    expect(filtered.map((route) => route.operationId).sort()).toEqual(
      [...Object.keys(lists), ...others].sort(),
    );
    for (const route of filtered.filter(({ operationId }) => operationId in lists))
      for (const [own, foreign] of [
        [a, b],
        [b, a],
      ] as const) {
        const name = lists[route.operationId] as string;
        const rows = (await api.as(own.key).get(`${route.path}?limit=100`)).body[name];
        expect(rows.length, route.path).toBeGreaterThan(0);
        for (const row of rows) expect(row.resource_id ?? row.id).toBe(own.resource);
        if (name === 'resources') continue;
        const asked = await api.as(own.key).get(`${route.path}?resource_id=${foreign.resource}`);
        expect(asked, route.path).toMatchObject({ status: 200, body: { [name]: [] } });
      }
    // Pages: the filter comes before the limit.
    const page = await api.as(b.key).get('/resources?limit=1');
    expect(page.body.resources).toMatchObject([{ id: b.resource }]);
  });

  it('is told of a batch only what is not there for it', async () => {
    const unknown = randomUUID();
    const answer = await api
      .as(a.key)
      .post('/scale/decide/batch', { resource_ids: [a.resource, b.resource, unknown] });
    expect(answer.status).toBe(404);
    const messages = answer.body.errors.map((error: { field: string; message: string }) =>
      error.message.replace(/[0-9a-f-]{36}/, 'ID'),
    );
    expect(messages).toEqual(['there is no resource ID', 'there is no resource ID']);
    expect(answer.body.errors.map((error: { field: string }) => error.field).sort()).toEqual([
      'resource_ids[1]',
      'resource_ids[2]',
    ]);
  });

  it('registers nothing outside them', async () => {
    const body = {
      resource_type: 'ec2',
      cloud_provider: 'aws',
      min_instances: 1,
      max_instances: 2,
      current_instances: 1,
    };
    const create = (values: object) => api.as(a.key).post('/resources', { ...body, ...values });
    const outside = refusal(403, 'outside_selectors');
    const name = `shop-${randomUUID()}`;
    expect(await create({ name: `bank-${name}` })).toMatchObject(outside);
    expect(await create({ name, region: 'eu-west-1' })).toMatchObject(outside);
    expect(await create({ name: 'noXsuch_name' })).toMatchObject(outside);
    expect(await create({ name })).toMatchObject({ status: 201 });
  });

  it('reaches nothing that is the whole fleet, and no route forgets to say what it touches', async () => {
    expect(touching('fleet').map(labelOf)).toContain('POST /keys');
    for (const route of touching('fleet')) {
      const answer = await request(route, a.key, idOf(b.key), route.body === undefined ? undefined : {});
      expect(answer, labelOf(route)).toMatchObject(refusal(403, 'outside_selectors'));
    }
    expect(touching('nothing').map(labelOf)).toEqual(['GET /metrics']);
    const login = await api.call('POST', '/admin/queues/login', {
      raw: `key=${a.key}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    expect(login.status).toBe(403);
  });

  it('that may execute lives for 90 days at most, and tells when it was last used', async () => {
    const create = (scopes: string[], expires_days: number) =>
      all.post('/keys', { name: 'x', scopes, expires_days });
    for (const scope of ['execute', 'admin'])
      expect(await create(['read', scope], 91)).toMatchObject({
        status: 400,
        body: { errors: [{ field: 'expires_days' }] },
      });
    expect((await create(['read', 'decide'], 365)).status).toBe(201);
    const made = (await create(['read'], 1)).body;
    expect(made.last_used_at).toBeNull();
    await api.as(made.key).get('/jobs');
    const lastUsed = async () =>
      (await all.get('/keys')).body.keys.find((key: { id: string }) => key.id === made.id).last_used_at;
    await expect.poll(lastUsed).not.toBeNull();
  });

  it('keeps them when it is rotated, and shows them in the list', async () => {
    const rotated = await all.post(`/keys/${idOf(a.key)}/rotate`, {});
    expect(rotated.body.selectors).toMatchObject([
      { provider: 'aws', scope: 'us-east-1', name: 'shop-*' },
      {},
    ]);
    expect((await api.as(rotated.body.key).get(`/resources/${b.resource}`)).status).toBe(404);
    const { keys } = (await all.get('/keys')).body;
    expect(keys.find((key: { id: string }) => key.id === rotated.body.id).selectors).toHaveLength(2);
  });

  it.each([
    [[]],
    [[{}]],
    [[{ name: '' }]],
    [[{ name: '******' }]],
    [[{ provider: 'gcp' }]],
    [[{ nmae: 'x' }]],
    ['all'],
  ])('is not made from %j', async (selectors) => {
    expect(await all.post('/keys', { name: 'x', scopes: ['read'], selectors })).toMatchObject(
      refusal(400, 'invalid_request'),
    );
  });

  it.each([
    [{ provider: 'aws' }, true],
    [{ provider: 'kubernetes' }, false],
    [{ scope: 'us-east-1' }, true],
    [{ scope: 'us-east-2' }, false],
    [{ name: 'shop_%\\*z' }, true],
    [{ name: '*' }, true],
    [{ name: 'shop_%' }, false],
    [{ name: 'Shop*' }, false],
    [{ name: '*eu*z' }, true],
    [{ name: 'shop*', provider: 'kubernetes' }, false],
  ])('%j covers an AWS group named shop_%\\-eu-z in us-east-1: %s', async (selector, covered) => {
    const group = [JSON.stringify([selector]), 'aws', 'us-east-1', 'shop_%\\-eu-z'];
    const sql = 'select selectors_cover($1, $2, $3, $4, null)';
    expect(await readValue(pool, sql, group)).toBe(covered);
  });
});

describe('a key that is revoked', () => {
  it('is refused within 5 s, also where it was known', async () => {
    // Revoked before the first test: by now it may be over.
    const left = Math.max(0, revokedAt + 5_500 - performance.now());
    await expect.poll(async () => (await revoked.get('/jobs')).status, { timeout: left + 100 }).toBe(401);
  });
});

describe('the key a job was asked with', () => {
  it('is looked at again when the job is carried out', async () => {
    const own = await seedResource(pool, { name: `own-${randomUUID()}` });
    const other = await seedResource(pool);
    const key = await api.key(['execute'], 1, [{ name: 'own-*' }]);
    const free = await api.key(['execute']);
    expect(await refusalOfActor(pool, 'auto', other)).toBeNull();
    expect(await refusalOfActor(pool, null, other)).toBeNull();
    expect(await refusalOfActor(pool, idOf(key), own)).toBeNull();
    expect(await refusalOfActor(pool, idOf(free), other)).toBeNull();
    expect(await refusalOfActor(pool, idOf(key), other)).toContain('may not touch');
    expect(await refusalOfActor(pool, 'nobody', own)).toContain('no key');
    await pool.query(`update api_keys set expires_at = now() - interval '1 ms' where id = $1`, [idOf(key)]);
    await pool.query('update api_keys set revoked_at = now() where id = $1', [idOf(free)]);
    expect(await refusalOfActor(pool, idOf(key), own)).toContain('revoked or has expired');
    expect(await refusalOfActor(pool, idOf(free), other)).toContain('revoked or has expired');
  });
});

const newRegistry = () => new Registry();

/** The id of a live key with a secret that is not its own. */
function withAnotherSecret(live: string): string {
  const body = `as_live_${idOf(live)}_${generateKey().secret}`;
  return `${body}_${crc32(body).toString(16).padStart(8, '0')}`;
}
