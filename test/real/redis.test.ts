import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createConsumerConnection, createSubscriberConnection } from '../../shared/queues/connections.ts';
import type { AwsSimulator } from '../simulators/aws/server.ts';
import { seedResource } from '../support/seed.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws, TestWorkers } from '../support/worker-rig.ts';
import { describeWith } from './describe-with.ts';
import { type RedisServer, RedisServers } from './redis-servers.ts';

/** After a primary is lost, work must go on within this; a Cluster or a Sentinel needs 2 to 4 s to notice and elect. */
const failoverLimitMs = 15_000;

const prefix = `{real-${randomUUID().slice(0, 8)}}`;
const servers = await RedisServers.find(prefix);
const tlsFault = await servers.makeCertificate().then(
  () => null,
  (error: Error) => error.message.split('\n')[0] ?? '',
);

let aws: AwsSimulator;
const apis: TestApi[] = [];
let environment: Record<string, string>;
const workers = new TestWorkers(() => environment);

beforeAll(async () => {
  aws = await startQuickAws();
});
afterEach(async () => {
  await workers.end();
  for (const api of apis.splice(0)) await api.close();
  await servers.stop();
});
afterAll(async () => {
  await aws.close();
  servers.remove();
});

/** API in this process, two workers in others. */
async function startService(redisUrl: string) {
  const api = await startTestApi({ REDIS_URL: redisUrl, QUEUE_PREFIX: prefix });
  apis.push(api);
  environment = { ...api.environment, ...awsEnvironment(aws) };
  const processes = [1, 2].map(() => workers.startProcess());
  const [reader, decider, admin] = await Promise.all([
    api.key(['read']),
    api.key(['read', 'decide']),
    api.key(['admin']),
  ]);
  const resource = await seedResource(api.api.deps.pool);
  const decide = (headers: Record<string, string> = {}) =>
    api.call('POST', '/scale/decide', { key: decider, body: { resource_id: resource }, headers });
  await expect
    .poll(async () => (await api.call('GET', '/ready')).body, { timeout: 20_000, interval: 200 })
    .toMatchObject({ status: 'ready', redis: 'ok', workers: 2 });
  return { call: api.call, processes, reader, admin, decide, pool: api.api.deps.pool };
}
type Service = Awaited<ReturnType<typeof startService>>;

/** All that uses Redis: queues, the waiting client's message, the rate limit, the board. */
async function expectAllWorks({ call, admin, decide }: Service, count: RedisServer[]): Promise<void> {
  const startedAt = performance.now();
  expect((await decide({ prefer: 'wait=10' })).status).toBe(200);
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  const keys = await Promise.all(count.map((server) => server.call('keys', `${prefix}:limit:*`)));
  expect(keys.flat().length).toBeGreaterThan(0);
  const login = await call('POST', '/admin/queues/login', { key: admin });
  const cookie = (login.headers.get('set-cookie') ?? '').split(';')[0] as string;
  const board = await call('GET', '/admin/queues/api/queues', { headers: { cookie } });
  expect(board).toMatchObject({ status: 200, body: { queues: { length: 5 } } });
}

/** Nothing that the service tried was denied to its user. */
async function expectNothingDenied(all: readonly RedisServer[]): Promise<void> {
  for (const server of all) expect(await server.call('acl', 'log')).toEqual([]);
}

/** Asks for decisions all the time, while `strike` happens; what was accepted must be done, once. */
async function underLoad({ decide, pool, processes }: Service, strike: () => Promise<void>): Promise<void> {
  const accepted: string[] = [];
  const others: number[] = [];
  let slowestMs = 0;
  let over = false;
  const clients = Array.from({ length: 8 }, async () => {
    while (!over) {
      const sentAt = performance.now();
      const { status, body } = await decide();
      slowestMs = Math.max(slowestMs, performance.now() - sentAt);
      if (status === 202) accepted.push(body.job_id);
      else others.push(status);
      await new Promise((next) => setTimeout(next, 20));
    }
  });
  const finishedSince = async (at: Date) =>
    (
      await pool.query<{ ms: number }>(
        `select extract(epoch from min(finished_at) - $1) * 1000 as ms from jobs where created_at > $1`,
        [at],
      )
    ).rows[0]?.ms ?? null;
  await expect.poll(() => accepted.length, { timeout: 10_000 }).toBeGreaterThan(100);
  const { now: struckAt } = (await pool.query('select clock_timestamp() as now')).rows[0];
  await strike();
  await expect.poll(() => finishedSince(struckAt), { timeout: failoverLimitMs }).not.toBeNull();
  const startedAt = performance.now();
  expect((await decide({ prefer: 'wait=10' })).status).toBe(200);
  const waitedMs = performance.now() - startedAt;
  over = true;
  await Promise.all(clients);
  const unfinished = `select count(*)::int as n from jobs where status not in ('completed', 'failed')`;
  await expect.poll(async () => (await pool.query(unfinished)).rows[0].n, { timeout: 30_000 }).toBe(0);
  const { rows } = await pool.query<{ id: string; decisions: number; ms: number }>(
    `select jobs.id, count(scaling_decisions.id)::int as decisions,
        extract(epoch from finished_at - jobs.created_at) * 1000 as ms
      from jobs left join scaling_decisions on job_id = jobs.id
      where status = 'completed' group by jobs.id`,
  );
  const done = new Map(rows.map((row) => [row.id, row]));
  expect(accepted.filter((id) => done.get(id)?.decisions !== 1)).toEqual([]);
  expect(others).toEqual([]);
  expect(processes.map(({ child }) => child.exitCode)).toEqual([null, null]);
  console.error(
    `${accepted.length} jobs accepted, all decided once; first answer ${Math.round(Number(await finishedSince(struckAt)))} ms after ` +
      `the kill; slowest acceptance ${Math.round(slowestMs)} ms, slowest job ${Math.round(Math.max(...rows.map(({ ms }) => Number(ms))))} ms; ` +
      `a waiting client then took ${Math.round(waitedMs)} ms`,
  );
  expect(slowestMs).toBeLessThan(3_000);
  expect(waitedMs).toBeLessThan(3_000);
}

describe('a single Redis', () => {
  test('that has become a replica is left, so that its primary can be found', async () => {
    const server = await servers.start();
    const redis = createConsumerConnection(servers.urlOf(server), () => {});
    await once(redis, 'ready');
    await server.call('replicaof', '127.0.0.1', '1');
    const closed = once(redis, 'close');
    await expect(redis.set(`${prefix}:x`, 1)).rejects.toThrow('READONLY');
    await closed;
    redis.disconnect();
  });
});

describe('a Cluster', () => {
  test('serves everything, and loses nothing when the primary that has the queues is killed under load', async () => {
    const { url, nodes, owner } = await servers.startCluster();
    const service = await startService(url);
    await expectAllWorks(service, nodes);
    await underLoad(service, () => owner.kill());
    await expectAllWorks(
      service,
      nodes.filter((node) => node !== owner),
    );
    await owner.restart();
    await expectNothingDenied(nodes);
    await Promise.all(nodes.map((node) => node.kill()));

    // All of it away is no reason to refuse.
    const startedAt = performance.now();
    const { status, body } = await service.decide();
    expect(status).toBe(202);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    const state = async () =>
      (await service.call('GET', `/jobs/${body.job_id}`, { key: service.reader })).body.status;
    expect(await state()).toBe('queued');
    expect((await service.call('GET', '/ready')).body.redis).toBe('away');
    await Promise.all(nodes.map((node) => node.restart()));
    await expect.poll(state, { timeout: failoverLimitMs }).toBe('completed');
  });

  test('is listened to on another node when one falls silent', async () => {
    const { url, nodes } = await servers.startCluster();
    const subscriber = createSubscriberConnection(url, () => {}, 1_000);
    await once(subscriber, 'ready');
    await subscriber.subscribe(`${prefix}:finished`);
    const listeners = async (node: RedisServer) =>
      Number(((await node.call('pubsub', 'numsub', `${prefix}:finished`)) as [string, number])[1]);
    const counts = await Promise.all(nodes.map(listeners));
    const listenedTo = nodes[counts.indexOf(1)] as RedisServer;
    listenedTo.pause();
    const rest = nodes.filter((node) => node !== listenedTo);
    await expect
      .poll(async () => (await Promise.all(rest.map(listeners))).includes(1), { timeout: failoverLimitMs })
      .toBe(true);
    subscriber.disconnect();
  });
});

describe('Sentinels', () => {
  test('are followed to the new primary, and nothing is lost, when the old one is killed under load', async () => {
    const { url, primary } = await servers.startSentinel();
    const service = await startService(url);
    await expectAllWorks(service, [primary]);
    await expectNothingDenied([primary]);
    await underLoad(service, () => primary.kill());
  });
});

describeWith('over TLS, with an own CA and an ACL user,', tlsFault, () => {
  test('a single Redis serves everything', async () => {
    const server = await servers.start({ tls: true });
    await expectAllWorks(await startService(servers.urlOf(server, true)), [server]);
    await expectNothingDenied([server]);
  });

  test('a single Redis that asks for a certificate gets ours', async () => {
    const server = await servers.start({ tls: true, clientCertificate: true });
    await expectAllWorks(await startService(servers.urlOf(server, true, true)), [server]);
  });

  test('Sentinels lead to the primary', async () => {
    const { url, primary } = await servers.startSentinel(true);
    await expectAllWorks(await startService(url), [primary]);
  });

  test('a Cluster serves everything', async () => {
    const { url, nodes } = await servers.startCluster(true);
    await expectAllWorks(await startService(url), nodes);
  });

  test('a server whose certificate nobody vouches for is not talked to', async () => {
    const server = await servers.start({ tls: true });
    const url = servers.urlOf(server, true).replace(/\?.*/, '');
    const fault = await new Promise<Error>((resolve) => {
      const redis = createConsumerConnection(url, (error) => {
        redis.disconnect();
        resolve(error);
      });
    });
    expect(fault.message).toMatch(/self.signed certificate/);
  });
});
