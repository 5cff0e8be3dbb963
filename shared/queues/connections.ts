import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import { parseRedisUrl } from './redis-url.ts';

/** A line to a single Redis, also one that Sentinels name, or lines to the nodes of a Cluster. */
export type RedisConnection = Redis | Cluster;

type OnError = (error: Error) => void;

interface Role {
  /** Of every line. */
  readonly line: Pick<RedisOptions, 'maxRetriesPerRequest' | 'commandTimeout' | 'socketTimeout'>;
  readonly single: Pick<RedisOptions, 'enableOfflineQueue'>;
  readonly cluster: ClusterOptions;
}

/** A line that answers no PING for so long is dead, though nobody has said so. */
const silenceLimitMs = 10_000;
const connectLimitMs = 2_000;
/**
 * For what no PING watches: a consumer's blocking command, at most 10 s, which has a line of its own, and the handshake
 * with a frozen server, whose kernel still takes connections.
 */
const answerLimitMs = 15_000;

const retryDelayMs = (times: number) => Math.min(50 * times, 500);

const producer: Role = {
  line: { maxRetriesPerRequest: 1, commandTimeout: 500 },
  single: { enableOfflineQueue: false },
  // Long enough for a line to a node to open, too short to wait until a replica takes over.
  cluster: {
    enableOfflineQueue: false,
    maxRedirections: 5,
    retryDelayOnFailover: 50,
    retryDelayOnClusterDown: 50,
  },
};

const consumer: Role = {
  line: { maxRetriesPerRequest: null, socketTimeout: answerLimitMs },
  single: {},
  cluster: {},
};

/**
 * Producers fail fast: PostgreSQL has the job already, and the relay adds what Redis did not take.
 * @throws Error when `url` is none.
 */
export function createProducerConnection(
  url: string,
  onError: OnError,
  silenceMs: number = silenceLimitMs,
): RedisConnection {
  return connect(url, producer, silenceMs, onError);
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
  return connect(url, consumer, silenceMs, onError);
}

/**
 * A consumer that only listens to channels. All nodes of a Cluster hear what is published at any, so a line to one of
 * those that `url` names will do. Not a Cluster's own: while its nodes are away it tries them without a pause.
 * @throws Error when `url` is none.
 */
export function createSubscriberConnection(
  url: string,
  onError: OnError,
  silenceMs: number = silenceLimitMs,
): Redis {
  const { cluster, options } = parseRedisUrl(url);
  const redis = connectSingle({ ...options, ...cluster?.[0] }, consumer, silenceMs, onError, (times) => {
    if (cluster !== null) Object.assign(redis.options, cluster[times % cluster.length]);
    return retryDelayMs(times);
  });
  return redis;
}

function connect(url: string, role: Role, silenceMs: number, onError: OnError): RedisConnection {
  const { cluster, options } = parseRedisUrl(url);
  if (cluster === null) return connectSingle(options, role, silenceMs, onError, retryDelayMs);
  const redis = new Cluster([...cluster], {
    ...role.cluster,
    redisOptions: { ...options, ...role.line, connectTimeout: connectLimitMs },
    clusterRetryStrategy: retryDelayMs,
    // Names stay names: certificates are made out to them.
    dnsLookup: (host, callback) => callback(null, host),
  });
  redis.on('error', onError);
  redis.on('node error', onError);
  redis.on('+node', (node: Redis) => giveUpDeadLines(node, silenceMs, onError));
  return redis;
}

function connectSingle(
  options: RedisOptions,
  role: Role,
  silenceMs: number,
  onError: OnError,
  retryStrategy: (times: number) => number,
): Redis {
  const redis = new Redis({
    ...options,
    ...role.line,
    ...role.single,
    connectTimeout: connectLimitMs,
    retryStrategy,
    sentinelRetryStrategy: retryDelayMs,
    sentinelCommandTimeout: connectLimitMs,
    // Its primary has become a replica: look again where the primary is.
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
  });
  redis.on('error', onError);
  giveUpDeadLines(redis, silenceMs, onError);
  return redis;
}

/**
 * Connects anew when PINGs go unanswered: a line that lost its other end without a reset would be waited on for ever.
 * Commands under way are sent again. Not ioredis's `socketTimeout` alone: with a password it also ends lines that are
 * only idle.
 */
function giveUpDeadLines(redis: Redis, silenceMs: number, onError: OnError): void {
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
    redis.ping().then(
      () => {
        answeredAt = performance.now();
      },
      () => {},
    );
  }, periodMs);
  timer.unref();
  redis.once('end', () => clearInterval(timer));
}
