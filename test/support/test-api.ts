import { type Api, composeApi, listen } from '../../api/compose.ts';
import { readApiConfig } from '../../api/config.ts';
import { createKey } from '../../api/keys/keys-store.ts';
import type { Scope, Selectors } from '../../shared/domain/api-key.ts';
import { createTestDatabase } from './test-database.ts';
import { createTestRedis } from './test-redis.ts';

const pepper = 'a pepper for tests';

export interface TestApi {
  readonly api: Api;
  readonly url: string;
  readonly environment: Readonly<Record<string, string>>;
  key(scopes: readonly Scope[], days?: number, selectors?: Selectors): Promise<string>;
  /** A request over real HTTP. */
  call(
    method: string,
    path: string,
    options?: { key?: string; body?: unknown; raw?: string | Buffer; headers?: Record<string, string> },
  ): Promise<{ status: number; body: ReturnType<typeof JSON.parse>; headers: Headers }>;
  close(): Promise<void>;
}

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
  return {
    api,
    url,
    environment,
    key: async (scopes, days = 1, selectors = null) =>
      (await createKey(api.deps.pool, pepper, { name: 'test', scopes, selectors, days })).key,
    async call(method, path, options = {}) {
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }),
          ...(options.body === undefined && options.raw === undefined
            ? {}
            : { 'content-type': 'application/json' }),
          ...options.headers,
        },
        ...(options.raw === undefined
          ? options.body === undefined
            ? {}
            : { body: JSON.stringify(options.body) }
          : { body: options.raw as string }),
        redirect: 'manual',
      });
      const text = await response.text();
      const isJson = (response.headers.get('content-type') ?? '').includes('json');
      return {
        status: response.status,
        body: isJson && text !== '' ? JSON.parse(text) : text,
        headers: response.headers,
      };
    },
    async close() {
      await api.closers.closeAll(5_000);
      await database.drop();
    },
  };
}
