import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { readApiConfig } from '../../../api/config.ts';
import { parseRedisUrl } from '../../../shared/queues/redis-url.ts';
import { readWorkerConfig } from '../../../worker/config.ts';

const folder = mkdtempSync(join(tmpdir(), 'scaler-redis-url-'));
const caFile = join(folder, 'ca.pem');
writeFileSync(caFile, 'a certificate');
afterAll(() => rmSync(folder, { recursive: true }));

const at = (host: string, port: number) => ({ host, port });
const sentinels = [at('a', 26_379), at('b', 7000)];

describe('a Redis URL', () => {
  it.each([
    ['redis://redis', null, at('redis', 6379)],
    ['redis://redis:6380/', null, at('redis', 6380)],
    ['redis://:secret@10.0.0.1/2', null, { ...at('10.0.0.1', 6379), password: 'secret', db: 2 }],
    ['redis://scaler:a%40b%3Ac:d@h', null, { ...at('h', 6379), username: 'scaler', password: 'a@b:c:d' }],
    ['redis://:a@b@h', null, { ...at('h', 6379), password: 'a@b' }],
    ['redis://[::1]:7000?family=6', null, { ...at('::1', 7000), family: 6 }],
    ['rediss://h:6380', null, { ...at('h', 6380), tls: {} }],
    [`rediss://h?ssl_ca_certs=${caFile}`, null, { ...at('h', 6379), tls: { ca: 'a certificate' } }],
    [
      `rediss://h?ssl_certfile=${caFile}&ssl_keyfile=${caFile}`,
      null,
      { ...at('h', 6379), tls: { cert: 'a certificate', key: 'a certificate' } },
    ],
    ['redis-sentinel://a,b:7000/mymaster', null, { sentinels, name: 'mymaster' }],
    [
      'redis+sentinel://u:p@a,b:7000/mymaster?db=3&sentinel_username=w&sentinel_password=s%3D',
      null,
      {
        ...{ sentinels, name: 'mymaster', db: 3, username: 'u', password: 'p' },
        ...{ sentinelUsername: 'w', sentinelPassword: 's=' },
      },
    ],
    [
      'rediss-sentinel://a,b:7000/mymaster',
      null,
      { sentinels, name: 'mymaster', tls: {}, sentinelTLS: {}, enableTLSForSentinelMode: true },
    ],
    ['redis-cluster://a:7000', [at('a', 7000)], {}],
    [
      `rediss-cluster://u:p@a,b:7000/0?ssl_ca_certs=${caFile}`,
      [at('a', 6379), at('b', 7000)],
      { username: 'u', password: 'p', tls: { ca: 'a certificate' } },
    ],
  ])('%s', (url, cluster, options) => {
    expect(parseRedisUrl(url)).toEqual({ cluster, options });
  });

  const others = 'must be redis://';
  it.each([
    ['localhost:6379', others],
    ['REDISS://h', others],
    ['http://h', others],
    ['redis-ring://h', others],
    ['redis://', 'a host that is not'],
    ['redis://h:', 'a host that is not'],
    ['redis://h:0', 'a port that is not'],
    ['redis://h:65536', 'a port that is not'],
    ['redis://h:secret/', 'a host that is not'],
    ['redis://:sec/ret@h', 'as %3A %2F'],
    ['redis://::1', 'a host that is not'],
    ['redis://secret@h', 'a user without a password'],
    ['redis://:@h', 'a user without a password'],
    ['redis://:50%secret@h', 'hexadecimal'],
    ['redis://h/secret', 'not a number'],
    ['redis://a,b', 'several hosts'],
    ['redis://h?password=secret', 'an option that is not one of family, ssl_ca_certs'],
    ['redis://h?family=5', 'not 0, 4 or 6'],
    ['redis://h?sentinel_password=secret', 'an option that is not one of'],
    ['rediss://h?ssl_ca_certs=', 'or is empty'],
    [`redis://h?ssl_ca_certs=${caFile}`, 'does not begin with rediss'],
    [`rediss://h?ssl_ca_certs=${folder}/none`, 'ssl_ca_certs names a file that cannot be read (ENOENT)'],
    ['redis-sentinel://a,b', 'what the Sentinels watch'],
    ['redis-sentinel://a/mymaster/0', 'what the Sentinels watch'],
    ['redis-sentinel://a/mymaster?db=secret', 'not a number'],
    ['redis-cluster://a/1', 'a Redis Cluster has only 0'],
    ['redis-cluster://a,', 'a host that is not'],
  ])('is refused: %s', (url, reason) => {
    for (const read of [readApiConfig, readWorkerConfig]) {
      const reading = () => read({ DATABASE_URL: 'postgres://h', REDIS_URL: url });
      expect(reading).toThrow(/REDIS_URL: /);
      expect(reading).toThrow(reason);
      expect(reading).not.toThrow(/secret/);
    }
  });

  it('never tells its password, however it was mistyped', () => {
    const password = fc.string({ minLength: 4, maxLength: 12 }).map((text) => `Qz${text}zQ`);
    const around = fc.constantFrom(
      (text: string) => `redis://:${text}@h`,
      (text: string) => `redis:/:${text}@h`,
      (text: string) => `redis://${text}`,
      (text: string) => `rediss-cluster://u:p${text}@h:${text}/0?ssl_ca_certs=${text}`,
      (text: string) => `redis-sentinel://u:${text}@h/m?sentinel_password=${text}&${text}=1`,
    );
    fc.assert(
      fc.property(password, around, (text, urlOf) => {
        try {
          parseRedisUrl(urlOf(text));
        } catch (error) {
          expect(String(error)).not.toContain('Qz');
        }
      }),
      { numRuns: 1_000 },
    );
  });
});

describe('the prefix of keys', () => {
  const read = (url: string, prefix: string) => () =>
    readWorkerConfig({ DATABASE_URL: 'postgres://h', REDIS_URL: url, QUEUE_PREFIX: prefix });

  it.each(['scaler', '{}scaler', '{}{scaler}', '}{'])('%s is refused on a Cluster alone', (prefix) => {
    expect(read('redis-cluster://a', prefix)).toThrow(/QUEUE_PREFIX: needs a part in braces/);
    expect(read('redis://a', prefix)().QUEUE_PREFIX).toBe(prefix);
  });

  it.each(['{scaler}', 'team:{a}', 'x{a}{b}'])('%s is taken', (prefix) => {
    expect(read('redis-cluster://a', prefix)().QUEUE_PREFIX).toBe(prefix);
  });
});
