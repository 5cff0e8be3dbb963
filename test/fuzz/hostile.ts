import type { RandomGenerator } from './random-generator.ts';

/** Goes into JSON as it stands: what JSON.stringify would not write. */
export class RawJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

const raw = (text: string) => new RawJson(text);

/** Numbers, and what may be taken for one. */
export const hostileNumbers: readonly unknown[] = [
  raw('NaN'),
  raw('Infinity'),
  raw('-Infinity'),
  raw('-0'),
  raw('1e309'),
  raw('-1e309'),
  raw('1e-400'),
  raw('9007199254740992'),
  raw('9007199254740993'),
  raw('9223372036854775808'),
  raw('0x10'),
  raw('01'),
  raw('1.'),
  raw('+1'),
  -1,
  0,
  0.5,
  1.0000000001,
  2 ** 31,
  2 ** 31 - 1,
  -(2 ** 31),
  2 ** 53,
  1e300,
  '1',
  '1e3',
  '５',
];

/** None of them may ever be fetched: the fuzzer's canary listens at `canary`. */
export function hostileUrls(canary: string): string[] {
  const port = canary.split(':')[1] ?? '1';
  return [
    'http://169.254.169.254/latest/meta-data/iam/security-credentials/',
    `http://${canary}/plain`,
    `http://[::ffff:127.0.0.1]:${port}/mapped`,
    `http://2130706433:${port}/decimal`,
    `http://0x7f000001:${port}/hex`,
    `http://localhost:${port}/name`,
    `http://user@${canary}/`,
    `https://${canary}/`,
    `//${canary}/relative`,
    `gopher://${canary}/_`,
    'file:///etc/passwd',
    'jar:http://a!/b',
  ];
}

/** Texts that parsers, queries and logs may stumble over. */
export const hostileTexts: readonly string[] = [
  '',
  ' ',
  '\u0000',
  'a\u0000b',
  '\ud800',
  '\udfff\ud800',
  '\u202e\u200b\ufeff',
  '𝕏'.repeat(200),
  'é'.repeat(300),
  'a'.repeat(1_000),
  'a'.repeat(60_000),
  "'; drop table jobs; --",
  "' or 1=1 --",
  '1); select pg_sleep(5); --',
  '$1',
  '%',
  '_%_',
  '{{7*7}}',
  '$' + '{jndi:ldap://127.0.0.1/a}',
  '"}) or vector(1) or up{job="',
  'a\r\nX-Injected: yes\r\n\r\n',
  '\n\t\u001b[31m\u0007',
  '../../etc/passwd',
  '..%2f..%2fetc%2fpasswd',
  '__proto__',
  'constructor',
  'toString',
  '<script>alert(1)</script>',
  'null',
  'undefined',
  '[object Object]',
  '-1',
  '00000000-0000-0000-0000-000000000000',
  '{00000000-0000-0000-0000-000000000000}',
  'ffffffff-ffff-ffff-ffff-ffffffffffff',
  '2026-13-45T99:99:99Z',
  '2024-01-01T00:00:00+23:59',
  '2026-01-01',
  '-infinity',
  'now()',
  '0001-01-01T00:00:00Z',
  '275760-09-13T00:00:00Z',
  'us-east-1.attacker.example/',
  'x@169.254.169.254/',
];

/** Parts of a path, as they go over the wire. */
export const hostilePathParts: readonly string[] = [
  '..',
  '..%2f..%2fadmin',
  '%2e%2e%2f%2e%2e%2fetc%2fpasswd',
  '%00',
  '%ff',
  '%',
  '%zz',
  '%c0%ae%c0%ae',
  '%0d%0aX-Injected:%20yes',
  '%F0%9F%98%80',
  '.',
  ';a=b',
  '*',
  "'%20or%201=1",
  '__proto__',
  'a'.repeat(4_000),
  '00000000-0000-0000-0000-000000000000',
  '%7B%7D',
];

/** Query strings, with their question mark. */
export const hostileQueries: readonly string[] = [
  '?limit=1&limit=2',
  '?limit[]=1',
  '?limit[__proto__]=1',
  '?__proto__[x]=1',
  '?constructor=1',
  '?unknown=1',
  '?limit=NaN',
  '?limit=1e2',
  '?limit=-0',
  '?limit=0x10',
  '?limit=9007199254740993',
  '?limit=',
  '?limit=%00',
  '?cursor=%00',
  '?cursor=AAAA',
  `?cursor=${Buffer.from('["a","b"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["1"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["99999999999999999999"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["-1"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["x"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["2026-01-01","not-a-uuid"]').toString('base64url')}`,
  `?cursor=${Buffer.from('["infinity","00000000-0000-0000-0000-000000000000"]').toString('base64url')}`,
  `?cursor=${Buffer.from('{"0":1,"length":1}').toString('base64url')}`,
  `?cursor=${Buffer.from(`${'['.repeat(300)}`).toString('base64url')}`,
  '?offset=100001',
  '?offset=-1',
  '?from=2024-01-01T00:00:00%2B23:59',
  '?from=now&to=then',
  '?from=2026-02-30T00:00:00Z',
  "?status=' or 1=1 --",
  '?resource_id=1',
  '?%ff=%ff',
  '?a=%',
  `?${'a=b&'.repeat(2_000)}`,
];

/** Headers of one request each. */
export const hostileHeaders: readonly Readonly<Record<string, string>>[] = [
  { 'content-type': 'text/plain' },
  { 'content-type': 'application/json; charset=utf-16' },
  { 'content-type': 'application/json, text/plain' },
  { 'content-type': 'multipart/form-data; boundary=x' },
  { 'content-type': 'application/x-www-form-urlencoded' },
  { 'content-type': '' },
  { 'content-encoding': 'gzip' },
  { 'content-encoding': 'identity, br' },
  { 'x-http-method-override': 'DELETE' },
  { 'x-method-override': 'DELETE', 'x-http-method': 'DELETE' },
  { 'idempotency-key': '' },
  { 'idempotency-key': '\u00e9\u00ff' },
  { 'idempotency-key': 'k'.repeat(256) },
  { 'idempotency-key': 'k'.repeat(10_000) },
  { 'idempotency-key': 'a b' },
  { 'if-match': 'W/"1"' },
  { 'if-match': '"999999999999"' },
  { 'if-match': '"1", "2"' },
  { 'if-match': '*' },
  { prefer: 'wait=-1' },
  { prefer: 'wait=NaN, respond-async' },
  { prefer: 'wait=1; wait=1' },
  { 'x-forwarded-for': '127.0.0.1, 169.254.169.254' },
  { 'x-forwarded-host': 'attacker.example', 'x-forwarded-proto': 'https' },
  { host: 'attacker.example' },
  { 'x-request-id': `${'r'.repeat(101)}` },
  { 'x-request-id': '../../x{}' },
  { accept: 'text/html;q=0.1, */*;q=1e9' },
  { 'accept-encoding': 'gzip;q=x, ,,,' },
  { range: 'bytes=0-,-1' },
  { origin: 'https://attacker.example' },
  { cookie: `scaler_board=${'1'.repeat(13)}.${'0'.repeat(64)}` },
  { te: 'trailers, deflate;q=0.5' },
  { expect: '100-continue' },
  { 'upgrade-insecure-requests': '1' },
  { forwarded: 'for="[::ffff:127.0.0.1]"' },
];

/** JSON with the raw parts as they stand. */
export function stringify(value: unknown): string {
  if (value instanceof RawJson) return value.text;
  if (Array.isArray(value)) return `[${value.map(stringify).join(',')}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .map(([name, inner]) => `${JSON.stringify(name)}:${stringify(inner)}`)
      .join(',')}}`;
  return JSON.stringify(value) ?? 'null';
}

/** Bodies that are hostile as a whole. `fields` is the inside of a valid object: `"a":1,"b":2`. */
export const wholeBodies: readonly ((fields: string, random: RandomGenerator) => string | Buffer)[] = [
  () => '',
  () => '{',
  () => 'null',
  () => '[]',
  () => '"x"',
  () => '{}',
  () => '1e999',
  (fields) => `{${fields}}{${fields}}`,
  (fields) => `\ufeff{${fields}}`,
  (fields) => `{${fields},${fields}}`,
  (fields) => `{${fields},"__proto__":{"admin":true}}`,
  (fields) => `{${fields},"constructor":{"prototype":{"admin":true}}}`,
  (fields) => `{${fields},"\\u005f_proto__":1}`,
  (fields) => `{${fields},"admin":true}`,
  (fields) => `{${fields},"x":"\\ud800"}`,
  (fields) => `{${fields},"x":"\\u0000"}`,
  (fields) => `[{${fields}}]`,
  (fields) => `{${fields},}`,
  (fields) => `{${fields}} // end`,
  () => `${'['.repeat(10_000)}${']'.repeat(10_000)}`,
  () => `${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`,
  () => `{"a":${'['.repeat(31)}${']'.repeat(31)}}`,
  () => `{${Array.from({ length: 5_000 }, (_, n) => `"f${n}":${n}`).join(',')}}`,
  () => `{"resource_ids":[${Array(1_001).fill('"00000000-0000-4000-8000-000000000000"').join(',')}]}`,
  () => `{"x":"${'a'.repeat(64 * 1024)}"}`,
  () => Buffer.concat([Buffer.from('{"x":"'), Buffer.from([0xff, 0xfe, 0xc0, 0xaf]), Buffer.from('"}')]),
  () => Buffer.concat([Buffer.from('{"x":"'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from('"}')]),
  (_fields, random) => Buffer.from(Array.from({ length: 200 }, () => random.below(256))),
];
