import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { insertJobs } from '../../shared/db/jobs-store.ts';
import { createProducerConnection } from '../../shared/queues/connections.ts';
import { createQueues, enqueue } from '../../shared/queues/queues.ts';
import { decideDueResources, expireOldRows } from '../../worker/upkeep/chores.ts';
import { ProgressWatch } from '../../worker/upkeep/heartbeat.ts';
import { forFile } from '../support/for-file.ts';
import { newJob, seedAttempt, seedDecision, seedResource, storeJob } from '../support/seed.ts';
import { openTestPool, readRows, readValue } from '../support/test-database.ts';
import { createTestRedis } from '../support/test-redis.ts';
import { awsEnvironment, seedGroup, seedSamples, startQuickAws, TestWorkers } from '../support/worker-rig.ts';

const { pool, url } = forFile(await openTestPool());
const redis = createTestRedis();
const producer = createProducerConnection(redis.url, () => {});
await new Promise((resolve) => producer.once('ready', resolve));
const queues = createQueues(producer, redis.prefix, () => {});
const aws = forFile(await startQuickAws());
const environment = {
  DATABASE_URL: url,
  REDIS_URL: redis.url,
  QUEUE_PREFIX: redis.prefix,
  LOG_LEVEL: 'info',
  ...awsEnvironment(aws),
  OBSERVE_INTERVAL_SECONDS: '1',
};
const workers = new TestWorkers(() => environment);
const startHere = (extra?: Record<string, string>) => workers.startHere(extra);

afterEach(async () => {
  await workers.end();
  await pool.query('delete from worker_heartbeats');
});
afterAll(async () => {
  await Promise.all(Object.values(queues).map((queue) => queue.close()));
  producer.disconnect();
});

const rows = (sql: string, ...values: unknown[]) => readRows(pool, sql, values);
const value = (sql: string, ...values: unknown[]) => readValue(pool, sql, values);
const statusOf = (id: string) => value('select status from jobs where id = $1', id);

async function submit(resourceId: string): Promise<string> {
  const job = await storeJob(pool, 'decide', resourceId);
  await enqueue(queues, [{ id: job.id, queue: 'decide', seq: 0 }]);
  return job.id;
}

describe('a worker process', () => {
  it('serves only the queues it is told to, reports itself, and ends clean on SIGTERM', async () => {
    const { child, ended, output } = workers.startProcess({ args: ['--queues', 'execute-aws,upkeep'] });
    const heartbeats = async () =>
      (await rows('select queues from worker_heartbeats')).map((row) => row.queues);
    await expect.poll(heartbeats, { timeout: 10_000 }).toEqual([['execute-aws', 'upkeep']]);
    const id = await submit(await seedResource(pool));
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(await statusOf(id)).toBe('queued');
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(output()).toContain('"event":"worker.stopped"');

    const other = workers.startProcess({ args: ['--queues', 'decide'] });
    await expect.poll(() => statusOf(id), { timeout: 10_000 }).toBe('completed');
    other.child.kill('SIGTERM');
    expect(await other.ended).toBe(0);
  });

  it.each([
    [['--queues', 'decide,bogus'], {}, /WORKER_QUEUES/],
    [['--bogus'], {}, /Unknown option '--bogus'/],
    [
      [],
      { DECIDE_CONCURRENCY: '0', OBSERVE_INTERVAL_SECONDS: 'often' },
      /DECIDE_CONCURRENCY[\s\S]*OBSERVE_INTERVAL_SECONDS/,
    ],
  ])('refuses %j with %j, naming every mistake', async (args, extra, words) => {
    const { ended, output } = workers.startProcess({ args, extra });
    expect(await ended).toBe(1);
    expect(output()).toMatch(words);
  });

  it('an entry forged on another queue leaves its jobs alone: they are neither begun nor ended', async () => {
    const { id } = await seedGroup(pool, aws);
    const decisionId = await seedDecision(pool, id, 4, 5);
    const jobs = [newJob('execute', id, decisionId), newJob('decide', id, null)];
    await insertJobs(pool, jobs);
    const forged = { ids: jobs.map((job) => job.id), v: 1 };
    const entries = await Promise.all([
      queues.decide.add('forged', { ...forged, ids: [jobs[0]?.id] }),
      queues['execute-aws'].add('forged', { ...forged, ids: [jobs[1]?.id] }),
      queues.forecast.add('forged', forged),
    ]);
    await startHere({ WORKER_QUEUES: 'decide,execute-aws,forecast' });
    await vi.waitFor(
      async () => {
        for (const entry of entries) expect(await entry.getState()).toBe('completed');
      },
      { timeout: 10_000 },
    );
    expect(await rows('select status, fence from jobs where id = any ($1)', forged.ids)).toEqual([
      { status: 'queued', fence: 0 },
      { status: 'queued', fence: 0 },
    ]);
    expect(await rows('select 1 from scaling_decisions where resource_id = $1', id)).toHaveLength(1);
    await pool.query('delete from jobs where id = any ($1)', [forged.ids]);
  });

  it('that SCALER_STOP stops executes nothing, and everyone can see why', async () => {
    const { id, name } = await seedGroup(pool, aws, { mode: 'manual' });
    await seedSamples(pool, id, 95);
    await startHere({ SCALER_STOP: '1', WORKER_QUEUES: 'decide,execute-aws' });
    const stops = await rows(`select actor, detail from audit_log where action = 'worker.stopped'`);
    expect(stops).toMatchObject([{ detail: { reason: expect.stringContaining('SCALER_STOP') } }]);
    await expect
      .poll(() => rows('select stopped from worker_heartbeats where worker_id = $1', stops[0].actor))
      .toEqual([{ stopped: true }]);
    await pool.query('delete from worker_heartbeats where worker_id <> $1', [stops[0].actor]);
    const job = await submit(id);
    await expect.poll(() => statusOf(job), { timeout: 10_000 }).toBe('completed');
    const decisions = await rows(
      'select decision_type, reason from scaling_decisions where job_id = $1',
      job,
    );
    expect(decisions).toMatchObject([
      { decision_type: 'noaction', reason: expect.stringContaining('SCALER_STOP') },
    ]);
    expect(aws.group(name)?.desired).toBe(4);
  });

  it('tries again when the time of an open circuit is over, and closes one that nobody tries', async () => {
    const { id } = await seedGroup(pool, aws);
    await seedSamples(pool, id, 95);
    const circuit = 'scope:aws:us-east-1';
    const open = (seconds: number) =>
      pool.query(
        `insert into circuits (scope, failures, open_until) values ($1, 5, now() + $2 * interval '1 second')
          on conflict (scope) do update set failures = 5, open_until = excluded.open_until`,
        [circuit, seconds],
      );
    const isThere = async () =>
      (await rows('select 1 from circuits where scope = $1 and open_until is not null', circuit)).length;
    const decided = async () => {
      const job = await submit(id);
      await expect.poll(() => statusOf(job), { timeout: 10_000 }).toBe('completed');
      const sql = 'select decision_type, reason_code from scaling_decisions where job_id = $1';
      return (await rows(sql, job))[0];
    };
    await open(30);
    await startHere({ WORKER_QUEUES: 'decide' });
    expect(await decided()).toEqual({ decision_type: 'noaction', reason_code: 'circuit_open' });
    await open(-10);
    // What was seen is kept for a second.
    await expect
      .poll(decided, { timeout: 10_000, interval: 300 })
      .toMatchObject({ decision_type: 'scaleup' });
    await startHere({ WORKER_QUEUES: 'upkeep' });
    const looked = async () =>
      (await rows(`select 1 from resources where id = $1 and observed_at > now() - interval '3 seconds'`, id))
        .length;
    await expect.poll(looked, { timeout: 10_000 }).toBe(1);
    expect(await isThere()).toBe(1);
    await open(-61);
    await expect.poll(isThere, { timeout: 10_000 }).toBe(0);
    expect(await rows(`select subject, detail from audit_log where action = 'circuit.closed'`)).toEqual([
      { subject: circuit, detail: { why: 'the cloud was read well' } },
    ]);
  });

  it('killed in the middle of its work loses nothing: another one finishes it', async () => {
    const id = await seedResource(pool);
    const { child, ended } = workers.startProcess({ args: ['--queues', 'decide,upkeep'] });
    const jobs = await Promise.all(Array.from({ length: 60 }, () => submit(id)));
    await expect.poll(() => statusOf(jobs[0] as string), { timeout: 10_000 }).not.toBe('queued');
    child.kill('SIGKILL');
    await ended;
    // As if the dead worker's leases had run out.
    await pool.query(`update jobs set lease_until = now() - interval '1 second' where status = 'active'`);
    await pool.query(
      `update jobs set dispatched_at = now() - interval '1 minute' where status in ('queued', 'retrying')`,
    );
    await startHere({ WORKER_QUEUES: 'decide,upkeep' });
    const unfinished = () =>
      value(
        `select count(*)::integer as n from jobs where id = any ($1::uuid[]) and status <> 'completed'`,
        jobs,
      );
    await expect.poll(unfinished, { timeout: 20_000 }).toBe(0);
    expect(
      await value(
        'select count(*)::integer as n from scaling_decisions where job_id = any ($1::uuid[])',
        jobs,
      ),
    ).toBe(60);
  }, 40_000);
});

describe('resources that decide by themselves', () => {
  it('in mode auto are decided for and executed, in mode recommend only decided for', async () => {
    const auto = await seedGroup(pool, aws, { mode: 'auto' });
    const recommended = await seedGroup(pool, aws, { mode: 'recommend' });
    const manual = await seedGroup(pool, aws);
    for (const { id } of [auto, recommended, manual]) await seedSamples(pool, id, 90);
    await startHere();
    await expect.poll(() => aws.group(auto.name)?.desired, { timeout: 20_000 }).toBe(6);
    const decisionsOf = (id: string) =>
      rows('select decision_type, executed from scaling_decisions where resource_id = $1', id);
    await expect.poll(() => decisionsOf(auto.id)).toEqual([{ decision_type: 'scaleup', executed: true }]);
    await expect
      .poll(() => decisionsOf(recommended.id))
      .toEqual([{ decision_type: 'scaleup', executed: false }]);
    expect(await decisionsOf(manual.id)).toEqual([]);
    expect(aws.group(recommended.name)?.desired).toBe(4);
    expect(aws.group(manual.name)?.desired).toBe(4);
  }, 30_000);

  it('are asked for once an interval, by however many workers', async () => {
    await pool.query('delete from resources');
    const { id } = await seedGroup(pool, aws, { mode: 'recommend', decision_interval: 60 });
    const counts = await Promise.all([1, 2, 3, 4].map(() => decideDueResources(pool, queues)));
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(1);
    expect(await decideDueResources(pool, queues)).toBe(0);
    expect(await value('select count(*)::integer as n from jobs where resource_id = $1', id)).toBe(1);
  });
});

describe('upkeep', () => {
  it('sees what others did to a group, and writes it down', async () => {
    const { id, name } = await seedGroup(pool, aws, {}, 5);
    await startHere();
    const currentOf = () => value('select current_instances from resources where id = $1', id);
    await expect
      .poll(() => value('select observed_at from resources where id = $1', id), { timeout: 15_000 })
      .not.toBeNull();
    aws.changeExternally(name, { desired: 9 });
    await expect.poll(currentOf, { timeout: 15_000 }).toBe(9);
    expect(
      await rows(
        `select phase, previous_instances, new_instances from scaling_events where resource_id = $1`,
        id,
      ),
    ).toEqual([{ phase: 'observed', previous_instances: 5, new_instances: 9 }]);
  }, 40_000);

  it('deletes what has outlived its use, and no history', async () => {
    const { id } = await seedGroup(pool, aws);
    await pool.query(
      `insert into metric_samples (resource_id, timestamp, cpu, instances) values ($1, now() - interval '31 days', 1, 1), ($1, now() - interval '29 days', 1, 1)`,
      [id],
    );
    await pool.query(
      `insert into predictions (resource_id, timestamp, predicted_cpu) values ($1, now() - interval '31 days', 1), ($1, now(), 1)`,
      [id],
    );
    await pool.query(
      `insert into idempotency_keys (key_id, route, idempotency_key, body_hash, created_at) values ('k', 'r', 'old', '', now() - interval '25 hours'), ('k', 'r', 'new', '', now())`,
    );
    await pool.query(
      `insert into scaling_events (resource_id, phase, actor, created_at) values ($1, 'control', 'test', now() - interval '400 days')`,
      [id],
    );
    await expireOldRows(pool, { sampleDays: 30 });
    const count = (table: string, column = 'resource_id', key: string = id) =>
      value(`select count(*)::integer from ${table} where ${column} = $1`, key);
    expect(await count('metric_samples')).toBe(1);
    expect(await count('predictions')).toBe(1);
    expect(await count('idempotency_keys', 'key_id', 'k')).toBe(1);
    expect(await count('scaling_events')).toBe(1);
  });

  it('deletes in batches, so that no statement meets its time limit', async () => {
    const { id } = await seedGroup(pool, aws);
    await pool.query(
      `insert into metric_samples (resource_id, timestamp, cpu, instances)
        select $1, now() - interval '40 days' - n * interval '1 second', 1, 1 from generate_series(1, 25) n`,
      [id],
    );
    expect(await expireOldRows(pool, { sampleDays: 30 }, 10)).toBe(25);
    expect(await expireOldRows(pool, { sampleDays: 30 }, 10)).toBe(0);
  });

  it('keeps history for ever unless told, and what reached a cloud even then', async () => {
    const { id } = await seedGroup(pool, aws);
    const decide = async (daysAgo: number, tried: boolean) => {
      const decisionId = await seedDecision(pool, id, 4, 5, { expiresInSeconds: -86_400 });
      const job = await storeJob(pool, 'decide', id);
      await pool.query(
        `update jobs set status = 'completed', outcome = 'succeeded', finished_at = now(), created_at = now() - $2 * interval '1 day' where id = $1`,
        [job.id, daysAgo],
      );
      await pool.query('update scaling_decisions set job_id = $2 where id = $1', [decisionId, job.id]);
      if (tried)
        await seedAttempt(pool, { resourceId: id, decisionId, jobId: job.id }, [4, 5], {
          state: 'rejected',
          blocked: 'empty',
        });
      return { decisionId, jobId: job.id };
    };
    const [old, tried, young] = [await decide(100, false), await decide(100, true), await decide(80, false)];
    const unfinished = await storeJob(pool, 'decide', id);
    await pool.query(
      `update jobs set created_at = now() - interval '100 days', available_at = now() + interval '1 day' where id = $1`,
      [unfinished.id],
    );
    const idsIn = async (table: string) =>
      (await rows(`select id from ${table} where resource_id = $1`, id)).map((row) => row.id).sort();
    const kept = async () => ({ jobs: await idsIn('jobs'), decisions: await idsIn('scaling_decisions') });
    await expireOldRows(pool, { sampleDays: 30 });
    expect(await kept()).toEqual({
      jobs: [old.jobId, tried.jobId, young.jobId, unfinished.id].sort(),
      decisions: [old.decisionId, tried.decisionId, young.decisionId].sort(),
    });
    await expireOldRows(pool, { sampleDays: 30, historyDays: 90 }, 1);
    expect(await kept()).toEqual({
      jobs: [young.jobId, unfinished.id].sort(),
      decisions: [tried.decisionId, young.decisionId].sort(),
    });
  });
});

describe('liveness', () => {
  it('measures progress: entries that wait while nobody takes one', async () => {
    const watch = new ProgressWatch(2);
    const looks = async () => await watch.look(queues, ['execute-kubernetes']);
    expect(await looks()).toBeNull();
    await queues['execute-kubernetes'].add('execute-kubernetes', { ids: [randomUUID()], v: 1 });
    expect(await looks()).toBeNull();
    expect(await looks()).toBe('execute-kubernetes');
    await queues['execute-kubernetes'].pause();
    expect(await looks()).toBeNull();
    await queues['execute-kubernetes'].resume();
  });
});

describe('fleet concurrency', () => {
  it('holds for all workers together', async () => {
    await startHere({ WORKER_QUEUES: 'execute-kubernetes', EXECUTE_KUBERNETES_FLEET_CONCURRENCY: '3' });
    await startHere({ WORKER_QUEUES: 'execute-kubernetes', EXECUTE_KUBERNETES_FLEET_CONCURRENCY: '3' });
    expect(await queues['execute-kubernetes'].getGlobalConcurrency()).toBe(3);
  });
});
