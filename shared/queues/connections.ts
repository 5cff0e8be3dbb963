import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { parseRedisUrl } from './redis-url.ts';

/** A line to a single Redis, also one that Sentinels name, or lines to the nodes of a Cluster. */
export type RedisConnection = Redis | Cluster;

type OnError = (error: Error) => void;

/** A line that answers no PING for so long is dead, though nobody has said so. */
const silenceLimitMs = 10_000;
const connectLimitMs = 2_000;

const retryDelayMs = (times: number) => Math.min(50 * times, 500);

/**
 * Producers fail fast: PostgreSQL has the job already, and the relay adds what Redis did not take.
 * @throws Error when `url` is none.
 */
export function createProducerConnection(
  url: string,
  onError: OnError,
  silenceMs: number = silenceLimitMs,
): RedisConnection {
  return connect(url, onError, silenceMs, {
    line: { maxRetriesPerRequest: 1, commandTimeout: 500 },
    single: { enableOfflineQueue: false },
    // Long enough for a line to a node to open, too short to wait until a replica takes over.
    cluster: {
      enableOfflineQueue: false,
      maxRedirections: 5,
      retryDelayOnFailover: 50,
      retryDelayOnClusterDown: 50,
    },
  });
}

/**
 * Consumers wait for Redis to come back; the cap keeps them from sleeping long after it has.
 * @throws Error when `url` is none.
 */
export function createConsumerConnection(
  url: string,
  onError: OnError,
  silenceMs: number = silenceLimitMs,
): RedisConnection {
  return connect(url, onError, silenceMs, {
    line: { maxRetriesPerRequest: null },
    single: {},
    // Without a pause two nodes that send a command to each other would be asked in a tight loop.
    cluster: { maxRedirections: Number.POSITIVE_INFINITY, retryDelayOnMoved: 20 },
  });
}

/** A consumer's connection that only listens to channels. @throws Error when `url` is none. */
export function createSubscriberConnection(
  url: string,
  onError: OnError,
  silenceMs: number = silenceLimitMs,
): RedisConnection {
  const redis = createConsumerConnection(url, onError, silenceMs);
  // A Cluster listens on a line of its own, which no PING takes; leaving a channel that nobody is in does.
  if (redis instanceof Cluster)
    giveUpDeadLine(redis, () => redis.unsubscribe('scaler:nobody'), silenceMs, onError);
  return redis;
}

function connect(
  url: string,
  onError: OnError,
  silenceMs: number,
  role: {
    readonly line: Pick<RedisOptions, 'maxRetriesPerRequest' | 'commandTimeout'>;
    readonly single: RedisOptions;
    readonly cluster: ClusterOptions;
  },
): RedisConnection {
  const { cluster, options } = parseRedisUrl(url);
  const line = { ...options, ...role.line, connectTimeout: connectLimitMs };
  if (cluster === null) {
    const redis = new Redis({
      ...line,
      ...role.single,
      retryStrategy: retryDelayMs,
      sentinelRetryStrategy: retryDelayMs,
      sentinelCommandTimeout: connectLimitMs,
      // Its primary has become a replica: look again where the primary is.
      reconnectOnError: ({ message }) => message.startsWith('READONLY'),
    });
    redis.on('error', onError);
    giveUpDeadLine(redis, () => redis.ping(), silenceMs, onError);
    return redis;
  }
  const redis = new Cluster([...cluster], {
    ...role.cluster,
    redisOptions: line,
    clusterRetryStrategy: retryDelayMs,
    // Names stay names: certificates are made out to them.
    dnsLookup: (host, callback) => callback(null, host),
  });
  redis.on('error', onError);
  redis.on('node error', onError);
  redis.on('+node', (node: Redis) => giveUpDeadLine(node, () => node.ping(), silenceMs, onError));
  return redis;
}

/**
 * Connects anew when `ask` goes unanswered: a line that lost its other end without a reset would be waited on for ever.
 * Commands under way are sent again. Not ioredis's `socketTimeout`: with a password it also ends lines that are only idle.
 * A consumer's blocking command has a line of its own, which BullMQ watches.
 */
function giveUpDeadLine(
  redis: RedisConnection,
  ask: () => Promise<unknown>,
  silenceMs: number,
  onError: OnError,
): void {
  const periodMs = silenceMs / 4;
  let answeredAt = performance.now();
  let lookedAt = answeredAt;
  redis.on('ready', () => {
    answeredAt = performance.now();
  });
  const timer = setInterval(() => {
    const now = performance.now();
    // It was us who did not listen: the process was frozen or busy.
    if (now - lookedAt > 2 * periodMs) answeredAt = now;
    lookedAt = now;
    if (redis.status !== 'ready') return;
    if (now - answeredAt > silenceMs) {
      onError(new Error(`Redis has not answered for ${silenceMs} ms: connecting anew`));
      answeredAt = now;
      redis.disconnect(true);
      return;
    }
    ask().then(
      () => {
        answeredAt = performance.now();
      },
      () => {},
    );
  }, periodMs);
  timer.unref();
  redis.once('end', () => clearInterval(timer));
}
