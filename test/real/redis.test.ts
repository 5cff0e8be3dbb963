import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createConsumerConnection, createSubscriberConnection } from '../../shared/queues/connections.ts';
import type { AwsSimulator } from '../simulators/aws/server.ts';
import { seedResource } from '../support/seed.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws, TestWorkers } from '../support/worker-rig.ts';
import { type RedisServer, RedisServers } from './redis-servers.ts';

vi.setConfig({ testTimeout: 120_000 });

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

/** Eight clients that ask for decisions all the time, until `stop`. */
function startClients({ decide }: Service) {
  const seen = { accepted: [] as string[], refused: [] as number[], slowestMs: 0 };
  let over = false;
  const clients = Array.from({ length: 8 }, async () => {
    while (!over) {
      const sentAt = performance.now();
      const { status, body } = await decide();
      seen.slowestMs = Math.max(seen.slowestMs, performance.now() - sentAt);
      if (status === 202) seen.accepted.push(body.job_id);
      else seen.refused.push(status);
      await new Promise((next) => setTimeout(next, 20));
    }
  });
  const stop = async () => {
    over = true;
    await Promise.all(clients);
  };
  return { seen, stop };
}

/** What is accepted while `strike` happens must be decided, once, and work must go on. Prints figures, in ms. */
async function underLoad(
  service: Service,
  strike: () => Promise<void> | void,
  limitMs = failoverLimitMs,
): Promise<void> {
  const { decide, pool, processes } = service;
  const { seen, stop } = startClients(service);
  const count = async (condition: string, values: unknown[] = []) =>
    (await pool.query(`select count(*)::int as n from jobs where ${condition}`, values)).rows[0].n as number;
  const waitedMs = async () => {
    const startedAt = performance.now();
    expect((await decide({ prefer: 'wait=10' })).status).toBe(200);
    return performance.now() - startedAt;
  };
  try {
    await expect.poll(() => count('finished_at is not null'), { timeout: 15_000 }).toBeGreaterThan(100);
    await strike();
    const { now } = (await pool.query('select clock_timestamp() as now')).rows[0];
    await expect
      .poll(() => count('created_at > $1 and finished_at is not null', [now]), { timeout: limitMs })
      .toBeGreaterThan(0);
    // A client whose message went missing waits for all of its 10 s.
    await expect.poll(waitedMs, { timeout: 30_000 }).toBeLessThan(5_000);
  } finally {
    await stop();
  }
  await expect.poll(() => count(`status not in ('completed', 'failed')`), { timeout: 30_000 }).toBe(0);
  const { rows: decided } = await pool.query<{ id: string }>(
    `select jobs.id from jobs join scaling_decisions on job_id = jobs.id
      where status = 'completed' group by jobs.id having count(*) = 1`,
  );
  const done = new Set(decided.map(({ id }) => id));
  expect(seen.accepted.filter((id) => !done.has(id))).toEqual([]);
  expect(seen.refused).toEqual([]);
  expect(processes.map(({ child }) => child.exitCode)).toEqual([null, null]);
  const { rows } = await pool.query<Record<string, number>>(
    `select round(max(extract(epoch from gap)) * 1000)::int as longest_pause, round(max(extract(epoch from took)) * 1000)::int as slowest_job
      from (select finished_at - created_at as took, finished_at - lag(finished_at) over (order by finished_at) as gap from jobs) _`,
  );
  const slowestAcceptance = Math.round(seen.slowestMs);
  console.error({ accepted: seen.accepted.length, ...rows[0], slowest_acceptance: slowestAcceptance });
  expect(slowestAcceptance).toBeLessThan(5_000);
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
    const redis = async () => (await service.call('GET', '/ready')).body.redis;
    await underLoad(service, async () => {
      await owner.kill();
      // Of the nodes, two answer.
      await expect.poll(redis, { timeout: 3_000 }).toBe('away');
    });
    expect(await redis()).toBe('ok');
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
    expect(await redis()).toBe('away');
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

describe('a primary that freezes, its lines open, with the usual 15 s until the others give it up,', () => {
  // Those, 10 s until we give up a silent line, twice, and the election.
  const limitMs = 60_000;

  test('is left in a Cluster', async () => {
    const { url, owner } = await servers.startCluster({ nodeTimeoutMs: 15_000 });
    await underLoad(await startService(url), () => owner.pause(), limitMs);
  });

  test('is left where Sentinels watch', async () => {
    const { url, primary } = await servers.startSentinel({ downAfterMs: 15_000 });
    await underLoad(await startService(url), () => primary.pause(), limitMs);
  });
});

const notRun = tlsFault === null ? '' : ` (not run: ${tlsFault})`;
describe.skipIf(notRun !== '')(`over TLS, with an own CA and an ACL user,${notRun}`, () => {
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
    const { url, primary } = await servers.startSentinel({ tls: true });
    await expectAllWorks(await startService(url), [primary]);
  });

  test('a Cluster serves everything', async () => {
    const { url, nodes } = await servers.startCluster({ tls: true });
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
