import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type pg from 'pg';
import { generateKey } from '../../api/keys/api-key.ts';
import { createKey } from '../../api/keys/keys-store.ts';
import { freePort } from '../../deploy/local/free-port.ts';
import { type ServiceProcess, startProcess, waitUntilReady } from '../../deploy/local/processes.ts';
import { insertJobs } from '../../shared/db/jobs-store.ts';
import { createPool } from '../../shared/db/pool.ts';
import { type Selectors, scopes } from '../../shared/domain/api-key.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { newJob, seedDecision, seedResource } from '../support/seed.ts';
import type { Keys, Pools } from './make-request.ts';
import type { LiveMemory } from './memory.ts';

const pepper = 'a pepper for the fuzzer';
const collectWithinMs = 10_000;

export interface Target {
  readonly port: number;
  readonly process: ServiceProcess;
  readonly logFile: string;
  readonly pool: pg.Pool;
  readonly keys: Keys;
  readonly pools: Pools;
  /**
   * Lets waiting jobs look young: nobody works on them, and the API takes no more once the oldest has waited too long.
   * @returns whether there were any.
   */
  refreshJobs(): Promise<boolean>;
  /** Has the API process collect garbage. @throws when it does not within 10 s. */
  liveMemory(): Promise<LiveMemory>;
}

/** The API as it is shipped, in a process of its own, on databases with two tenants in them. */
export async function startTarget(options: {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly folder: string;
  readonly closers: Closers;
  readonly environment?: Readonly<Record<string, string>>;
}): Promise<Target> {
  const { databaseUrl, redisUrl, folder, closers } = options;
  const pool = createPool(databaseUrl, { name: 'fuzz', size: 3 });
  closers.add('pool', () => pool.end());
  const keys = await makeKeys(pool);
  const pools = await seed(pool);
  const port = await freePort();
  const logFile = join(folder, 'api.log');
  const memoryFile = join(folder, 'live-memory.json');
  const preload = pathToFileURL(join(projectRoot(), 'dist/test/fuzz/live-memory.js')).href;
  const api = startProcess({
    name: 'API',
    program: 'api/main.js',
    environment: {
      DATABASE_URL: databaseUrl,
      REDIS_URL: redisUrl,
      QUEUE_PREFIX: `{fuzz-${port}}`,
      API_KEY_PEPPER: pepper,
      HOST: '127.0.0.1',
      PORT: String(port),
      // The limits have tests of their own; here they would only hide what lies behind them.
      RATE_LIMIT_PER_MINUTE: '10000000',
      FAILED_AUTH_PER_MINUTE: '10000000',
      MAX_WAITING_JOBS: '1000000',
      LOG_LEVEL: 'error',
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${preload}`,
      FUZZ_MEMORY_FILE: memoryFile,
      ...options.environment,
    },
    logFile,
  });
  closers.add('API', () => api.stop());
  const url = `http://127.0.0.1:${port}`;
  await waitUntilReady(url, api, logFile, 30_000, '/health');
  const refreshJobs = async () => {
    const { rowCount } = await pool.query(
      `update jobs set available_at = now() where not finished and available_at < now() - interval '1 minute'`,
    );
    return (rowCount ?? 0) > 0;
  };
  const liveMemory = memoryReader(api, memoryFile);
  return { port, process: api, logFile, pool, keys, pools, refreshJobs, liveMemory };
}

async function makeKeys(pool: pg.Pool): Promise<Keys> {
  const make = async (
    name: string,
    given: readonly (typeof scopes)[number][] = scopes,
    selectors: Selectors = null,
  ) => (await createKey(pool, pepper, { name, scopes: given, selectors, days: 1 })).key;
  const idOf = (key: string) => key.split('_')[2];
  const [expired, revoked] = [await make('expired'), await make('revoked')];
  await pool.query(`update api_keys set expires_at = now() - interval '1 hour' where id = $1`, [
    idOf(expired),
  ]);
  await pool.query('update api_keys set revoked_at = now() where id = $1', [idOf(revoked)]);
  const byScope: Record<string, string> = {};
  for (const scope of scopes) byScope[scope] = await make(scope, [scope]);
  const full = await make('full');
  return {
    full,
    limited: await make('limited', scopes, [{ name: 'own-*' }]),
    foreign: await make('foreign', scopes, [{ name: 'foreign-*' }]),
    refused: [
      expired,
      revoked,
      generateKey().key,
      `${full.slice(0, -1)}${full.endsWith('0') ? '1' : '0'}`,
      'as_live_',
      "' or '1'='1",
      'x'.repeat(300),
      'null',
    ],
    byScope,
  };
}

async function seed(pool: pg.Pool): Promise<Pools> {
  const tenant = async (prefix: string) => {
    const made = {
      resource: [] as string[],
      decision: [] as string[],
      job: [] as string[],
      key: [] as string[],
    };
    for (let n = 0; n < 8; n++) {
      const resource = await seedResource(pool, { name: `${prefix}-${n}` });
      made.resource.push(resource);
      for (const target of [6, 4, 2]) made.decision.push(await seedDecision(pool, resource, 4, target));
      const jobs = [newJob('decide', resource, null), newJob('decide', resource, null)];
      await insertJobs(pool, jobs);
      await pool.query(
        `update jobs set status = 'failed', outcome = 'dead', finished_at = now(), error = '{"code":"poison","message":"seeded","http_status":500}' where id = $1`,
        [jobs[0]?.id],
      );
      made.job.push(...jobs.map((job) => job.id));
      await pool.query(
        `insert into scaling_events (resource_id, phase, actor) values ($1, 'observed', 'fuzz')`,
        [resource],
      );
      const key = await createKey(pool, pepper, { name: `${prefix}-${n}`, scopes: ['read'], days: 1 });
      made.key.push(key.row.id);
    }
    return made;
  };
  // Nobody works here; this worker only makes /ready say yes.
  await pool.query(
    `insert into worker_heartbeats (worker_id, queues, version, worker_version, beat_at)
      values ('fuzz', '{decide,execute-aws,execute-kubernetes,forecast,upkeep}', '0', 1000000, now() + interval '1 day')`,
  );
  const expendable: string[] = [];
  for (let n = 0; n < 200; n++) expendable.push(await seedResource(pool, { name: `spare-${n}` }));
  return { own: await tenant('own'), foreign: await tenant('foreign'), expendable };
}

/** Asks dist/test/fuzz/live-memory.js, which the process has loaded. */
function memoryReader(api: ServiceProcess, file: string): () => Promise<LiveMemory> {
  let asked = 0;
  return async () => {
    api.child.kill('SIGUSR2');
    asked++;
    const end = performance.now() + collectWithinMs;
    while (performance.now() < end) {
      const answer = readAnswer(file);
      if (answer?.times === asked) return { liveMb: answer.live / 2 ** 20, rssMb: answer.rss / 2 ** 20 };
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`the API did not collect garbage within ${collectWithinMs / 1_000} s`);
  };
}

function readAnswer(file: string): { times: number; live: number; rss: number } | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}
