import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { JobIntake } from '../../api/jobs/job-intake.ts';
import { JobWaiters } from '../../api/jobs/job-waiters.ts';
import { findJob, listJobs } from '../../api/jobs/jobs-store.ts';
import { insertJobs } from '../../shared/db/jobs-store.ts';
import { publishFinished } from '../../shared/jobs/finished-jobs.ts';
import { createLogger } from '../../shared/observability/logger.ts';
import { createProducerConnection, createSubscriberConnection } from '../../shared/queues/connections.ts';
import { createQueues } from '../../shared/queues/queues.ts';
import { Claims } from '../../worker/queue/claims.ts';
import { claimJobs, finishJobs, postponeJob, releaseAbandonedJobs } from '../../worker/queue/jobs-store.ts';
import { sweep } from '../../worker/upkeep/relay.ts';
import { forFile } from '../support/for-file.ts';
import { endLeases, newJob, seedAttempt, seedDecision, seedResource, storeJob } from '../support/seed.ts';
import { openTestPool } from '../support/test-database.ts';
import { createTestRedis } from '../support/test-redis.ts';

const { pool } = forFile(await openTestPool());
const { url, prefix } = createTestRedis();
const redis = createProducerConnection(url, () => {});
const subscriber = createSubscriberConnection(url, () => {});
await new Promise((resolve) => redis.once('ready', resolve));
const queues = createQueues(redis, prefix, () => {});
afterAll(async () => {
  await Promise.all(Object.values(queues).map((queue) => queue.close()));
  redis.disconnect();
  subscriber.disconnect();
});
const queueErrors: unknown[] = [];
const intake = new JobIntake(pool, queues, (error) => queueErrors.push(error));
const resourceId = await seedResource(pool);

const completed = { status: 'completed', outcome: 'succeeded', result: {}, error: null } as const;
const jobIdOf = (submission: Awaited<ReturnType<JobIntake['submit']>>) =>
  'jobId' in submission ? submission.jobId : null;
const idsOf = (jobs: readonly { readonly id: string }[]) => jobs.map(({ id }) => id);
const decideJobs = (count: number) => Array.from({ length: count }, () => newJob('decide', resourceId, null));
const waitingIds = async () => (await queues.decide.getJobs(['wait'])).flatMap((entry) => entry.data.ids);

const idempotency = (key: string, body: string) => ({
  key_id: 'k',
  route: 'POST /scale/decide',
  key,
  body_hash: Buffer.from(body),
});

describe('accepting jobs', () => {
  it('commits and enqueues what arrives together, all of it, in packs', async () => {
    const jobs = decideJobs(120);
    const submissions = await Promise.all(jobs.map((job) => intake.submit(job)));
    expect(submissions).toEqual(jobs.map((job) => ({ kind: 'created', jobId: job.id })));
    const { rows } = await pool.query('select count(*)::integer as n from jobs where id = any ($1)', [
      idsOf(jobs),
    ]);
    expect(rows[0].n).toBe(120);
    const entries = await queues.decide.getJobs(['wait']);
    expect(entries.flatMap((entry) => entry.data.ids).sort()).toEqual(idsOf(jobs).sort());
    expect(entries.length).toBeLessThan(60);
    await queues.decide.obliterate({ force: true });
  });

  it('makes one job of fifty requests with the same key and body, and none of another body', async () => {
    const key = randomUUID();
    const submissions = await Promise.all(
      Array.from({ length: 50 }, () =>
        intake.submit(newJob('decide', resourceId, null, { idempotency: idempotency(key, 'a') })),
      ),
    );
    expect(new Set(submissions.map(jobIdOf)).size).toBe(1);
    expect(submissions.filter((submission) => submission.kind === 'created')).toHaveLength(1);
    expect(
      await intake.submit(newJob('decide', resourceId, null, { idempotency: idempotency(key, 'b') })),
    ).toEqual({ kind: 'body_mismatch' });
  });

  it('answers the running execution when a decision is executed twice at once', async () => {
    const decisionId = await seedDecision(pool, resourceId, 4, 6);
    const submissions = await Promise.all(
      Array.from({ length: 10 }, () => intake.submit(newJob('execute', resourceId, decisionId))),
    );
    expect(submissions.filter((submission) => submission.kind === 'created')).toHaveLength(1);
    expect(new Set(submissions.map(jobIdOf)).size).toBe(1);
  });

  it('starts an execution whose forerunner ended between the two looks at it', async () => {
    const decisionId = await seedDecision(pool, resourceId, 4, 6);
    const first = await storeJob(pool, 'execute', resourceId, decisionId);
    // The forerunner ends just before it is looked for.
    const ending = new Proxy(pool, {
      get(target, name) {
        if (name !== 'connect') return Reflect.get(target, name);
        return async () => {
          const client = await target.connect();
          const query = client.query.bind(client) as (...given: unknown[]) => Promise<unknown>;
          Object.assign(client, {
            query: async (...given: unknown[]) => {
              if ((given[0] as { name?: string }).name === 'find_running_execution') {
                const [held] = await claimJobs(pool, [first.id], 30_000);
                if (held !== undefined)
                  await finishJobs(pool, [
                    { ...held, status: 'failed', outcome: 'rejected', result: null, error: null },
                  ]);
              }
              return await query(...given);
            },
          });
          return client;
        };
      },
    });
    const racing = new JobIntake(ending, queues, (error) => queueErrors.push(error));
    const second = newJob('execute', resourceId, decisionId, {
      idempotency: { ...idempotency(randomUUID(), 'execute'), route: 'POST /scale/execute' },
    });
    expect(await racing.submit(second)).toEqual({ kind: 'created', jobId: second.id });
  });

  it('answers in a process that has not seen Redis yet: nobody waits until it is back', async () => {
    const away = createProducerConnection('redis://127.0.0.1:1', () => {});
    const lines = createQueues(away, prefix, () => {});
    const errors: unknown[] = [];
    const alone = new JobIntake(pool, lines, (error) => errors.push(error));
    const began = performance.now();
    for (let count = 0; count < 20; count++) {
      const job = newJob('decide', resourceId, null);
      expect(await alone.submit(job)).toEqual({ kind: 'created', jobId: job.id });
    }
    // Only the first gives Redis a moment.
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(errors).toHaveLength(20);
    away.disconnect();
    await Promise.allSettled(Object.values(lines).map((queue) => queue.close()));
  });

  it('takes a batch whole, and repeats its ids under the same key', async () => {
    const key = idempotency(randomUUID(), 'batch');
    const jobs = decideJobs(1_000);
    const first = await intake.submitMany(jobs, key);
    expect(first).toEqual({ kind: 'accepted', jobIds: idsOf(jobs) });
    const again = await intake.submitMany(
      jobs.map((job) => ({ ...job, id: randomUUID() })),
      key,
    );
    expect(again).toEqual({ kind: 'replayed', jobIds: idsOf(jobs) });
  });
});

describe('holding jobs', () => {
  it('claims once, finishes once, and lets a lost fence change nothing', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const claims = await Promise.all(Array.from({ length: 5 }, () => claimJobs(pool, [job.id], 30_000)));
    expect(claims.flat()).toHaveLength(1);
    const fence = claims.flat()[0]?.fence as number;
    const completion = { id: job.id, ...completed };
    expect((await finishJobs(pool, [{ ...completion, fence: fence - 1 }])).size).toBe(0);
    expect((await finishJobs(pool, [{ ...completion, fence }])).size).toBe(1);
    expect((await finishJobs(pool, [{ ...completion, fence }])).size).toBe(0);
    expect(await claimJobs(pool, [job.id], 30_000)).toEqual([]);
  });

  it('postpones without spending an attempt when asked to', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const [claimed] = await claimJobs(pool, [job.id], 30_000);
    await postponeJob(pool, claimed as { id: string; fence: number }, {
      delayMs: 60_000,
      refund: true,
      error: {
        code: 'throttled',
        message: '',
        http_status: 503,
      },
    });
    expect(await findJob(pool, job.id)).toMatchObject({
      status: 'retrying',
      attempts: 0,
      error: { code: 'throttled' },
    });
    expect(await claimJobs(pool, [job.id], 30_000)).toEqual([]);
  });

  it('takes over from dead workers, and buries a job that kills them', async () => {
    const jobs = [newJob('decide', resourceId, null), newJob('decide', resourceId, null)];
    await insertJobs(pool, jobs);
    const claimed = await claimJobs(pool, idsOf(jobs), 30_000);
    await pool.query(
      `update jobs set lease_until = now() - interval '1 second', attempts = case when id = $2 then 5 else 1 end where id = any ($1)`,
      [idsOf(jobs), jobs[1]?.id],
    );
    const { released, poisoned } = await releaseAbandonedJobs(pool, 5);
    expect(idsOf(released)).toEqual([jobs[0]?.id]);
    expect(poisoned).toEqual([jobs[1]?.id]);
    expect(await findJob(pool, jobs[1]?.id as string)).toMatchObject({
      status: 'failed',
      outcome: 'dead',
      error: { code: 'poison' },
    });
    // The worker that was thought dead finds its fence gone.
    const late = claimed.find((job) => job.id === jobs[0]?.id) as { id: string; fence: number };
    expect((await finishJobs(pool, [{ ...late, ...completed }])).size).toBe(0);
  });

  it('lets a claim that was taken over finish nothing', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const [first] = await claimJobs(pool, [job.id], 30_000);
    await endLeases(pool, job.id);
    const [second] = await claimJobs(pool, [job.id], 30_000);
    const finish = async (claimed: typeof first) =>
      (await finishJobs(pool, [{ id: job.id, fence: claimed?.fence ?? -1, ...completed }])).size;
    expect([await finish(first), await finish(second)]).toEqual([0, 1]);
  });

  it('lets a lost fence postpone nothing', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const [claimed] = await claimJobs(pool, [job.id], 30_000);
    const stale = { id: job.id, fence: (claimed?.fence ?? 0) - 1 };
    const error = { code: 'throttled', message: '', http_status: 503 };
    expect(await postponeJob(pool, stale, { delayMs: 0, refund: false, error })).toBeNull();
    expect(await findJob(pool, job.id)).toMatchObject({ status: 'active', error: null });
  });

  it('buries no job whose attempt is open: what it did has to be found out first', async () => {
    const decisionId = await seedDecision(pool, resourceId, 4, 6);
    const job = await storeJob(pool, 'execute', resourceId, decisionId);
    await claimJobs(pool, [job.id], 30_000);
    await seedAttempt(pool, { resourceId, decisionId, jobId: job.id }, [4, 6], {
      blocked: 'empty',
      worker_version: 1000,
    });
    await pool.query('update jobs set attempts = 9 where id = $1', [job.id]);
    await endLeases(pool, job.id);
    expect(idsOf((await releaseAbandonedJobs(pool, 5)).released)).toEqual([job.id]);
    await pool.query(`update attempts set state = 'not_applied' where job_id = $1`, [job.id]);
  });

  it('of a worker that is too old claims nothing', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    await pool.query('update fleet_settings set min_worker_version = 1000');
    // The trigger that stands behind it, for releases that do not ask, is tried elsewhere.
    await pool.query('alter table jobs disable trigger jobs_outdated_claim');
    expect(await claimJobs(pool, [job.id], 30_000)).toEqual([]);
    await pool.query('alter table jobs enable trigger jobs_outdated_claim');
    await pool.query('update fleet_settings set min_worker_version = 1');
    expect(await claimJobs(pool, [job.id], 30_000)).toHaveLength(1);
  });

  it('pages through jobs newest first without gaps or repeats', async () => {
    const own = await seedResource(pool);
    const jobs = Array.from({ length: 25 }, () => newJob('decide', own, null));
    await insertJobs(pool, jobs);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await listJobs(pool, { resource_id: own, limit: 10, cursor });
      seen.push(...idsOf(page.jobs));
      cursor = page.cursor ?? undefined;
    } while (cursor !== undefined);
    expect(seen.sort()).toEqual(idsOf(jobs).sort());
  });
});

describe('holding claimed jobs', () => {
  const logger = createLogger({ level: 'silent', name: 'test' });
  const times = { lease: 600, renewEvery: 150, longest: 60_000 };
  const released = async () => idsOf((await releaseAbandonedJobs(pool, 5)).released);

  it('keeps a job for as long as its work takes, and lets go of it then', async () => {
    const [long, next] = [newJob('decide', resourceId, null), newJob('decide', resourceId, null)];
    await insertJobs(pool, [long, next]);
    const claims = new Claims({ pool, logger }, 'decide', times);
    const fences = await Promise.all(
      [long, next].map(({ id }) =>
        claims.hold(id, async ({ fence }) => {
          if (id === long.id) await delay(times.lease * 3);
          return fence;
        }),
      ),
    );
    expect(fences).toEqual([1, 1]);
    // The one whose work was over at once, without an end, is free again; the other was held all the time.
    expect(await released()).toEqual([next.id]);
    await expect.poll(released, { timeout: 5_000 }).toEqual([long.id]);
    await pool.query('delete from jobs where id = any ($1)', [[long.id, next.id]]);
  });

  it('lets the lease of work that never ends run out', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const claims = new Claims({ pool, logger }, 'decide', { ...times, longest: 500 });
    let finish = () => {};
    const held = claims.hold(job.id, () => new Promise<void>((resolve) => (finish = resolve)));
    await expect.poll(released, { timeout: 5_000 }).toEqual([job.id]);
    finish();
    await held;
    await pool.query('delete from jobs where id = $1', [job.id]);
  });

  it("renews no lease that is somebody else's by now", async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    const claims = new Claims({ pool, logger }, 'decide', times);
    await claims.hold(job.id, async () => {
      await endLeases(pool, job.id);
      const [other] = await claimJobs(pool, [job.id], 300);
      expect(other?.fence).toBe(2);
      await delay(500);
      expect(await released()).toEqual([job.id]);
    });
    await pool.query('delete from jobs where id = $1', [job.id]);
  });
});

describe('the relay', () => {
  it('puts back what Redis lost, once, and leaves what still waits there', async () => {
    await Promise.all(Object.values(queues).map((queue) => queue.obliterate({ force: true })));
    await pool.query(
      `update jobs set status = 'failed', outcome = 'cancelled', finished_at = now() where status in ('queued', 'retrying', 'active')`,
    );
    const jobs = decideJobs(30);
    const waitSixSeconds = () =>
      pool.query(`update jobs set dispatched_at = now() - interval '6 seconds' where id = any ($1)`, [
        idsOf(jobs),
      ]);
    await Promise.all(jobs.map((job) => intake.submit(job)));
    await waitSixSeconds();
    await queues.decide.obliterate({ force: true });
    expect(await sweep(pool, queues)).toEqual({ released: 0, poisoned: 0, readded: 30 });
    expect(await sweep(pool, queues)).toEqual({ released: 0, poisoned: 0, readded: 0 });
    expect((await waitingIds()).sort()).toEqual(idsOf(jobs).sort());
    // Rows newer than the oldest entry are still in the queue, however long they have waited.
    await waitSixSeconds();
    const [oldest] = await queues.decide.getJobs(['wait'], 0, 0, true);
    await pool.query(`update jobs set dispatched_at = to_timestamp($2 / 1000.0) where id = any ($1)`, [
      idsOf(jobs),
      oldest?.timestamp,
    ]);
    expect((await sweep(pool, queues)).readded).toBe(0);
  });
});

describe('the relay after a death', () => {
  it('gives the jobs of dead workers back to the queue', async () => {
    const job = await storeJob(pool, 'decide', resourceId);
    await claimJobs(pool, [job.id], 30_000);
    await endLeases(pool, job.id);
    expect((await sweep(pool, queues)).released).toBe(1);
    expect(await waitingIds()).toContain(job.id);
  });
});

describe('waiting for a job', () => {
  it('is woken by the worker, finds what finished before, and gives up in time', async () => {
    const waiters = new JobWaiters(pool, subscriber, prefix);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const job = await storeJob(pool, 'decide', resourceId, null, { notify: true });
    expect(await waiters.wait(job.id, 50)).toBeNull();
    const waiting = waiters.wait(job.id, 5_000);
    const [claimed] = await claimJobs(pool, [job.id], 30_000);
    const done = { id: job.id, ...completed, result: { n: 1 } };
    await finishJobs(pool, [{ ...done, fence: claimed?.fence as number }]);
    await publishFinished(redis, prefix, [done]);
    const startedAt = performance.now();
    expect(await waiting).toMatchObject({ status: 'completed', result: { n: 1 } });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    expect(await waiters.wait(job.id, 5_000)).toMatchObject({ result: { n: 1 } });
  });
});
