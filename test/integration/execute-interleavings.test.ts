import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { passCircuit } from '../../shared/db/circuits-repository.ts';
import { type ClaimedJob, claimJobs, findJob } from '../../shared/db/jobs-repository.ts';
import { createPool } from '../../shared/db/pool.ts';
import { changeProtection } from '../../shared/db/protection-lock.ts';
import { ProviderError } from '../../shared/errors.ts';
import { type ExecuteDeps, executeDecision } from '../../worker/jobs/execute-decision.ts';
import { recordObservation } from '../../worker/jobs/execution-store.ts';
import { ScriptedCloud } from '../support/scripted-cloud.ts';
import { seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';
import { createTestDatabase, type TestDatabase } from '../support/test-database.ts';

/** A cloud in whose answer to a read other things happen: after the read, before the intent. */
class InterruptedCloud extends ScriptedCloud {
  whileRead: () => Promise<unknown> | unknown = () => {};

  override async describe() {
    const state = await super.describe();
    const happen = this.whileRead;
    this.whileRead = () => {};
    await happen();
    return state;
  }
}

/** Reads what `cloud` has after whatever happens while it is read. */
class LateReader extends ScriptedCloud {
  readonly #cloud: InterruptedCloud;

  constructor(cloud: InterruptedCloud) {
    super();
    this.#cloud = cloud;
  }

  override async describe() {
    const happen = this.#cloud.whileRead;
    this.#cloud.whileRead = () => {};
    await happen();
    return await this.#cloud.describe();
  }
}

let database: TestDatabase;
let pool: pg.Pool;
let cloud: InterruptedCloud;
let deps: ExecuteDeps;

beforeAll(async () => {
  database = await createTestDatabase();
  pool = createPool(database.url, { name: 'test' });
});
afterAll(async () => {
  await pool.end();
  await database.drop();
});
beforeEach(() => {
  cloud = new InterruptedCloud();
  deps = {
    pool,
    providers: new Map([['aws', cloud]]),
    workerId: 'worker-1',
    shutdown: new AbortController().signal,
    stopped: false,
    onUnclassified: () => {},
  };
});

async function claim(jobId: string): Promise<ClaimedJob> {
  await pool.query(
    `update jobs set available_at = now(), lease_until = now() - interval '1 second' where id = $1 and not finished`,
    [jobId],
  );
  const [job] = await claimJobs(pool, [jobId], 30_000);
  if (job === undefined) throw new Error('not claimable');
  return job;
}

async function prepare(from = 4, target = 6, values: Record<string, unknown> = {}) {
  const resourceId = await seedResource(pool, { current_instances: from, ...values });
  const decisionId = await seedDecision(pool, resourceId, from, target);
  return { resourceId, decisionId, jobId: await seedExecuteJob(pool, resourceId, decisionId) };
}

const errorCode = async (jobId: string) => (await findJob(pool, jobId))?.error?.code;
const unknown = () => new ProviderError('unknown', 'timeout', 'The cloud did not answer.');

async function attemptsOf(resourceId: string): Promise<string[]> {
  const { rows } = await pool.query<{ state: string }>(
    'select state from attempts where resource_id = $1 order by id',
    [resourceId],
  );
  return rows.map(({ state }) => state);
}

const waitsForProtection = async () =>
  ((
    await pool.query(
      `select 1 from pg_locks l join pg_database d on d.oid = l.database where l.locktype = 'advisory' and not l.granted and d.datname = current_database()`,
    )
  ).rowCount ?? 0) > 0;

describe('between the read of the cloud and the intent', () => {
  it('an execution of a resource that was changed between its reading and its intent looks again', async () => {
    const { resourceId, jobId: earlier } = await prepare(4, 6, { cooldown_period: 0 });
    const later = await seedExecuteJob(pool, resourceId, await seedDecision(pool, resourceId, 4, 5));
    cloud.whileRead = async () => executeDecision(deps, await claim(earlier));
    expect(await executeDecision(deps, await claim(later))).toMatchObject({
      kind: 'postpone',
      refund: true,
      error: { code: 'resource_busy' },
    });
    expect(cloud.writes).toEqual([6]);
    await executeDecision(deps, await claim(later));
    expect(await errorCode(later)).toBe('conflict');
    expect(cloud.writes).toEqual([6]);
  });

  it('a decision that grows too old while the cloud is read is not carried out', async () => {
    const { decisionId, resourceId, jobId } = await prepare();
    cloud.whileRead = () =>
      pool.query(`update scaling_decisions set expires_at = now() - interval '1 second' where id = $1`, [
        decisionId,
      ]);
    await executeDecision(deps, await claim(jobId));
    expect(await errorCode(jobId)).toBe('decision_expired');
    expect([cloud.writes, await attemptsOf(resourceId)]).toEqual([[], []]);
  });

  it('an execution waits for a stop that is being committed, and obeys it', async () => {
    const { resourceId, jobId } = await prepare();
    let execution: Promise<unknown> = Promise.resolve();
    await changeProtection(pool, async (tx) => {
      await tx.query(
        `insert into controls (scope, stopped, reason, actor) values ($1, true, 'a test', 'test')`,
        [`resource:${resourceId}`],
      );
      execution = executeDecision(deps, await claim(jobId));
      await expect.poll(async () => cloud.writes.length > 0 || (await waitsForProtection())).toBe(true);
    });
    await execution;
    expect([cloud.writes, await errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it('an execution whose circuit opens while the cloud is read waits', async () => {
    const { resourceId, jobId } = await prepare(4, 6, { region: 'circuit-test' });
    cloud.whileRead = () =>
      pool.query(
        `insert into circuits (scope, failures, open_until) values ('scope:aws:circuit-test', 5, now() + interval '30 seconds')`,
      );
    expect(await executeDecision(deps, await claim(jobId))).toMatchObject({
      kind: 'postpone',
      error: { code: 'circuit_open' },
    });
    expect([cloud.writes, await attemptsOf(resourceId)]).toEqual([[], []]);
  });
});

describe('a circuit whose time is over', () => {
  it('lets one worker try, and the others wait for what comes of it', async () => {
    const scope = 'scope:aws:one-tries';
    await pool.query(
      `insert into circuits (scope, failures, open_until) values ($1, 5, now() - interval '1 second')`,
      [scope],
    );
    const answers = await Promise.all([1, 2, 3, 4].map(() => passCircuit(pool, scope)));
    expect(answers.filter((waitMs) => waitMs === null)).toHaveLength(1);
    expect(Math.min(...answers.flatMap((waitMs) => waitMs ?? []))).toBeGreaterThan(0);
  });
});

describe('between the intent and the request', () => {
  it('a worker that was held up between intent and request sends nothing', async () => {
    const { resourceId, jobId } = await prepare();
    const real = performance.now.bind(performance);
    let looks = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => real() + (looks++ > 0 ? 6_000 : 0));
    const outcome = await executeDecision(deps, await claim(jobId)).finally(() => clock.mockRestore());
    expect(outcome).toMatchObject({ kind: 'postpone', error: { code: 'send_deadline' } });
    expect([cloud.writes, await attemptsOf(resourceId)]).toEqual([[], ['not_applied']]);
  });
});

describe('two workers with one job, because the lease of the first ran out', () => {
  /** The second reads the cloud only after the first has begun an attempt that came to no answer. */
  async function interleave(whatElse: (cloud: InterruptedCloud) => void, applies: boolean) {
    const { resourceId, jobId } = await prepare(4, 6, { cooldown_period: 0 });
    const [first, second] = [await claim(jobId), await claim(jobId)];
    cloud.whileRead = async () => {
      const fault = () => {
        throw unknown();
      };
      if (applies) cloud.afterWrite = fault;
      else cloud.beforeWrite = fault;
      await executeDecision({ ...deps, workerId: 'worker-2' }, first);
      Object.assign(cloud, { beforeWrite: () => {}, afterWrite: () => {} });
      whatElse(cloud);
    };
    const late = { ...deps, providers: new Map([['aws' as const, new LateReader(cloud)]]) };
    await executeDecision(late, second);
    // Whoever comes next finds out what the first has done, and the job is over only then.
    await pool.query(
      `update attempts set settle_after = now() - interval '1 second' where resource_id = $1`,
      [resourceId],
    );
    if ((await findJob(pool, jobId))?.outcome === null) await executeDecision(deps, await claim(jobId));
    return { attempts: await attemptsOf(resourceId), job: await findJob(pool, jobId) };
  }

  it('leave no attempt open when the cloud has the size already', async () => {
    const { attempts, job } = await interleave(() => {}, true);
    expect([attempts, job?.outcome]).toEqual([['succeeded'], 'succeeded']);
  });

  it('leave no attempt open when somebody else changed the size', async () => {
    const { attempts, job } = await interleave((changed) => {
      changed.desired = 9;
    }, false);
    expect([attempts, job?.outcome]).toEqual([['superseded'], 'superseded']);
  });
});

describe('while the intent is being committed', () => {
  it('a worker that is stopped sends nothing either', async () => {
    const { resourceId, jobId } = await prepare();
    const real = performance.now.bind(performance);
    let stoppedMs = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => real() + stoppedMs);
    const slow = {
      query: pool.query.bind(pool),
      async connect() {
        const client = await pool.connect();
        const query = client.query.bind(client) as (...parameters: unknown[]) => Promise<unknown>;
        return Object.assign(Object.create(client), {
          release: client.release.bind(client),
          async query(...parameters: unknown[]) {
            const result = await query(...parameters);
            if (parameters[0] === 'commit') stoppedMs = 20_000;
            return result;
          },
        });
      },
    } as unknown as pg.Pool;
    const outcome = await executeDecision({ ...deps, pool: slow }, await claim(jobId)).finally(() =>
      clock.mockRestore(),
    );
    expect(outcome).toMatchObject({ kind: 'postpone', error: { code: 'send_deadline' } });
    expect([cloud.writes, await attemptsOf(resourceId)]).toEqual([[], ['not_applied']]);
  });
});

describe('nothing is sent', () => {
  it('by a worker that SCALER_STOP stops', async () => {
    const { jobId } = await prepare();
    await executeDecision({ ...deps, stopped: true }, await claim(jobId));
    expect([cloud.writes, await errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it.each([
    ['everything', () => 'global'],
    ['the provider', () => 'provider:aws'],
    ['the region', () => 'scope:aws:us-east-1'],
    ['the resource', (id: string) => `resource:${id}`],
  ] as const)('while %s is stopped', async (_what, scopeOf) => {
    const { resourceId, jobId } = await prepare();
    const scope = scopeOf(resourceId);
    await pool.query(
      `insert into controls (scope, stopped, reason, actor) values ($1, true, 'a test', 'test')`,
      [scope],
    );
    await executeDecision(deps, await claim(jobId));
    await pool.query('delete from controls where scope = $1', [scope]);
    expect([cloud.writes, await errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it('by a worker that begins nothing while it shuts down', async () => {
    const { jobId } = await prepare();
    const outcome = await executeDecision({ ...deps, shutdown: AbortSignal.abort() }, await claim(jobId));
    expect(outcome).toMatchObject({ kind: 'postpone', refund: true, error: { code: 'worker_stopping' } });
    expect(cloud.writes).toEqual([]);
  });

  it('that never goes below the minimum, as it is stored now', async () => {
    const { resourceId, jobId } = await prepare(4, 3);
    await pool.query('update resources set min_instances = 4 where id = $1', [resourceId]);
    await executeDecision(deps, await claim(jobId));
    expect([cloud.writes, await errorCode(jobId)]).toEqual([[], 'out_of_bounds']);
  });

  it("that never asks for less than the cloud's minimum, even on the way up", async () => {
    cloud.desired = 1;
    cloud.min = 3;
    const { jobId } = await prepare(1, 2);
    await executeDecision(deps, await claim(jobId));
    expect([cloud.writes, await errorCode(jobId)]).toEqual([[], 'out_of_bounds']);
  });
});

describe('an unknown outcome', () => {
  it('of an object that is gone is given up only when nothing can land any more', async () => {
    const { resourceId, decisionId, jobId } = await prepare();
    cloud.beforeWrite = () => {
      throw unknown();
    };
    await executeDecision(deps, await claim(jobId));
    cloud.describeFault = new ProviderError('permanent', 'target_not_found', 'There is no such group.');
    expect(await executeDecision(deps, await claim(jobId))).toMatchObject({
      kind: 'postpone',
      error: { code: 'outcome_unknown' },
    });
    expect(await attemptsOf(resourceId)).toEqual(['unknown']);
    await pool.query(
      `update attempts set settle_after = now() - interval '1 second' where decision_id = $1`,
      [decisionId],
    );
    await executeDecision(deps, await claim(jobId));
    expect([await attemptsOf(resourceId), await errorCode(jobId)]).toEqual([
      ['superseded'],
      'target_not_found',
    ]);
  });
});

describe('an observation', () => {
  const current = async (resourceId: string) =>
    (
      await pool.query<{ current_instances: number }>(
        'select current_instances from resources where id = $1',
        [resourceId],
      )
    ).rows[0]?.current_instances;

  it('older than our own change is not stored', async () => {
    const { resourceId, jobId } = await prepare();
    const before = await cloud.describe();
    await executeDecision(deps, await claim(jobId));
    await recordObservation(pool, { id: resourceId, epoch: '0' }, before, 'worker-1');
    expect(await current(resourceId)).toBe(6);
  });

  it('while our own change is under way is not stored', async () => {
    const { resourceId, jobId } = await prepare();
    cloud.afterWrite = () => {
      throw unknown();
    };
    await executeDecision(deps, await claim(jobId));
    await recordObservation(pool, { id: resourceId, epoch: '1' }, await cloud.describe(), 'worker-1');
    expect(await current(resourceId)).toBe(4);
  });
});
