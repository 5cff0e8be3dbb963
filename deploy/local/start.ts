import { mkdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { migrate } from '../../shared/db/migrate.ts';
import { errorMessage } from '../../shared/errors.ts';
import { createClosers, onSignals } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { openBackends } from './backends.ts';
import { ensureFirstKey, pepperOf } from './first-key.ts';
import { type ServiceProcess, startProcess, waitUntilReady } from './processes.ts';

const help = `Usage: npm start -- [--workers N] [--port N] [--host ADDRESS] [--data-dir DIR]

  Starts the service on this machine: one API process and N workers. Without DATABASE_URL and REDIS_URL it starts an
  embedded PostgreSQL and Redis below the data folder. On the first start it prints an admin key, once.

  --workers N        worker processes (default: cores - 1, at least 1)
  --port N           port of the API (default PORT or 8082)
  --host ADDRESS     address of the API (default HOST or 127.0.0.1)
  --data-dir DIR     databases, logs and pepper (default .data)
  --help             this text`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      workers: { type: 'string' },
      port: { type: 'string' },
      host: { type: 'string' },
      'data-dir': { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(help);
    return;
  }
  const workers =
    values.workers === undefined ? Math.max(1, availableParallelism() - 1) : Number(values.workers);
  if (!Number.isSafeInteger(workers) || workers < 1 || workers > 256)
    throw new Error(`--workers must be a whole number from 1 to 256, not ${JSON.stringify(values.workers)}`);
  const dataDir = resolve(values['data-dir'] ?? join(projectRoot(), '.data'));
  const logDir = join(dataDir, 'logs');
  mkdirSync(logDir, { recursive: true });
  const say = (line: string) => console.log(`· ${line}`);
  const closers = createClosers();
  onSignals(async () => {
    say('Stopping …');
    await closers.closeAll(40_000);
  });
  try {
    const backends = await openBackends({ environment: process.env, dataDir, closers, log: say });
    const migrations = await migrate(backends.databaseUrl);
    if (migrations.length > 0) say(`Migrated the database: ${migrations.join(', ')}`);
    const pepper = pepperOf(process.env, dataDir);
    const key = await ensureFirstKey(backends.databaseUrl, pepper);
    const host = values.host ?? process.env.HOST ?? '127.0.0.1';
    const port = values.port ?? process.env.PORT ?? '8082';
    const environment = {
      DATABASE_URL: backends.databaseUrl,
      REDIS_URL: backends.redisUrl,
      API_KEY_PEPPER: pepper,
      HOST: host,
      PORT: port,
    };
    const processes: ServiceProcess[] = [];
    const apiLog = join(logDir, 'api.log');
    const api = startProcess({ name: 'API', program: 'api/main.js', environment, logFile: apiLog });
    processes.push(api);
    closers.add('API', () => api.stop());
    for (let n = 1; n <= workers; n++) {
      const worker = startProcess({
        name: `worker ${n}`,
        program: 'worker/main.js',
        environment,
        logFile: join(logDir, `worker-${n}.log`),
      });
      processes.push(worker);
      closers.add(worker.name, () => worker.stop());
    }
    const baseUrl = `http://${host.includes(':') ? `[${host}]` : host === '0.0.0.0' ? '127.0.0.1' : host}:${port}`;
    await waitUntilReady(baseUrl, api, apiLog, 60_000);
    say(
      `Ready: ${baseUrl} with ${workers} worker${workers === 1 ? '' : 's'}; documentation at ${baseUrl}/docs; logs in ${logDir}`,
    );
    if (key !== null) console.log(`\nAdmin key, shown this once: ${key}\n`);
    const first = await Promise.race(
      processes.map(async (process) => ({ name: process.name, code: await process.ended })),
    );
    throw new Error(
      `The ${first.name} ended with status ${first.code}: see its log in ${logDir}. Everything else is stopped too.`,
    );
  } finally {
    await closers.closeAll(40_000);
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(`start: ${errorMessage(error)}`);
    process.exit(1);
  },
);
