import { z } from 'zod';
import { parseEnvironment } from '../shared/config/parse-environment.ts';
import { awsRegionPattern } from '../shared/domain/resource.ts';
import { defaultPrefix, packSize } from '../shared/queues/queues.ts';
import { redisUrl, requireHashTag } from '../shared/queues/redis-url.ts';

const schema = z
  .object({
    HOST: z.string().min(1).default('0.0.0.0'),
    PORT: z.coerce.number().int().min(0).max(65_535).default(8082),
    DATABASE_URL: z.string().min(1),
    REDIS_URL: redisUrl,
    QUEUE_PREFIX: z.string().min(1).default(defaultPrefix),
    API_KEY_PEPPER: z.string().default(''),
    NODE_ENV: z.string().default('development'),
    AWS_REGION: z.string().regex(awsRegionPattern, 'must be an AWS region').default('us-east-1'),
    LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
    DATABASE_POOL: z.coerce.number().int().min(2).max(100).default(8),
    RATE_LIMIT_PER_MINUTE: z.coerce.number().int().min(1).max(10_000_000).default(6_000),
    /** 401s a minute and address (IPv6: /56); more are answered 429 without looking the key up. */
    FAILED_AUTH_PER_MINUTE: z.coerce.number().int().min(1).max(10_000_000).default(60),
    /** API processes that share the limits: while Redis is away each allows its share. */
    API_REPLICAS: z.coerce.number().int().min(1).max(10_000).default(1),
    /** A client that takes longer to send the head of its request, or all of it, is cut off. */
    HEADERS_TIMEOUT_MS: z.coerce.number().int().min(100).max(60_000).default(10_000),
    REQUEST_TIMEOUT_MS: z.coerce.number().int().min(100).max(300_000).default(15_000),
    /** Decide jobs that arrive together travel as one queue entry of at most this many. */
    DECIDE_PACK_SIZE: z.coerce.number().int().min(1).max(200).default(packSize),
    DECISION_LIFETIME_SECONDS: z.coerce.number().int().min(10).max(86_400).default(900),
    /** With so many jobs waiting, new ones are refused with 503. */
    MAX_WAITING_JOBS: z.coerce.number().int().min(1).max(100_000_000).default(100_000),
    BULL_BOARD: z.enum(['true', 'false']).default('true'),
    BULL_BOARD_WRITABLE: z.enum(['true', 'false']).default('false'),
    TRUST_PROXY_HOPS: z.coerce.number().int().min(0).max(10).default(0),
  })
  .refine((config) => config.NODE_ENV !== 'production' || config.API_KEY_PEPPER.length >= 16, {
    path: ['API_KEY_PEPPER'],
    message: 'set a secret of at least 16 characters in production',
  })
  .superRefine(requireHashTag);

export type ApiConfig = z.infer<typeof schema>;

/** @throws Error listing every mistake in the environment. */
export function readApiConfig(
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<ApiConfig> {
  return parseEnvironment(schema, environment);
}
