import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { verifyDatabase } from '../../api/audit/verify.ts';
import { insertJobs } from '../../shared/db/jobs-store.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { createPool } from '../../shared/db/pool.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import { enqueue } from '../../shared/queues/queues.ts';
import { executeDecision } from '../../worker/execute/perform.ts';
import { claimJobs } from '../../worker/queue/jobs-store.ts';
import { sweep } from '../../worker/upkeep/relay.ts';
import { forFile } from '../support/for-file.ts';
import { buildPreviousRelease } from '../support/previous-release.ts';
import { ScriptedCloud } from '../support/scripted-cloud.ts';
import { newJob, seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';
import { startTestApi } from '../support/test-api.ts';
import {
  awsEnvironment,
  seedGroup,
  seedSamples,
  startQuickAws,
  TestWorkers,
  type WorkerProcess,
} from '../support/worker-rig.ts';

const previous = await buildPreviousRelease();
if ('missing' in previous)
  console.warn(`upgrade: the tests with the previous release are skipped: ${previous.missing}`);

const api = forFile(await startTestApi());
const { pool } = api;
const client = await api.client();
const aws = forFile(await startQuickAws());
const environment = {
  ...api.environment,
  LOG_LEVEL: 'info',
  ...awsEnvironment(aws),
  WORKER_QUEUES: 'decide,execute-aws,forecast',
};
const workers = new TestWorkers(() => environment);

afterEach(async () => {
  await workers.end();
  await minimum(1);
  await pool.query('delete from worker_heartbeats');
});

/** As an operator with a database console may: also to what this release does not know yet. */
const minimum = (version: number) =>
  pool.query('update fleet_settings set min_worker_version = $1', [version]);

async function seedBusyGroup(): Promise<{ id: string; name: string }> {
  const group = await seedGroup(pool, aws);
  await seedSamples(pool, group.id, 95);
  return group;
}

const writesTo = (name: string) =>
  aws.ledger.writes().filter((write) => write.action !== 'Seed' && JSON.stringify(write).includes(name));

interface JobState {
  readonly status: string;
  readonly attempts: number;
  readonly fence: number;
}
const stateOf = async (id: string): Promise<JobState | undefined> =>
  (await pool.query<JobState>('select status, attempts, fence from jobs where id = $1', [id])).rows[0];

/** Puts jobs on the queues, as the API or the relay does. */
async function ring(id: string, queue: 'decide' | 'execute-aws', seq = 0): Promise<void> {
  await enqueue(api.api.deps.queues, [{ id, queue, seq }]);
}
const waiting = async (queue: 'decide' | 'execute-aws') => {
  const counts = await api.api.deps.queues[queue].getJobCounts('wait', 'active', 'delayed');
  return (counts.wait ?? 0) + (counts.active ?? 0) + (counts.delayed ?? 0);
};

async function submitDecide(resource: string): Promise<string> {
  const job = newJob('decide', resource, null);
  await insertJobs(pool, [job]);
  await ring(job.id, 'decide');
  return job.id;
}

async function submitExecute(resource: string, target = 6): Promise<{ decision: string; job: string }> {
  const decision = await seedDecision(pool, resource, 4, target);
  const job = await seedExecuteJob(pool, resource, decision);
  await ring(job, 'execute-aws');
  return { decision, job };
}

/** What a worker's upkeep does all the time; here without the wait until an entry counts as lost. */
async function withRelay(work: () => Promise<void>): Promise<void> {
  const relay = setInterval(() => {
    pool
      .query(`update jobs set dispatched_at = now() - interval '10 seconds' where not finished`)
      .then(() => sweep(pool, api.api.deps.queues))
      .catch(() => {});
  }, 500);
  try {
    await work();
  } finally {
    clearInterval(relay);
  }
}

describe.skipIf('missing' in previous)('a worker of the previous release beside this schema', () => {
  const folder = 'folder' in previous ? previous.folder : '';

  async function startPrevious(program = 'worker', event = 'worker.started', database?: string) {
    const started = workers.startProcess({
      program: join(folder, 'dist', program, 'main.js'),
      ...(database === undefined ? {} : { extra: { DATABASE_URL: database } }),
    });
    await vi.waitFor(() => expect(started.output()).toContain(`"event":"${event}"`), { timeout: 20_000 });
    return started;
  }

  it('goes on working while the schema is migrated under it, with statements it prepared before', async () => {
    const url = new URL(inject('databaseUrl'));
    const name = `upgraded_${randomUUID().replaceAll('-', '')}`;
    const admin = new pg.Client(url.href);
    await admin.connect();
    await admin.query(`create database ${name}`);
    url.pathname = `/${name}`;
    await migrate(url.href, 2);
    const own = createPool(url.href, { name: 'test' });
    const { output } = await startPrevious('worker', 'worker.started', url.href);
    const runOnce = async () => {
      const group = `asg-${randomUUID().slice(0, 8)}`;
      aws.createGroup({
        name: group,
        region: 'us-east-1',
        min: 1,
        max: 50,
        desired: 4,
        instanceType: 'm5.large',
      });
      const id = await seedResource(own, { name: group });
      await own.query(
        `insert into metric_samples (resource_id, timestamp, cpu, instances) select $1, now() - n * interval '1 minute', 95, 4 from generate_series(0, 9) n`,
        [id],
      );
      const jobs = [newJob('decide', id, null), newJob('execute', id, await seedDecision(own, id, 4, 6))];
      await insertJobs(own, jobs);
      for (const job of jobs) await ring(job.id, job.queue as 'decide' | 'execute-aws');
      const done = 'select count(*)::integer as n from jobs where id = any ($1) and outcome = $2';
      const ids = jobs.map((job) => job.id);
      await expect
        .poll(async () => (await own.query(done, [ids, 'succeeded'])).rows[0].n, { timeout: 15_000 })
        .toBe(2);
      expect(writesTo(group)).toMatchObject([{ from: 4, to: 6 }]);
    };
    try {
      await runOnce();
      expect((await migrate(url.href)).length).toBeGreaterThanOrEqual(3);
      await runOnce();
      expect(output()).not.toMatch(/"level":(50|60)/);
      expect(await verifyDatabase(url.href)).toMatchObject({ ok: true, rows: 4, findings: [] });
    } finally {
      await workers.end();
      await own.end();
      await admin.query(`drop database ${name} with (force)`);
      await admin.end();
    }
  });

  describe('one process of it', () => {
    let old: WorkerProcess;
    beforeAll(async () => {
      old = await startPrevious();
      workers.letGo(old); // it lives through the next three
    });
    afterAll(() => {
      old.child.kill('SIGKILL');
    });

    it('decides and executes rightly while it may, and what it records is chained', async () => {
      const { id, name } = await seedBusyGroup();
      const decide = await submitDecide(id);
      await expect.poll(async () => (await stateOf(decide))?.status, { timeout: 15_000 }).toBe('completed');
      const { decision, job } = await submitExecute(id);
      await expect.poll(async () => (await stateOf(job))?.status, { timeout: 15_000 }).toBe('completed');
      expect(writesTo(name)).toMatchObject([{ from: 4, to: 6 }]);
      const { rows } = await pool.query(
        `select (select worker_version from attempts where decision_id = $1) as version, state, executed from scaling_decisions where id = $1`,
        [decision],
      );
      expect(rows).toEqual([{ version: 1, state: 'executed', executed: true }]);
      expect(await verifyDatabase(api.environment.DATABASE_URL as string, { resource: id })).toMatchObject({
        ...{ ok: true, rows: 2 },
      });
      await expect
        .poll(async () => (await client.get('/settings/min-worker-version')).body.workers, {
          timeout: 10_000,
        })
        .toMatchObject([{ worker_version: 1, outdated: false }]);
    });

    it('is refused by the database between its claim and its intent, and gives the job back', async () => {
      const { child, output } = old;
      const { id, name } = await seedBusyGroup();
      aws.faults.add({
        action: 'DescribeAutoScalingGroups',
        effect: { kind: 'slow', delayMs: 1_500 },
        count: 1,
      });
      const { decision, job } = await submitExecute(id);
      await expect
        .poll(async () => (await stateOf(job))?.status, { timeout: 10_000, interval: 20 })
        .toBe('active');
      await minimum(2);
      await expect.poll(async () => (await stateOf(job))?.status, { timeout: 10_000 }).toBe('retrying');
      expect(await stateOf(job)).toEqual({ status: 'retrying', attempts: 0, fence: 1 });
      await expect.poll(output).toContain('"code":"resource_busy"');
      expect(writesTo(name)).toEqual([]);
      const { rows } = await pool.query(
        `select state, (select count(*)::integer from attempts where decision_id = $1) as attempts,
        (select count(*)::integer from scaling_events where decision_id = $1) as events, (select epoch::integer from resources where id = $2) as epoch
        from scaling_decisions where id = $1`,
        [decision, id],
      );
      expect(rows).toEqual([{ state: 'pending', attempts: 0, events: 0, epoch: 0 }]);
      await minimum(1);
      await expect.poll(async () => (await stateOf(job))?.status, { timeout: 15_000 }).toBe('completed');
      expect(writesTo(name)).toHaveLength(1);
      expect(child.exitCode).toBeNull();
      expect(output()).not.toMatch(/"level":(50|60)/);
    });

    it('claims nothing once it is outdated, loses nothing, does not crash, and is told apart in /ready', async () => {
      const { child, output } = old;
      const set = await client.put('/settings/min-worker-version', {
        min_worker_version: 2,
        reason: 'everything is upgraded',
      });
      expect(set.status).toBe(200);
      const { id, name } = await seedBusyGroup();
      const decide = await submitDecide(id);
      const { job } = await submitExecute(id);
      // It takes the entries and finds nothing behind them.
      await expect.poll(() => waiting('decide'), { timeout: 10_000 }).toBe(0);
      await expect.poll(() => waiting('execute-aws'), { timeout: 10_000 }).toBe(0);
      for (const untouched of [decide, job])
        expect(await stateOf(untouched)).toEqual({ status: 'queued', attempts: 0, fence: 0 });
      expect(writesTo(name)).toEqual([]);
      await expect
        .poll(async () => (await api.get('/ready')).body, { timeout: 10_000 })
        .toMatchObject({ status: 'not_ready', workers: 0, outdated_workers: 1 });
      const { body } = await api.get('/ready');
      expect(body.reasons.join()).toContain('older than min_worker_version');

      // The relay rings again, and a worker of this release does the work beside it.
      await workers.startHere();
      await withRelay(async () => {
        for (const waited of [decide, job])
          await expect
            .poll(async () => (await stateOf(waited))?.status, { timeout: 20_000 })
            .toBe('completed');
      });
      expect(writesTo(name)).toMatchObject([{ from: 4, to: 6 }]);
      expect(child.exitCode).toBeNull();
      expect(output()).not.toMatch(/"level":(50|60)/);
    });
  });

  it('works with an API of its own release, too', async () => {
    const { output } = await startPrevious('api', 'api.listening');
    await workers.startHere();
    const port = /"port":(\d+)/.exec(output())?.[1];
    const { id } = await seedBusyGroup();
    const ask = async (path: string, body?: object): Promise<ReturnType<typeof JSON.parse>> =>
      await (
        await fetch(`http://127.0.0.1:${port}${path}`, {
          ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
          headers: {
            authorization: `Bearer ${client.key}`,
            'content-type': 'application/json',
            prefer: 'wait=15',
          },
        })
      ).json();
    const decided = await ask('/scale/decide', { resource_id: id });
    expect(decided).toMatchObject({ decision_type: 'scaleup' });
    expect(await ask('/scale/execute', { decision_id: decided.id })).toMatchObject({ success: true });
    const resource = await ask('/resources', {
      ...{ name: `asg-${randomUUID()}`, resource_type: 'ec2', cloud_provider: 'aws', region: 'us-east-1' },
      ...{ min_instances: 1, max_instances: 2, current_instances: 1 },
    });
    expect(await ask(`/resources/${resource.id}`)).toMatchObject({ id: resource.id });
    expect(await ask('/scale/history')).toMatchObject({ count: expect.any(Number) });
    expect(await verifyDatabase(api.environment.DATABASE_URL as string)).toMatchObject({
      ok: true,
      findings: [],
    });
  });

  it('finds nothing to migrate, and changes nothing', async () => {
    const old = (await import(pathToFileURL(join(folder, 'dist/shared/db/migrate.js')).href)) as {
      migrate(url: string): Promise<string[]>;
    };
    const grants = 'select count(*)::integer as n from information_schema.column_privileges';
    const before = (await pool.query(grants)).rows;
    expect(await old.migrate(api.environment.DATABASE_URL as string)).toEqual([]);
    expect((await pool.query(grants)).rows).toEqual(before);
  });
});

describe('a worker of this release that is outdated', () => {
  it('leaves the queues alone, says so, and goes on when it is allowed', async () => {
    await minimum(workerVersion + 1);
    const { child, ended, output } = workers.startProcess();
    const outdated = async () => (await api.get('/ready')).body.outdated_workers;
    await expect.poll(outdated, { timeout: 10_000 }).toBe(1);
    await expect
      .poll(async () => (await client.get('/settings/min-worker-version')).body.workers)
      .toMatchObject([{ worker_version: workerVersion, outdated: true }]);
    const jobs: string[] = [];
    // A read that was under way when it turned away may still take one entry, never more.
    for (let n = 0; n < 3; n++) jobs.push(await submitDecide((await seedBusyGroup()).id));
    await expect.poll(() => waiting('decide'), { timeout: 5_000 }).toBeGreaterThanOrEqual(2);
    for (const job of jobs) expect(await stateOf(job)).toEqual({ status: 'queued', attempts: 0, fence: 0 });
    await minimum(workerVersion);
    await withRelay(async () => {
      for (const job of jobs)
        await expect.poll(async () => (await stateOf(job))?.status, { timeout: 20_000 }).toBe('completed');
    });
    expect(output()).toContain('it claims nothing until it is upgraded');
    expect(output()).toContain('worker.allowed');
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  it('claims nothing, and is refused at the intent when it became so after its claim', async () => {
    const { id } = await seedBusyGroup();
    const decision = await seedDecision(pool, id, 4, 6);
    const jobId = await seedExecuteJob(pool, id, decision);
    const cloud = new ScriptedCloud();
    const [job] = await claimJobs(pool, [jobId], 30_000);
    if (job === undefined) throw new Error('not claimed');
    await minimum(workerVersion + 1);
    const outcome = await executeDecision(
      {
        ...{ pool, workerId: 'w', shutdown: new AbortController().signal, stopped: false },
        providers: new Map([['aws', cloud]]),
        onUnclassified: (error: unknown) => {
          throw error;
        },
      },
      job,
    );
    expect(outcome).toMatchObject({ kind: 'postpone', refund: true });
    expect(cloud.writes).toEqual([]);
    await pool.query(`update jobs set lease_until = now() - interval '1 second' where id = $1`, [jobId]);
    expect(await claimJobs(pool, [jobId], 30_000)).toEqual([]);
    await minimum(workerVersion);
    expect(await claimJobs(pool, [jobId], 30_000)).toHaveLength(1);
  });
});

describe('PUT /settings/min-worker-version', () => {
  it('needs a reason, is in the audit log, and never asks for more than this release has', async () => {
    const put = (body: unknown) => client.put('/settings/min-worker-version', body);
    expect((await put({ min_worker_version: 2 })).status).toBe(400);
    expect((await put({ min_worker_version: 0, reason: 'a reason' })).status).toBe(400);
    const more = await put({ min_worker_version: workerVersion + 1, reason: 'a reason' });
    expect(more).toMatchObject({ status: 400, body: { errors: [{ field: 'min_worker_version' }] } });
    expect(await put({ min_worker_version: 2, reason: 'all upgraded' })).toMatchObject({
      ...{
        status: 200,
        body: { min_worker_version: 2, reason: 'all upgraded', release_worker_version: workerVersion },
      },
    });
    const { body } = await client.get('/audit?action=fleet.min_worker_version&limit=1');
    expect(body.entries).toMatchObject([{ detail: { before: 1, after: 2, reason: 'all upgraded' } }]);
  });
});
