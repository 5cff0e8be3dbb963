import { gzipSync } from 'node:zlib';
import type { RandomGenerator } from './random-generator.ts';

export interface RawTarget {
  readonly key: string;
  readonly resourceId: string;
}

type Shape = (target: RawTarget, random: RandomGenerator) => Buffer | string;

const bomb = gzipSync(Buffer.alloc(10 * 1024 * 1024));

/** A request as it goes over the wire; `headers` come after Host and Authorization. */
function wire(
  target: RawTarget,
  line: string,
  headers: readonly string[],
  body: Buffer | string = '',
): Buffer {
  const head = [
    `${line} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: Bearer ${target.key}`,
    'Connection: close',
    ...headers,
  ];
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`, 'latin1'), Buffer.from(body)]);
}

const post = (target: RawTarget, headers: readonly string[], body: Buffer | string = '') =>
  wire(target, 'POST /scale/decide', ['Content-Type: application/json', ...headers], body);

const chunked = (target: RawTarget, body: string) => post(target, ['Transfer-Encoding: chunked'], body);

/** A body of exactly so many bytes that is JSON. */
function sized(bytes: number): string {
  return `{"x":"${'a'.repeat(bytes - 8)}"}`;
}

/** What no well-behaved client sends. None may have an effect, and none may get more than one answer. */
export const rawShapes: Readonly<Record<string, Shape>> = {
  'length and chunked': (t) =>
    post(
      t,
      ['Content-Length: 6', 'Transfer-Encoding: chunked'],
      '0\r\n\r\nDELETE /resources HTTP/1.1\r\n\r\n',
    ),
  'chunked and length': (t) =>
    post(t, ['Transfer-Encoding: chunked', 'Content-Length: 4'], '5c\r\nGET /keys HTTP/1.1\r\n\r\n0\r\n\r\n'),
  'chunked, identity': (t) => post(t, ['Transfer-Encoding: chunked, identity'], '0\r\n\r\n'),
  'chunked twice': (t) => post(t, ['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], '0\r\n\r\n'),
  'space before the colon': (t) => post(t, ['Transfer-Encoding : chunked'], '0\r\n\r\n'),
  xchunked: (t) => post(t, ['Transfer-Encoding: xchunked'], '0\r\n\r\n'),
  'tabbed chunked': (t) => post(t, ['Transfer-Encoding:\tchunked\x0b'], '0\r\n\r\n'),
  'two lengths': (t) => post(t, ['Content-Length: 2', 'Content-Length: 40'], '{}'),
  'lengths in a list': (t) => post(t, ['Content-Length: 2, 2'], '{}'),
  'length with a plus': (t) => post(t, ['Content-Length: +2'], '{}'),
  'negative length': (t) => post(t, ['Content-Length: -1'], '{}'),
  'hexadecimal length': (t) => post(t, ['Content-Length: 0x2'], '{}'),
  'huge length': (t) => post(t, ['Content-Length: 99999999999999999999'], '{}'),
  'length that never comes': (t) => post(t, ['Content-Length: 500'], '{'),
  'length over the limit': (t) => post(t, ['Content-Length: 65537'], '{'),
  'chunk size of letters': (t) => chunked(t, 'zz\r\n{}\r\n0\r\n\r\n'),
  'negative chunk': (t) => chunked(t, '-1\r\n{}\r\n0\r\n\r\n'),
  'huge chunk': (t) => chunked(t, 'ffffffffffffffffff\r\n{}\r\n'),
  'chunk without an end': (t) => chunked(t, '2\r\n{}'),
  'chunk longer than said': (t) => chunked(t, '2\r\n{"resource_id":1}\r\n0\r\n\r\n'),
  'chunk extension of 20 KB': (t) => chunked(t, `2;${'x'.repeat(20_000)}\r\n{}\r\n0\r\n\r\n`),
  'chunks of one byte': (t) => chunked(t, `${'1\r\na\r\n'.repeat(2_000)}0\r\n\r\n`),
  'chunks over the limit': (t) => chunked(t, `${`4000\r\n${'a'.repeat(16_384)}\r\n`.repeat(5)}0\r\n\r\n`),
  'trailers with an authorization': (t) =>
    chunked(t, `2\r\n{}\r\n0\r\nAuthorization: Bearer ${t.key}\r\n\r\n`),
  'line feeds alone': (t) => post(t, ['Content-Length: 2'], '{}').toString('latin1').replaceAll('\r\n', '\n'),
  'carriage return alone': (t) => post(t, ['X: a\rContent-Length: 2'], '{}'),
  'folded header': (t) => post(t, ['X: a', ' Content-Length: 2'], '{}'),
  'NUL in a header': (t) => post(t, ['X: a\0b', 'Content-Length: 2'], '{}'),
  'control characters in a header': (t) => post(t, ['X: \x01\x02\x1b[31m\x7f', 'Content-Length: 2'], '{}'),
  'bytes above ASCII in a header': (t) => post(t, ['X-Request-Id: \xff\xfe\xe9', 'Content-Length: 2'], '{}'),
  'header of 100,000 characters': (t) => post(t, [`X: ${'a'.repeat(100_000)}`, 'Content-Length: 2'], '{}'),
  'header name of 100,000 characters': (t) => post(t, [`${'X'.repeat(100_000)}: a`], '{}'),
  'address of 100,000 characters': (t) => wire(t, `GET /${'a'.repeat(100_000)}`, []),
  '101 headers': (t) =>
    wire(t, `DELETE /resources/${t.resourceId}`, [
      ...Array.from({ length: 120 }, (_, n) => `X-${n}: a`),
      'If-Match: "99"',
    ]),
  '2,000 headers': (t) =>
    post(t, ['Content-Length: 2', ...Array.from({ length: 2_000 }, (_, n) => `X${n}: a`)], '{}'),
  'two authorizations': (t) => wire(t, 'GET /jobs', ['Authorization: Bearer as_live_x']),
  'two idempotency keys': (t) =>
    post(t, ['Idempotency-Key: a', 'Idempotency-Key: b', 'Content-Length: 2'], '{}'),
  'two content types': (t) => post(t, ['Content-Type: text/plain', 'Content-Length: 2'], '{}'),
  'two hosts': (t) => wire(t, 'GET /jobs', ['Host: attacker.example']),
  'no host': (t) => `GET /jobs HTTP/1.1\r\nAuthorization: Bearer ${t.key}\r\nConnection: close\r\n\r\n`,
  'no header name': (t) => wire(t, 'GET /jobs', [': a']),
  'space in a header name': (t) => wire(t, 'GET /jobs', ['X Y: a']),
  'HTTP/1.0': (t) => `GET /jobs HTTP/1.0\r\nAuthorization: Bearer ${t.key}\r\n\r\n`,
  'HTTP/9.9': () => 'GET /jobs HTTP/9.9\r\n\r\n',
  'HTTP/0.9': () => 'GET /jobs\r\n\r\n',
  'HTTP/2': () => 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  TLS: () => Buffer.from('16030100c8010000c40303', 'hex'),
  'random bytes': (_t, random) => Buffer.from(Array.from({ length: 300 }, () => random.below(256))),
  'unknown method': (t) => wire(t, 'FOO /jobs', []),
  'method in small letters': (t) => wire(t, 'get /jobs', []),
  'method of 1,000 letters': (t) => wire(t, `${'G'.repeat(1_000)} /jobs`, []),
  TRACE: (t) => wire(t, 'TRACE /jobs', []),
  CONNECT: (t) => wire(t, 'CONNECT 169.254.169.254:80', []),
  'OPTIONS of everything': (t) => wire(t, 'OPTIONS *', []),
  PURGE: (t) => wire(t, 'PURGE /jobs', []),
  'absolute address': (t) => wire(t, 'GET http://169.254.169.254/latest/meta-data/', []),
  'address with a tab': (t) => wire(t, 'GET /jobs\t', []),
  'address with bytes above ASCII': (t) => wire(t, 'GET /j\xf6bs', []),
  'address with a fragment': (t) => wire(t, 'GET /jobs#x', []),
  'address without a slash': (t) => wire(t, 'GET jobs', []),
  'two slashes': (t) => wire(t, 'GET //jobs//', []),
  'slash and back': (t) => wire(t, 'GET /docs/../keys', []),
  'out of the documentation': (t) => wire(t, 'GET /docs/..%2f..%2f..%2fpackage.json', []),
  'out of the documentation, again': (t) => wire(t, 'GET /docs/%2e%2e/%2e%2e/package.json', []),
  'body on a GET': (t) => wire(t, 'GET /jobs', ['Content-Length: 2', 'Content-Type: application/json'], '{}'),
  'body on a DELETE': (t) => wire(t, 'DELETE /keys/000000000000', ['Content-Length: 2'], '{}'),
  websocket: (t) =>
    wire(t, 'GET /jobs', ['Upgrade: websocket', 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==']),
  'upgrade to HTTP/2': (t) => wire(t, 'GET /jobs', ['Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__']),
  'expects the impossible': (t) => post(t, ['Expect: 200-ok', 'Content-Length: 2'], '{}'),
  'gzip bomb': (t) => post(t, ['Content-Encoding: gzip', `Content-Length: ${bomb.length}`], bomb),
  'gzip bomb in chunks': (t) =>
    post(
      t,
      ['Content-Encoding: gzip', 'Transfer-Encoding: chunked'],
      Buffer.concat([Buffer.from(`${bomb.length.toString(16)}\r\n`), bomb, Buffer.from('\r\n0\r\n\r\n')]),
    ),
  'one byte over 64 KiB': (t) => post(t, ['Content-Length: 65537'], sized(65_537)),
  'one byte over 4 MiB': (t) =>
    wire(
      t,
      `POST /resources/${t.resourceId}/metrics`,
      ['Content-Type: application/json', 'Content-Length: 4194305'],
      sized(4_194_305),
    ),
  'line injected in the address': (t) => wire(t, 'GET /jobs%0d%0aX-Injected:%20yes', []),
  'line injected in the request id': (t) => wire(t, 'GET /health', ['X-Request-Id: a%0d%0aX-Injected: yes']),
};

/** Shapes whose whole is two requests or more, and so may have as many answers. */
export const pipelined = (target: RawTarget): Buffer =>
  Buffer.concat([
    ...Array.from({ length: 9 }, () => Buffer.from(`GET /health HTTP/1.1\r\nHost: a\r\n\r\n`)),
    wire(target, 'GET /jobs?limit=1', []),
  ]);

/** Shapes that may stay unanswered, and why; what is not here is whole, and an answer is due. */
export const mayEndUnanswered: Readonly<Record<string, string>> = {
  'length that never comes': 'the rest of the body is waited for, until the time for a request is over',
  'length over the limit':
    'the body is refused once it is there, so that a client is not cut off while it sends',
  'chunk without an end': 'the next chunk is waited for, until the time for a request is over',
  CONNECT: 'we are no proxy: Node ends the connection',
};
