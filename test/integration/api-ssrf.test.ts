import { createServer } from 'node:net';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import { hostileUrls } from '../fuzz/hostile.ts';
import { makeValue } from '../fuzz/make-value.ts';
import { type Operation, readApi, type Schema } from '../fuzz/openapi.ts';
import { RandomGenerator } from '../fuzz/random-generator.ts';
import { forFile } from '../support/for-file.ts';
import { seedDecision, seedResource } from '../support/seed.ts';
import { newGroup, startTestApi } from '../support/test-api.ts';
import { startTestWorker } from '../support/worker-rig.ts';

const canary = await listen();
/** Stands where the cloud does, so that the worker has a place to go. */
const cloud = await listen();
const cloudUrl = `http://127.0.0.1:${cloud.port}`;
vi.stubEnv('AWS_ENDPOINT_URL_AUTO_SCALING', cloudUrl);
vi.stubEnv('AWS_ENDPOINT_URL_EC2', cloudUrl);
vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIATEST');
vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
vi.stubEnv('KUBECONFIG', '/nonexistent');
afterAll(() => {
  vi.unstubAllEnvs();
});
const api = forFile(await startTestApi());
const client = await api.client();
forFile(await startTestWorker(api.environment, { OBSERVE_INTERVAL_SECONDS: '1' }));

async function listen(): Promise<{ readonly port: number; readonly seen: () => number }> {
  let seen = 0;
  const server = createServer((socket) => {
    seen++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  forFile(server);
  return { port: (server.address() as { port: number }).port, seen: () => seen };
}

/** Where the texts are in a value, however deep. */
function textsIn(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value === 'string') return [path];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => textsIn(inner, [...path, name]));
}

function withText(value: unknown, path: readonly (string | number)[], text: string): unknown {
  const [name, ...rest] = path;
  if (name === undefined) return text;
  if (Array.isArray(value))
    return value.map((item, index) => (String(index) === String(name) ? withText(item, rest, text) : item));
  const fields = value as Record<string, unknown>;
  return { ...fields, [name]: withText(fields[name], rest, text) };
}

describe('a URL in any text a client can send', () => {
  it('is never followed, neither by the API nor by a worker', async () => {
    const described = readApi(JSON.stringify((await api.get('/openapi.json')).body));
    const urls = hostileUrls(`127.0.0.1:${canary.port}`);
    const resource = await seedResource(api.pool);
    const decision = await seedDecision(api.pool, resource, 4, 6);
    const random = new RandomGenerator(1);
    const ids = (name: string) => (name === 'decision_id' ? decision : resource);
    const places = new Set<string>();
    const send = async (operation: Operation, path: string, body: unknown, headers = {}) =>
      await api.call(operation.method, path, {
        key: client.key,
        ...(body === undefined ? {} : { body }),
        headers: { prefer: 'wait=1', ...headers },
      });
    const make = (schema: Schema, name: string) => makeValue(schema, name, random, described, ids, true);
    for (const operation of described.operations) {
      const path = operation.path.replace(/\{\w+\}/g, resource);
      for (const { name, in: place } of operation.parameters) {
        places.add(`${operation.operationId} ${place} ${name}`);
        const url = random.pick(urls);
        if (place === 'query') await send(operation, `${path}?${name}=${encodeURIComponent(url)}`, undefined);
        else if (place === 'header') await send(operation, path, undefined, { [name]: url });
        else await send(operation, operation.path.replace(`{${name}}`, encodeURIComponent(url)), undefined);
      }
      if (operation.body === null) continue;
      // Where a body has several shapes, one comes after the other.
      for (let round = 0; round < 4; round++) {
        const body = make(operation.body, 'body');
        for (const place of textsIn(body)) {
          const field = `${operation.operationId} body ${place.filter((part) => !/^\d+$/.test(String(part))).join('.')}`;
          if (places.has(field)) continue;
          places.add(field);
          await Promise.all(urls.map((url) => send(operation, path, withText(body, place, url))));
        }
      }
    }
    for (const field of ['name', 'region', 'cluster', 'instance_type'])
      expect(places).toContain(`createResource body ${field}`);
    expect(places.size).toBeGreaterThan(60);
    // What was taken is worked on, and looked at in the cloud every second.
    const { pool } = api;
    await pool.query(`update resources set mode = 'auto', observed_at = null`);
    const looks = cloud.seen();
    await expect.poll(cloud.seen, { timeout: 10_000 }).toBeGreaterThan(looks);
    await expect
      .poll(async () => (await pool.query(`select 1 from jobs where status = 'queued'`)).rowCount, {
        timeout: 10_000,
      })
      .toBe(0);
    expect(canary.seen()).toBe(0);
  }, 60_000);
});

describe('a region', () => {
  const create = (values: Record<string, unknown>) => client.post('/resources', newGroup(values));
  const hosts = [
    'x.evil.com/',
    'us-east-1.evil.com',
    'us-east-1/',
    'us-east-1#',
    'us-east-1?',
    'us-east-1@evil.com',
    '@127.0.0.1:80/#',
    'us-east-1:80',
    'us-east-1\\',
    'US-EAST-1',
    'us-east-1\n',
    'us-east-',
    'localhost',
    '169.254.169.254',
    '',
  ];

  it.each(hosts)('%j is refused', async (region) => {
    expect(await create({ region })).toMatchObject({ status: 400, body: { errors: [{ field: 'region' }] } });
  });

  it.each(['us-east-1', 'ap-southeast-5', 'us-gov-west-1', 'us-isob-east-1', 'il-central-1'])(
    '%s is taken',
    async (region) => {
      expect((await create({ region })).status).toBe(201);
    },
  );

  it.each(hosts.filter((host) => host !== '').concat('@127.0.0.1:PORT/#', '127.0.0.1:PORT/#'))(
    '%j in a row that came from elsewhere reaches no host',
    async (given) => {
      vi.stubEnv('AWS_ENDPOINT_URL_AUTO_SCALING', undefined);
      const provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 1_000 });
      const scope = given.replace('PORT', String(canary.port));
      const target = { name: 'web', scope } as Parameters<AwsAutoScaling['describe']>[0];
      await expect(provider.describe(target, AbortSignal.timeout(2_000))).rejects.toMatchObject({
        code: 'invalid_region',
      });
      vi.stubEnv('AWS_ENDPOINT_URL_AUTO_SCALING', `http://127.0.0.1:${cloud.port}`);
      expect(canary.seen()).toBe(0);
    },
  );
});

describe('a cluster', () => {
  it('that the kubeconfig does not name reaches no host', async () => {
    const provider = new Kubernetes({ settleMs: 1_000 });
    const scope = `http://127.0.0.1:${canary.port}`;
    const target = { name: 'deployment:shop/web', scope } as Parameters<Kubernetes['describe']>[0];
    await expect(provider.describe(target, AbortSignal.timeout(2_000))).rejects.toThrow(
      'cannot reach the cluster',
    );
    expect(canary.seen()).toBe(0);
  });
});
