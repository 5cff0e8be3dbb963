import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { expect } from 'vitest';
import { type Api, composeApi, listen } from '../../api/compose.ts';
import { readApiConfig } from '../../api/config.ts';
import { createKey } from '../../api/keys/keys-store.ts';
import { type Scope, type Selectors, scopes } from '../../shared/domain/api-key.ts';
import { createTestDatabase } from './test-database.ts';
import { createTestRedis } from './test-redis.ts';

const pepper = 'a pepper for tests';

type RequestHeaders = Readonly<Record<string, string>>;

export interface Answer {
  readonly status: number;
  /** JSON as its value, anything else as text. */
  readonly body: ReturnType<typeof JSON.parse>;
  readonly headers: Headers;
}

/** Requests over real HTTP. */
interface Requests {
  get(path: string, headers?: RequestHeaders): Promise<Answer>;
  post(path: string, body?: unknown, headers?: RequestHeaders): Promise<Answer>;
  put(path: string, body?: unknown, headers?: RequestHeaders): Promise<Answer>;
  patch(path: string, body: unknown, headers?: RequestHeaders): Promise<Answer>;
  delete(path: string, headers?: RequestHeaders): Promise<Answer>;
}

/** Requests with a key of their own. */
export interface ApiClient extends Requests {
  readonly key: string;
  /** Registers an Auto Scaling group. @returns its id. */
  createGroup(values?: Record<string, unknown>): Promise<string>;
}

/** Its own requests carry no key. */
export interface TestApi extends Requests {
  readonly api: Api;
  readonly pool: pg.Pool;
  readonly url: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Creates a key that lives for `days`, a day unless said otherwise. */
  key(scopes: readonly Scope[], days?: number, selectors?: Selectors): Promise<string>;
  as(key: string): ApiClient;
  /** Creates a key, for every scope unless said otherwise. */
  client(scopes?: readonly Scope[]): Promise<ApiClient>;
  /** A request that the others cannot make: a raw body, a method or a key that depends. */
  call(
    method: string,
    path: string,
    options?: { key?: string; body?: unknown; raw?: string | Buffer; headers?: RequestHeaders },
  ): Promise<Answer>;
  close(): Promise<void>;
}

/** What an answer looks like that refuses with a problem. */
export const refusal = (status: number, code: string) => ({ status, body: { code } });

/** What `POST /resources` takes for an Auto Scaling group. */
export const newGroup = (values: Record<string, unknown> = {}) => ({
  name: `asg-${randomUUID()}`,
  resource_type: 'ec2',
  cloud_provider: 'aws',
  min_instances: 1,
  max_instances: 20,
  current_instances: 4,
  ...values,
});

/**
 * The real API on a free port, with its own database and key prefix.
 * @param through what stands between it and its databases, where a test wants to cut the line.
 */
export async function startTestApi(
  given: Readonly<Record<string, string>> = {},
  through: (urls: {
    database: string;
    redis: string;
  }) => Promise<{ database: string; redis: string }> = async (urls) => urls,
): Promise<TestApi> {
  const database = await createTestDatabase();
  const redis = createTestRedis();
  const urls = await through({ database: database.url, redis: redis.url });
  const environment = {
    DATABASE_URL: urls.database,
    REDIS_URL: urls.redis,
    QUEUE_PREFIX: redis.prefix,
    HOST: '127.0.0.1',
    PORT: '0',
    API_KEY_PEPPER: pepper,
    LOG_LEVEL: 'silent',
    RATE_LIMIT_PER_MINUTE: '1000000',
    FAILED_AUTH_PER_MINUTE: '1000000',
    ...given,
  };
  const api = composeApi(readApiConfig(environment));
  const port = await listen(api);
  const url = `http://127.0.0.1:${port}`;
  const call: TestApi['call'] = async (method, path, { key, body, raw, headers } = {}) => {
    const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
    const response = await fetch(url + path, {
      method,
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(sent === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(sent === undefined ? {} : { body: sent as string }),
      redirect: 'manual',
    });
    const text = await response.text();
    const isJson = /\bjson\b/.test(response.headers.get('content-type') ?? '');
    const { status } = response;
    return { status, body: isJson && text !== '' ? JSON.parse(text) : text, headers: response.headers };
  };
  const requests = (credentials: { readonly key?: string }): Requests => ({
    get: (path, headers = {}) => call('GET', path, { ...credentials, headers }),
    post: (path, body, headers = {}) => call('POST', path, { ...credentials, body, headers }),
    put: (path, body, headers = {}) => call('PUT', path, { ...credentials, body, headers }),
    patch: (path, body, headers = {}) => call('PATCH', path, { ...credentials, body, headers }),
    delete: (path, headers = {}) => call('DELETE', path, { ...credentials, headers }),
  });
  const as = (key: string): ApiClient => ({
    ...requests({ key }),
    key,
    async createGroup(values) {
      const answer = await call('POST', '/resources', { key, body: newGroup(values) });
      expect(answer.status).toBe(201);
      return answer.body.id;
    },
  });
  const { pool } = api.deps;
  const key: TestApi['key'] = async (given, days = 1, selectors = null) =>
    (await createKey(pool, pepper, { name: 'test', scopes: given, selectors, days })).key;
  return {
    ...requests({}),
    api,
    pool,
    url,
    environment,
    key,
    as,
    client: async (given = scopes) => as(await key(given)),
    call,
    async close() {
      await api.closers.closeAll(5_000);
      await database.drop();
    },
  };
}
