import { readApiConfig } from '../../api/config.ts';
import { readWorkerConfig } from '../../worker/config.ts';
import { code, generatedNotice, table } from './markdown.ts';
import { readSources, type Source } from './sources.ts';

type Environment = Readonly<Record<string, string>>;
type Read = (environment: Environment) => Readonly<Record<string, unknown>>;

/** What a variable means, where config.ts has no comment of its own (`/** … *\/`) on it. */
const meanings: Readonly<Record<string, string>> = {
  HOST: 'address to listen on; `npm start` uses 127.0.0.1',
  PORT: 'port to listen on',
  DATABASE_URL: 'PostgreSQL; `npm start` and `npm run demo` start one without it',
  REDIS_URL: 'Redis ([forms](#redis-by-url)); `npm start` and `npm run demo` start one without it',
  QUEUE_PREFIX: 'prefix of all keys in Redis; in braces, so that a Redis Cluster keeps them in one slot',
  API_KEY_PEPPER: 'key of the HMAC under which secrets of API keys are stored',
  NODE_ENV: '`production` requires a pepper',
  AWS_REGION: 'region of resources that name none',
  LOG_LEVEL: 'least severe level that is logged',
  DATABASE_POOL: 'connections to PostgreSQL, of one process',
  RATE_LIMIT_PER_MINUTE: 'requests a minute, for each key and scope, over all API processes',
  DECISION_LIFETIME_SECONDS: 'age at which a decision can no longer be executed',
  REQUEST_TIMEOUT_MS: 'a client that takes longer to send all of its request is cut off',
  BULL_BOARD: 'serve the queue dashboard at `/admin/queues`',
  BULL_BOARD_WRITABLE: 'allow changes in the queue dashboard',
  TRUST_PROXY_HOPS: 'proxies in front whose `X-Forwarded-For` is believed',
  WORKER_QUEUES: 'queues that this worker serves; `--queues` overrides it',
  DECIDE_CONCURRENCY: 'decide jobs at once, of one worker',
  EXECUTE_AWS_CONCURRENCY: 'executions on AWS at once, of one worker',
  EXECUTE_KUBERNETES_CONCURRENCY: 'executions on Kubernetes at once, of one worker',
  DECIDE_FLEET_CONCURRENCY: 'decide jobs at once, of all workers',
  EXECUTE_AWS_FLEET_CONCURRENCY: 'executions on AWS at once, of all workers',
  EXECUTE_KUBERNETES_FLEET_CONCURRENCY: 'executions on Kubernetes at once, of all workers',
  PROVIDER_CONCURRENCY: 'calls in flight to one region or cluster, of one worker',
  AWS_SETTLE_SECONDS: 'how long an unanswered write to AWS may still be applied',
  OBSERVE_INTERVAL_SECONDS: 'how often the state of all cloud objects is read',
  SAMPLE_RETENTION_DAYS: 'age at which samples and predictions are deleted',
  WORKER_METRICS_PORT: 'port of `/metrics` of a worker; off when unset',
  WORKER_METRICS_HOST: 'address of `/metrics` of a worker',
};

/** Variables of programs that have no config.ts. */
const others: readonly (readonly [name: string, of: string, meaning: string])[] = [
  ['DATABASE_URL', '`migrate`, `keys`, `audit:verify`', 'PostgreSQL; required'],
  ['API_KEY_PEPPER', '`keys`', 'the same as that of the API'],
  ['API_DATABASE_PASSWORD', '`migrate`', 'makes the login `scaler_api_login`, or sets its password'],
  ['WORKER_DATABASE_PASSWORD', '`migrate`', 'makes the login `scaler_worker_login`, or sets its password'],
  ['SCALER_CACHE_DIR', '`start`, `demo`, `test`', 'where a fetched Redis is kept; default `.cache`'],
];

const redisForms: readonly (readonly [form: string, meaning: string])[] = [
  ['redis://[[user]:password@]host[:6379][/database]', 'a single Redis, or a primary behind one name'],
  [
    'redis-sentinel://[[user]:password@]host[:26379],host…/name[?db=N]',
    'the primary that Sentinels know as `name`; `?sentinel_password=` (and `&sentinel_username=`) for Sentinels with a password',
  ],
  [
    'redis-cluster://[[user]:password@]host[:6379],host…',
    'a Redis Cluster: some of its nodes, or a name that leads to any; name several, or no request that waits is woken while the one is away',
  ],
  ['rediss://…, rediss-sentinel://…, rediss-cluster://…', 'the same over TLS, to Redis and to Sentinels'],
  ['?ssl_ca_certs=FILE', 'who vouches for their certificates, where the system does not know them (PEM)'],
  ['?ssl_certfile=FILE&ssl_keyfile=FILE', 'our certificate, for a server that asks for one'],
  ['?family=4, ?family=6', 'IPv4 or IPv6 alone'],
];

export function configurationPage(): string {
  const tables = (['api', 'worker'] as const).map((process) => {
    const read: Read = process === 'api' ? readApiConfig : readWorkerConfig;
    const source = readSources(process).find(({ file }) => file === `${process}/config.ts`) as Source;
    return `## ${process === 'api' ? 'API' : 'Worker'}\n\n${variablesOf(source, read)}`;
  });
  for (const [name] of others) requireSomewhere(name);
  return `# Configuration

${generatedNotice}

Processes read environment variables once, at start; an empty one counts as unset. A wrong value ends the process with a
list of all mistakes. Credentials and endpoints of AWS and Kubernetes are found as their SDKs do (\`AWS_PROFILE\`,
\`AWS_ENDPOINT_URL_AUTO_SCALING\`, roles; \`KUBECONFIG\`, the pod's service account).

${tables.join('\n\n')}

## Redis by URL

${table(
  ['form', 'meaning'],
  redisForms.map(([form, meaning]) => [code(form), meaning]),
)}

\`+\` may stand for \`-\` (\`redis+cluster://\`). In user, password and options write \`: / ? # @ % &\` as \`%3A %2F %3F %23
%40 %25 %26\`. Certificates are always checked, against the name in the URL or, behind Sentinels and in a Cluster, the
one that these announce. [What Redis must allow](../how-to/run.md#redis).

## Commands

${table(
  ['variable', 'of', 'meaning'],
  others.map(([name, of, meaning]) => [code(name), of, meaning]),
)}
`;
}

function variablesOf({ file, text }: Source, read: Read): string {
  const names = [...text.matchAll(/^ {2,}([A-Z][A-Z0-9_]+): /gm)].map((match) => match[1] as string);
  const base: Environment = { DATABASE_URL: 'x', REDIS_URL: 'redis://x' };
  const defaults = read(base);
  const rows = names.map((name) => {
    const meaning = commentOn(name, text) ?? meanings[name];
    if (meaning === undefined) throw new Error(`${file}: say in a comment what ${name} means (/** … */)`);
    return [code(name), defaultOf(name, read, defaults), valuesOf(name, read, base), meaning];
  });
  return table(['variable', 'default', 'values', 'meaning'], rows);
}

function commentOn(name: string, text: string): string | undefined {
  const comment = new RegExp(`/\\*\\*((?:(?!\\*/)[\\s\\S])*)\\*/\\s+${name}: `).exec(text)?.[1];
  return comment
    ?.replace(/\s*\n\s*\*?\s*/g, ' ')
    .trim()
    .replace(/\.$/, '')
    .replace(/^[A-Z](?![A-Z])/, (letter) => letter.toLowerCase());
}

function defaultOf(name: string, read: Read, defaults: Readonly<Record<string, unknown>>): string {
  if (mistakes(read, {})[name] !== undefined) return 'required';
  if (
    mistakes(read, { DATABASE_URL: 'x', REDIS_URL: 'redis://x', NODE_ENV: 'production' })[name] !== undefined
  )
    return 'required in production';
  const value = defaults[name];
  if (value === undefined) return 'unset';
  return Array.isArray(value) ? 'all' : code(String(value));
}

/** What the schema takes, as it says itself of values that it does not take. */
function valuesOf(name: string, read: Read, base: Environment): string {
  const said = ['-1000000000', '1000000000', '!'].map(
    (value) => mistakes(read, { ...base, [name]: value })[name] ?? '',
  );
  const all = said.join('\n');
  const options = /Invalid option: expected one of (.*)/.exec(all)?.[1];
  if (options !== undefined) {
    const names = options.replaceAll('"', '').split('|');
    return (name === 'WORKER_QUEUES' ? 'some of ' : '') + names.map(code).join(', ');
  }
  if (all.includes('must be an AWS region')) return 'AWS region';
  if (all.includes('must be redis://')) return 'URL';
  if (!all.includes('expected number')) return 'text';
  const least = />=?(-?\d+)/.exec(all)?.[1] ?? '';
  const most = /<=?(\d+)/.exec(all)?.[1] ?? '';
  return `${least} to ${most}`;
}

/** By variable, what is wrong with it. */
function mistakes(read: Read, environment: Environment): Record<string, string> {
  try {
    read(environment);
    return {};
  } catch (error) {
    const lines = [...(error as Error).message.matchAll(/^ {2}([A-Z_]+)\S*: (.*)$/gm)];
    return Object.fromEntries(lines.map(([, name, words]) => [name as string, words as string]));
  }
}

function requireSomewhere(name: string): void {
  const known = readSources('api', 'worker', 'shared', 'deploy').some(({ text }) => text.includes(name));
  if (!known) throw new Error(`No program reads ${name}: take it out of configuration-page.ts`);
}
