import { z } from 'zod';
import { parseEnvironment } from '../shared/config/parse-environment.ts';
import { defaultPrefix, queueNames } from '../shared/queues/queues.ts';
import { redisUrl, requireHashTag } from '../shared/queues/redis-url.ts';

const concurrency = (fallback: number) => z.coerce.number().int().min(1).max(1_000).default(fallback);
const fleet = z.coerce.number().int().min(1).max(100_000).optional();

const schema = z.object({
  DATABASE_URL: z.string().min(1),
  REDIS_URL: redisUrl,
  QUEUE_PREFIX: z.string().min(1).default(defaultPrefix),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  AWS_REGION: z.string().min(1).default('us-east-1'),
  WORKER_QUEUES: z
    .string()
    .default(queueNames.join(','))
    .transform((text) => text.split(',').map((name) => name.trim()))
    .pipe(z.array(z.enum(queueNames)).min(1)),
  DATABASE_POOL: z.coerce.number().int().min(2).max(100).default(8),
  // Of one worker process. Decide is bound by round trips and is committed in batches; a cloud call is one at a time.
  DECIDE_CONCURRENCY: concurrency(200),
  EXECUTE_AWS_CONCURRENCY: concurrency(16),
  EXECUTE_KUBERNETES_CONCURRENCY: concurrency(16),
  // Of the whole fleet; unset means unlimited.
  DECIDE_FLEET_CONCURRENCY: fleet,
  EXECUTE_AWS_FLEET_CONCURRENCY: fleet,
  EXECUTE_KUBERNETES_FLEET_CONCURRENCY: fleet,
  /** Memory for forecasters, of one worker process; about 100 to 350 KiB each. */
  FORECAST_CACHE_MB: z.coerce.number().int().min(1).max(65_536).default(256),
  // Calls in flight to one account's region or one cluster, of one worker process.
  PROVIDER_CONCURRENCY: concurrency(8),
  DECISION_LIFETIME_SECONDS: z.coerce.number().int().min(10).max(86_400).default(900),
  AWS_SETTLE_SECONDS: z.coerce.number().int().min(1).max(3_600).default(330),
  OBSERVE_INTERVAL_SECONDS: z.coerce.number().int().min(1).max(3_600).default(60),
  SAMPLE_RETENTION_DAYS: z.coerce.number().int().min(1).max(3_650).default(30),
  /** Unset: finished jobs, and decisions that were never tried on a cloud, are kept for ever. */
  HISTORY_RETENTION_DAYS: z.coerce.number().int().min(2).max(36_500).optional(),
  WORKER_METRICS_PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  WORKER_METRICS_HOST: z.string().default('127.0.0.1'),
  /** Can only stop: `1` refuses every execution of this worker, whatever the database says. */
  SCALER_STOP: z.enum(['0', '1']).default('0'),
});

export type WorkerConfig = z.infer<typeof schema>;

/** @throws Error listing every mistake in the environment. */
export function readWorkerConfig(
  environment: Readonly<Record<string, string | undefined>>,
): Readonly<WorkerConfig> {
  return parseEnvironment(schema.superRefine(requireHashTag), environment);
}
