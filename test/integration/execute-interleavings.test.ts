import type pg from 'pg';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { findJob } from '../../api/jobs/jobs-store.ts';
import { changeProtection } from '../../shared/db/protection-lock.ts';
import { passCircuit } from '../../worker/execute/circuits-store.ts';
import { recordObservation } from '../../worker/execute/execution-store.ts';
import { executeDecision } from '../../worker/execute/perform.ts';
import { ProviderError } from '../../worker/providers/provider-error.ts';
import { noAnswer, openExecutionRig, postponed } from '../support/execution-rig.ts';
import { forFile } from '../support/for-file.ts';
import { ScriptedCloud } from '../support/scripted-cloud.ts';
import { seedDecision, seedExecuteJob } from '../support/seed.ts';
import { readValue } from '../support/test-database.ts';

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

const rig = forFile(await openExecutionRig());
const { pool } = rig;
let cloud: InterruptedCloud;

beforeEach(() => {
  cloud = new InterruptedCloud();
});

const waitsForProtection = async () =>
  (await readValue(
    pool,
    `select 1 from pg_locks l join pg_database d on d.oid = l.database
      where l.locktype = 'advisory' and not l.granted and d.datname = current_database()`,
  )) === 1;
/** A clock of this process that jumps ahead, as if the process had been stopped for so long. */
function jumpingClock(aheadMs: () => number) {
  const real = performance.now.bind(performance);
  return vi.spyOn(performance, 'now').mockImplementation(() => real() + aheadMs());
}
const stop = (db: Pick<pg.Pool, 'query'>, scope: string) =>
  db.query(`insert into controls (scope, stopped, reason, actor) values ($1, true, 'a test', 'test')`, [
    scope,
  ]);

describe('between the read of the cloud and the intent', () => {
  it('an execution of a resource that was changed between its reading and its intent looks again', async () => {
    const { resourceId, jobId: earlier } = await rig.prepare(4, 6, { cooldown_period: 0 });
    const later = await seedExecuteJob(pool, resourceId, await seedDecision(pool, resourceId, 4, 5));
    cloud.whileRead = async () => rig.execute(cloud, earlier);
    expect(await rig.execute(cloud, later)).toMatchObject(postponed('resource_busy', true));
    expect(cloud.writes).toEqual([6]);
    await rig.execute(cloud, later);
    expect(await rig.errorCode(later)).toBe('conflict');
    expect(cloud.writes).toEqual([6]);
  });

  it('a decision that grows too old while the cloud is read is not carried out', async () => {
    const { decisionId, resourceId, jobId } = await rig.prepare();
    cloud.whileRead = () =>
      pool.query(`update scaling_decisions set expires_at = now() - interval '1 second' where id = $1`, [
        decisionId,
      ]);
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe('decision_expired');
    expect([cloud.writes, await rig.attemptsOf(resourceId)]).toEqual([[], []]);
  });

  it('an execution waits for a stop that is being committed, and obeys it', async () => {
    const { resourceId, jobId } = await rig.prepare();
    let execution: Promise<unknown> = Promise.resolve();
    await changeProtection(pool, async (tx) => {
      await stop(tx, `resource:${resourceId}`);
      execution = rig.execute(cloud, jobId);
      await expect.poll(async () => cloud.writes.length > 0 || (await waitsForProtection())).toBe(true);
    });
    await execution;
    expect([cloud.writes, await rig.errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it('an execution whose circuit opens while the cloud is read waits', async () => {
    const { resourceId, jobId } = await rig.prepare(4, 6, { region: 'circuit-test' });
    cloud.whileRead = () =>
      pool.query(
        `insert into circuits (scope, failures, open_until) values ('scope:aws:circuit-test', 5, now() + interval '30 seconds')`,
      );
    expect(await rig.execute(cloud, jobId)).toMatchObject(postponed('circuit_open'));
    expect([cloud.writes, await rig.attemptsOf(resourceId)]).toEqual([[], []]);
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
    expect(answers.filter((open) => open === null)).toHaveLength(1);
    expect(Math.min(...answers.flatMap((open) => open?.waitMs ?? []))).toBeGreaterThan(0);
  });
});

describe('between the intent and the request', () => {
  it('a worker that was held up between intent and request sends nothing', async () => {
    const { resourceId, jobId } = await rig.prepare();
    let looks = 0;
    const clock = jumpingClock(() => (looks++ > 1 ? 6_000 : 0));
    const outcome = await rig.execute(cloud, jobId).finally(() => clock.mockRestore());
    expect(outcome).toMatchObject(postponed('send_deadline'));
    expect([cloud.writes, await rig.attemptsOf(resourceId)]).toEqual([[], ['not_applied']]);
  });

  it('a worker that was stopped between its look at the cloud and its intent sends nothing', async () => {
    const { resourceId, jobId } = await rig.prepare();
    let stoppedMs = 0;
    const clock = jumpingClock(() => stoppedMs);
    cloud.whileRead = () => {
      stoppedMs = 11_000;
      cloud.desired = 5; // Somebody else's, meanwhile.
    };
    const outcome = await rig.execute(cloud, jobId).finally(() => clock.mockRestore());
    expect(outcome).toMatchObject(postponed('send_deadline'));
    expect([cloud.writes, await rig.attemptsOf(resourceId)]).toEqual([[], ['not_applied']]);
    await rig.execute(cloud, jobId);
    expect([await rig.errorCode(jobId), cloud.writes]).toEqual(['conflict', []]);
  });
});

describe('two workers with one job, because the lease of the first ran out', () => {
  /** The second reads the cloud only after the first has begun an attempt that came to no answer. */
  async function interleave(whatElse: (cloud: InterruptedCloud) => void, applies: boolean) {
    const { resourceId, decisionId, jobId } = await rig.prepare(4, 6, { cooldown_period: 0 });
    const [first, second] = [await rig.claim(jobId), await rig.claim(jobId)];
    cloud.whileRead = async () => {
      if (applies) cloud.afterWrite = noAnswer;
      else cloud.beforeWrite = noAnswer;
      await executeDecision(rig.deps(cloud, { workerId: 'worker-2' }), first);
      Object.assign(cloud, { beforeWrite: () => {}, afterWrite: () => {} });
      whatElse(cloud);
    };
    await executeDecision(rig.deps(new LateReader(cloud)), second);
    // Whoever comes next finds out what the first has done, and the job is over only then.
    await rig.settle(decisionId);
    if ((await findJob(pool, jobId))?.outcome === null) await rig.execute(cloud, jobId);
    return { attempts: await rig.attemptsOf(resourceId), job: await findJob(pool, jobId) };
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
    const { resourceId, jobId } = await rig.prepare();
    let stoppedMs = 0;
    const clock = jumpingClock(() => stoppedMs);
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
    const outcome = await rig.execute(cloud, jobId, { pool: slow }).finally(() => clock.mockRestore());
    expect(outcome).toMatchObject(postponed('send_deadline'));
    expect([cloud.writes, await rig.attemptsOf(resourceId)]).toEqual([[], ['not_applied']]);
  });
});

describe('nothing is sent', () => {
  it('by a worker that SCALER_STOP stops', async () => {
    const { jobId } = await rig.prepare();
    await rig.execute(cloud, jobId, { stopped: true });
    expect([cloud.writes, await rig.errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it.each([
    ['everything', () => 'global'],
    ['the provider', () => 'provider:aws'],
    ['the region', () => 'scope:aws:us-east-1'],
    ['the resource', (id: string) => `resource:${id}`],
  ] as const)('while %s is stopped', async (_what, scopeOf) => {
    const { resourceId, jobId } = await rig.prepare();
    const scope = scopeOf(resourceId);
    await stop(pool, scope);
    await rig.execute(cloud, jobId);
    await pool.query('delete from controls where scope = $1', [scope]);
    expect([cloud.writes, await rig.errorCode(jobId)]).toEqual([[], 'stopped']);
  });

  it('by a worker that begins nothing while it shuts down', async () => {
    const { jobId } = await rig.prepare();
    const outcome = await rig.execute(cloud, jobId, { shutdown: AbortSignal.abort() });
    expect(outcome).toMatchObject(postponed('worker_stopping', true));
    expect(cloud.writes).toEqual([]);
  });

  it('that never goes below the minimum, as it is stored now', async () => {
    const { resourceId, jobId } = await rig.prepare(4, 3);
    await pool.query('update resources set min_instances = 4 where id = $1', [resourceId]);
    await rig.execute(cloud, jobId);
    expect([cloud.writes, await rig.errorCode(jobId)]).toEqual([[], 'out_of_bounds']);
  });

  it("that never asks for less than the cloud's minimum, even on the way up", async () => {
    cloud.desired = 1;
    cloud.min = 3;
    const { jobId } = await rig.prepare(1, 2);
    await rig.execute(cloud, jobId);
    expect([cloud.writes, await rig.errorCode(jobId)]).toEqual([[], 'out_of_bounds']);
  });
});

describe('an unknown outcome', () => {
  it('of an object that is gone is given up only when nothing can land any more', async () => {
    const { resourceId, decisionId, jobId } = await rig.prepare();
    cloud.beforeWrite = noAnswer;
    await rig.execute(cloud, jobId);
    cloud.describeFault = new ProviderError('permanent', 'target_not_found', 'There is no such group.');
    expect(await rig.execute(cloud, jobId)).toMatchObject(postponed('outcome_unknown'));
    expect(await rig.attemptsOf(resourceId)).toEqual(['unknown']);
    await rig.settle(decisionId);
    await rig.execute(cloud, jobId);
    expect([await rig.attemptsOf(resourceId), await rig.errorCode(jobId)]).toEqual([
      ['superseded'],
      'target_not_found',
    ]);
  });
});

describe('an observation', () => {
  const current = (resourceId: string) =>
    readValue(pool, 'select current_instances from resources where id = $1', [resourceId]);

  it('older than our own change is not stored', async () => {
    const { resourceId, jobId } = await rig.prepare();
    const before = await cloud.describe();
    await rig.execute(cloud, jobId);
    await recordObservation(pool, { id: resourceId, epoch: '0' }, before, 'worker-1');
    expect(await current(resourceId)).toBe(6);
  });

  it('while our own change is under way is not stored', async () => {
    const { resourceId, jobId } = await rig.prepare();
    cloud.afterWrite = noAnswer;
    await rig.execute(cloud, jobId);
    await recordObservation(pool, { id: resourceId, epoch: '1' }, await cloud.describe(), 'worker-1');
    expect(await current(resourceId)).toBe(4);
  });
});
