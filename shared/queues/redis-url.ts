import { readFileSync } from 'node:fs';
import type { RedisOptions } from 'ioredis';
import { z } from 'zod';
import { errorMessage } from '../errors.ts';

interface RedisHost {
  readonly host: string;
  readonly port: number;
}

/** Where Redis is and how to get in, as ioredis wants it. */
export interface RedisAddress {
  /** Nodes of a Cluster to ask for the others; null for a single Redis, also one that Sentinels name. */
  readonly cluster: readonly RedisHost[] | null;
  readonly options: RedisOptions;
}

const shape =
  /^(rediss?)(?:[-+](sentinel|cluster))?:\/\/(?:([^/?#]*)@)?([^/?#@]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/;
const hostShape = /^(?:\[([\da-fA-F:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/;
const tlsFiles = { ssl_ca_certs: 'ca', ssl_certfile: 'cert', ssl_keyfile: 'key' } as const;
const passwordHint = ' (in a password write : / ? # @ % as %3A %2F %3F %23 %40 %25)';
const sentinelOptions = ['db', 'sentinel_username', 'sentinel_password'];

/**
 * The forms are in docs/reference/configuration.md. Names of schemes are those of lettuce and asynq (or with `+`, as in
 * Python), names of TLS options those of redis-py and Celery.
 * @throws Error that says what is wrong and quotes nothing of the URL: any part of a mistyped one may be the password.
 */
export function parseRedisUrl(url: string): RedisAddress {
  const parts = shape.exec(url);
  if (parts === null)
    throw new Error(
      'must be redis://[user:password@]host:port, or begin with rediss://, redis-sentinel:// or redis-cluster://' +
        passwordHint,
    );
  const [, scheme, topology, credentials, authority = '', path = '', query] = parts;
  const secure = scheme === 'rediss';
  const hosts = authority.split(',').map((text) => parseHost(text, topology === 'sentinel' ? 26_379 : 6_379));
  const known = ['family', ...Object.keys(tlsFiles), ...(topology === 'sentinel' ? sentinelOptions : [])];
  const given = parseQuery(query, known);
  const tls = parseTls(given, secure);
  const options = { ...parseCredentials(credentials), ...tls, ...parseFamily(given.get('family')) };
  switch (topology) {
    case 'cluster':
      if (path !== '' && path !== '0') throw new Error('names a database, but a Redis Cluster has only 0');
      return { cluster: hosts, options };
    case 'sentinel':
      return { cluster: null, options: { ...options, ...parseSentinel(hosts, path, given, tls) } };
    default:
      if (hosts.length > 1)
        throw new Error('names several hosts: begin with redis-sentinel:// or redis-cluster://');
      return { cluster: null, options: { ...options, ...hosts[0], ...parseDatabase(path) } };
  }
}

/** Of `REDIS_URL` in the environment. */
export const redisUrl = z.string().superRefine((url, context) => {
  try {
    parseRedisUrl(url);
  } catch (error) {
    context.addIssue({ code: 'custom', message: errorMessage(error) });
  }
});

/** A queue's scripts touch several keys at once: a Cluster refuses them (CROSSSLOT) unless all are in one slot. */
export function requireHashTag(
  config: { readonly REDIS_URL: string; readonly QUEUE_PREFIX: string },
  context: z.RefinementCtx,
): void {
  const isCluster = /^rediss?[-+]cluster:/.test(config.REDIS_URL);
  if (!isCluster || /^[^{]*\{[^}]+\}/.test(config.QUEUE_PREFIX)) return;
  context.addIssue({
    code: 'custom',
    path: ['QUEUE_PREFIX'],
    message: 'needs a part in braces on a Redis Cluster, as in {scaler}, so that all keys are in one slot',
  });
}

function parseHost(text: string, defaultPort: number): RedisHost {
  const [, v6, name, port = String(defaultPort)] = hostShape.exec(text) ?? [];
  const host = v6 ?? name;
  if (host === undefined)
    throw new Error(`names a host that is not host, host:port or [IPv6]:port${passwordHint}`);
  if (Number(port) < 1 || Number(port) > 65_535) throw new Error('names a port that is not 1 to 65535');
  return { host, port: Number(port) };
}

function parseCredentials(text: string | undefined): RedisOptions {
  if (text === undefined) return {};
  const [username, password] = text.split(/:(.*)/s).map(decoded);
  // Clients differ in what they take a lone word for; ours would not log in at all.
  if (!password) throw new Error('names a user without a password: write :password@ or user:password@');
  return { ...(username ? { username } : {}), password };
}

function parseQuery(text: string | undefined, known: readonly string[]): ReadonlyMap<string, string> {
  const given = new Map<string, string>();
  for (const pair of text ? text.split('&') : []) {
    const [name = '', value] = pair.split(/=(.*)/s).map(decoded);
    if (!known.includes(name) || !value)
      throw new Error(`has an option that is not one of ${known.join(', ')}, or is empty`);
    given.set(name, value);
  }
  return given;
}

function parseTls(given: ReadonlyMap<string, string>, secure: boolean): Pick<RedisOptions, 'tls'> {
  const files = Object.entries(tlsFiles).flatMap(([name, option]) => {
    const file = given.get(name);
    return file === undefined ? [] : [[option, readFile(name, file)] as const];
  });
  if (files.length > 0 && !secure) throw new Error('has ssl_ options, but does not begin with rediss');
  return secure ? { tls: Object.fromEntries(files) } : {};
}

function parseFamily(text: string | undefined): RedisOptions {
  if (text === undefined) return {};
  if (!['0', '4', '6'].includes(text)) throw new Error('has a family that is not 0, 4 or 6');
  return { family: Number(text) };
}

function parseDatabase(text: string | undefined): RedisOptions {
  if (!text) return {};
  if (!/^\d{1,5}$/.test(text)) throw new Error('names a database that is not a number');
  return { db: Number(text) };
}

function parseSentinel(
  sentinels: RedisHost[],
  path: string,
  given: ReadonlyMap<string, string>,
  { tls }: Pick<RedisOptions, 'tls'>,
): RedisOptions {
  const name = decoded(path);
  if (name === '' || name.includes('/'))
    throw new Error('does not name what the Sentinels watch: end with /mymaster');
  const username = given.get('sentinel_username');
  const password = given.get('sentinel_password');
  return {
    sentinels,
    name,
    ...(username === undefined ? {} : { sentinelUsername: username }),
    ...(password === undefined ? {} : { sentinelPassword: password }),
    ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
    ...parseDatabase(given.get('db')),
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('has a % that is not followed by two hexadecimal digits: write it as %25');
  }
}

function readFile(name: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`${name} names a file that cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}
