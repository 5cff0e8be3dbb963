import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { readApiConfig } from '../../api/config.ts';
import { generateKey } from '../../api/keys/api-key.ts';
import { RateLimit } from '../../api/middleware/rate-limit.ts';
import { createProducerConnection } from '../../shared/queues/connections.ts';
import { sendBytes, sendSlowly } from '../fuzz/client.ts';
import { forFile } from '../support/for-file.ts';
import { refusal, startTestApi, type TestApi } from '../support/test-api.ts';

const api = forFile(await startTestApi({ HEADERS_TIMEOUT_MS: '1000', REQUEST_TIMEOUT_MS: '2000' }));
const client = await api.client();
const { key } = client;
const port = Number(new URL(api.url).port);

const head = (line: string, ...headers: string[]) =>
  `${line} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nConnection: close\r\n${headers.map((header) => `${header}\r\n`).join('')}\r\n`;
const answerTo = async (text: string) => {
  const [answer] = await sendBytes(port, Buffer.from(text, 'latin1'));
  return { ...answer, body: JSON.parse(answer?.text || '{}') };
};

/** Counting begins in Redis, not in the process, once that is there. */
async function startLimited(environment: Record<string, string>): Promise<TestApi> {
  const limited = await startTestApi(environment);
  await expect.poll(async () => (await limited.get('/ready')).body.redis).toBe('ok');
  return limited;
}

describe('a client that takes its time', () => {
  it.concurrent.each([
    ['the head', 'GET /health HTTP/1.1\r\nHost: a\r\n', 'X: a\r\n', 1_000],
    ['the first line', 'GE', 'T', 1_000],
    [
      'the body',
      'POST /scale/decide HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 500\r\nAuthorization: Bearer KEY\r\n\r\n{"a":"',
      'a',
      2_000,
    ],
    [
      'the chunks',
      'POST /scale/decide HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nAuthorization: Bearer KEY\r\n\r\n',
      '1\r\na\r\n',
      2_000,
    ],
  ])('over %s is cut off', async (_what, first, more, ms) => {
    const cutAt = await sendSlowly(port, first.replace('KEY', key), more, ms + 5_000);
    expect(cutAt).not.toBeNull();
    expect(cutAt).toBeGreaterThanOrEqual(ms - 100);
  });

  it('has 10 s for the head and 15 s for all of it, unless the environment says otherwise', () => {
    const config = readApiConfig({ DATABASE_URL: 'x', REDIS_URL: 'redis://x' });
    expect(config).toMatchObject({ HEADERS_TIMEOUT_MS: 10_000, REQUEST_TIMEOUT_MS: 15_000 });
  });

  it('holds nobody else up', async () => {
    const slow = Array.from({ length: 200 }, () => connect({ host: '127.0.0.1', port }));
    for (const socket of slow) {
      socket.on('error', () => {});
      socket.write('GET /health HTTP/1.1\r\nX: ');
    }
    const startedAt = performance.now();
    expect((await client.get('/jobs')).status).toBe(200);
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    for (const socket of slow) socket.destroy();
  });
});

describe('a head', () => {
  it('of more than 16 KB is refused with a problem', async () => {
    expect(await answerTo(head('GET /jobs', `X: ${'a'.repeat(17_000)}`))).toMatchObject({
      status: 431,
      body: { code: 'headers_too_large', status: 431 },
    });
  });

  it('of more than 100 headers is refused, not read in part', async () => {
    const many = Array.from({ length: 96 }, (_, n) => `X${n}: a`);
    expect(await answerTo(head('GET /jobs', ...many))).toMatchObject({ status: 200 });
    const { id } = (
      await client.post('/resources', {
        name: `asg-${randomUUID()}`,
        resource_type: 'ec2',
        cloud_provider: 'aws',
        min_instances: 1,
        max_instances: 2,
        current_instances: 1,
      })
    ).body;
    // Node would drop the last header, and with it the condition.
    const conditional = [...many, 'X96: a', 'X97: a', 'If-Match: "7"'];
    expect(await answerTo(head(`DELETE /resources/${id}`, ...conditional))).toMatchObject(
      refusal(431, 'headers_too_large'),
    );
    expect((await client.get(`/resources/${id}`)).status).toBe(200);
  });

  it.each([
    ['Authorization', 'Authorization: Bearer x'],
    ['Host', 'Host: b'],
    ['Content-Type', 'Content-Type: text/plain'],
    ['Idempotency-Key', 'Idempotency-Key: b'],
    ['If-Match', 'If-Match: "2"'],
  ])('with two of %s is refused', async (name, second) => {
    const first = { Authorization: [], Host: [] }[name as 'Host'] ?? [`${name}: a`];
    const answer = await answerTo(head('POST /scale/decide', ...first, second, 'Content-Length: 0'));
    expect(answer).toMatchObject(refusal(400, 'duplicate_header'));
  });

  it('without a Host, or that cannot be read, is refused with a problem', async () => {
    expect(await answerTo('GET /health HTTP/1.1\r\nConnection: close\r\n\r\n')).toMatchObject(
      refusal(400, 'no_host'),
    );
    expect(await answerTo('GET /health HTTP/1.1\r\nHost : a\r\n\r\n')).toMatchObject({
      status: 400,
      headers: { 'content-type': 'application/problem+json' },
      body: { code: 'malformed_request' },
    });
    expect(await answerTo(head('POST /scale/decide', 'Expect: 200-ok', 'Content-Length: 0'))).toMatchObject(
      refusal(417, 'expectation_failed'),
    );
  });

  it('with a length and chunks is refused, and what it smuggles is not read', async () => {
    const smuggled = head('GET /keys');
    const text = head('POST /scale/decide', 'Content-Length: 4', 'Transfer-Encoding: chunked').replace(
      'Connection: close\r\n',
      '',
    );
    const answers = await sendBytes(port, Buffer.from(`${text}0\r\n\r\n${smuggled}`));
    expect(answers.map((answer) => answer.status)).toEqual([400]);
  });
});

describe('a body', () => {
  const sized = (bytes: number) => `{"x":"${'a'.repeat(bytes - 8)}"}`;

  it.each([
    ['/scale/decide', 64 * 1024],
    [`/resources/${randomUUID()}/metrics`, 4 * 1024 * 1024],
  ])('to %s may have %i bytes, and not one more', async (path, limit) => {
    expect((await api.call('POST', path, { key, raw: sized(limit) })).body.code).toBe('invalid_request');
    expect(await api.call('POST', path, { key, raw: sized(limit + 1) })).toMatchObject(
      refusal(413, 'body_too_large'),
    );
  });

  it('that is compressed is not unpacked', async () => {
    const answer = await api.call('POST', '/scale/decide', {
      key,
      raw: Buffer.alloc(100),
      headers: { 'content-encoding': 'gzip' },
    });
    expect(answer.status).toBe(400);
  });

  it('of somebody without a key is not parsed', async () => {
    expect((await api.call('POST', '/scale/decide', { raw: '{'.repeat(70_000) })).status).toBe(401);
  });
});

describe('wrong keys', () => {
  it('are limited by address, before PostgreSQL is asked, and lock no good key out', async () => {
    const limited = await startLimited({ FAILED_AUTH_PER_MINUTE: '20' });
    const good = await limited.key(['read']);
    const unused = await limited.key(['read']);
    expect((await limited.as(good).get('/jobs')).status).toBe(200);
    const statuses: number[] = [];
    for (let n = 0; n < 40; n++) statuses.push((await limited.as(generateKey().key).get('/jobs')).status);
    expect(statuses.slice(0, 20)).toEqual(Array(20).fill(401));
    expect(statuses.slice(21)).toEqual(Array(19).fill(429));
    const refused = await limited.as(generateKey().key).get('/jobs');
    expect(refused.body.code).toBe('rate_limited');
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    // A key that was seen before works on; one that nobody knows has to wait with its neighbours.
    expect((await limited.as(good).get('/jobs')).status).toBe(200);
    expect((await limited.as(unused).get('/jobs')).status).toBe(429);
    // The login of the board is a door like any other.
    const login = await limited.as(generateKey().key).post('/admin/queues/login');
    expect(login.status).toBe(429);
    await limited.close();
  });

  it('cannot be spread over addresses that the client makes up', async () => {
    const limited = await startLimited({ FAILED_AUTH_PER_MINUTE: '5' });
    const statuses: number[] = [];
    for (let n = 0; n < 12; n++) {
      const headers = { 'x-forwarded-for': `203.0.113.${n}` };
      statuses.push((await limited.as('x').get('/jobs', headers)).status);
    }
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(0);
    await limited.close();
  });

  it('are told apart by address behind a proxy that is trusted', async () => {
    const limited = await startLimited({ FAILED_AUTH_PER_MINUTE: '5', TRUST_PROXY_HOPS: '1' });
    const from = async (address: string) =>
      (await limited.as('x').get('/jobs', { 'x-forwarded-for': address })).status;
    for (let n = 0; n < 8; n++) await from(`2001:db8:0:1${n}::1`);
    expect(await from('2001:db8:0:1f::9')).toBe(429);
    expect(await from('2001:db8:0:200::1')).toBe(401);
    expect(await from('198.51.100.7')).toBe(401);
    // Only the last hop is believed.
    expect(await from('198.51.100.8, 2001:db8:0:1::1')).toBe(429);
    await limited.close();
  });
});

describe('the limit by key', () => {
  it('holds for one key, whatever its answers, and not for another', async () => {
    const limited = await startLimited({ RATE_LIMIT_PER_MINUTE: '30' });
    const [one, other] = [await limited.key(['read']), await limited.key(['read'])];
    // Also what it may not do counts; each scope for itself.
    for (const path of ['/jobs', '/keys']) {
      const statuses: number[] = [];
      for (let n = 0; n < 40; n++) statuses.push((await limited.as(one).get(path)).status);
      expect(
        statuses.filter((status) => status !== 429),
        path,
      ).toHaveLength(30);
    }
    const refused = await limited.as(one).get('/jobs');
    expect(refused).toMatchObject(refusal(429, 'rate_limited'));
    // The minute, and the seconds over which those who come back are spread.
    expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(63);
    expect((await limited.as(other).get('/jobs')).status).toBe(200);
    await limited.close();
  });

  it('is each replica its share while Redis is away: never none', async () => {
    // Nobody listens there.
    const away = createProducerConnection('redis://127.0.0.1:1', () => {});
    const limit = new RateLimit(away, randomUUID(), 400, 4);
    let passed = 0;
    const attempts = Array.from({ length: 300 }, () =>
      limit.consume('a').then(
        () => passed++,
        () => {},
      ),
    );
    await Promise.all(attempts);
    expect(passed).toBeGreaterThan(90);
    expect(passed).toBeLessThanOrEqual(100);
    away.disconnect();
  });
});

describe('every answer', () => {
  it('says nothing about what we run, may not be framed, and is not guessed at', async () => {
    for (const path of ['/health', '/nothing', '/docs', '/admin/queues', '/openapi.json']) {
      const { headers } = await api.get(path);
      expect(headers.get('x-powered-by'), path).toBeNull();
      expect(headers.get('server'), path).toBeNull();
      expect(headers.get('x-content-type-options'), path).toBe('nosniff');
      expect(headers.get('content-security-policy'), path).toContain("frame-ancestors 'none'");
      expect(headers.get('x-frame-options'), path).toBe('DENY');
      expect(headers.get('access-control-allow-origin'), path).toBeNull();
    }
  });
});
