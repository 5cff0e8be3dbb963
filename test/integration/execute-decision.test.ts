import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { findJob } from '../../api/jobs/jobs-store.ts';
import { ProviderError } from '../../worker/providers/provider-error.ts';
import { noAnswer, openExecutionRig, postponed } from '../support/execution-rig.ts';
import { forFile } from '../support/for-file.ts';
import { ScriptedCloud } from '../support/scripted-cloud.ts';
import { seedAttempt, seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';

const rig = forFile(await openExecutionRig());
const { pool } = rig;
let cloud: ScriptedCloud;

beforeEach(() => {
  cloud = new ScriptedCloud();
});

async function state(decisionId: string) {
  const { rows } = await pool.query(
    `select d.state, d.executed, r.current_instances, r.last_effect_at > '-infinity' as cooling,
      (select json_agg(a.state order by a.no) from attempts a where a.decision_id = d.id) as attempts,
      (select json_agg(e.phase || ':' || coalesce(e.outcome, '') order by e.seq) from scaling_events e where e.decision_id = d.id) as events
    from scaling_decisions d join resources r on r.id = d.resource_id where d.id = $1`,
    [decisionId],
  );
  return rows[0];
}

describe('whoever asked for an execution', () => {
  const asked = async (actor: string) => {
    const { jobId } = await rig.prepare();
    await pool.query('update jobs set actor_key_id = $2 where id = $1', [jobId, actor]);
    await rig.execute(cloud, jobId);
    return await rig.errorCode(jobId);
  };
  const keyWith = async (values: { revoked?: boolean; selectors?: unknown }) => {
    const id = randomUUID().slice(0, 12).replace('-', 'x');
    await pool.query(
      `insert into api_keys (id, name, secret_hash, scopes, expires_at, revoked_at, selectors)
        values ($1, 'test', '', '{execute}', now() + interval '1 day', case when $2 then now() end, $3)`,
      [id, values.revoked ?? false, values.selectors === undefined ? null : JSON.stringify(values.selectors)],
    );
    return id;
  };

  it('may still do so when it is carried out, or nothing is', async () => {
    expect(await asked(await keyWith({}))).toBeUndefined();
    cloud.desired = 4;
    expect(await asked(await keyWith({ selectors: [{ provider: 'aws' }] }))).toBeUndefined();
    cloud.desired = 4;
    expect(await asked(await keyWith({ revoked: true }))).toBe('forbidden');
    expect(await asked(await keyWith({ selectors: [{ provider: 'kubernetes' }] }))).toBe('forbidden');
    expect(await asked('nobody')).toBe('forbidden');
    expect(cloud.writes).toEqual([6, 6]);
  });
});

describe('executing a decision', () => {
  it('writes the intent before the request, and event, decision and size after it', async () => {
    const { decisionId, jobId } = await rig.prepare();
    let atWrite: unknown;
    cloud.beforeWrite = async () => {
      atWrite = await state(decisionId);
    };
    const outcome = await rig.execute(cloud, jobId);
    expect(atWrite).toMatchObject({ state: 'executing', attempts: ['open'], events: ['intent:'] });
    expect(outcome).toMatchObject({
      kind: 'finished',
      completion: { status: 'completed', outcome: 'succeeded' },
    });
    expect(await state(decisionId)).toEqual({
      state: 'executed',
      executed: true,
      current_instances: 6,
      cooling: true,
      attempts: ['succeeded'],
      events: ['intent:', 'outcome:succeeded'],
    });
    const job = await findJob(pool, jobId);
    expect(job?.result).toMatchObject({
      success: true,
      event: {
        action: 'ScaleUp',
        previous_instances: 4,
        new_instances: 6,
        success: true,
        decision_id: decisionId,
      },
    });
  });

  it('does nothing the second time: the same decision has one effect', async () => {
    const { decisionId, jobId, resourceId } = await rig.prepare();
    await rig.execute(cloud, jobId);
    const again = await seedExecuteJob(pool, resourceId, decisionId);
    const outcome = await rig.execute(cloud, again);
    expect(outcome).toMatchObject({
      completion: { status: 'completed', result: { success: true, event: { new_instances: 6 } } },
    });
    expect(cloud.writes).toEqual([6]);
  });

  it('answers a noaction decision with success and no event', async () => {
    const { jobId } = await rig.prepare(4, 4);
    const outcome = await rig.execute(cloud, jobId);
    expect(outcome).toMatchObject({
      completion: { status: 'completed', outcome: 'noop', result: { success: true, event: null } },
    });
    expect(cloud.writes).toEqual([]);
  });

  it('refuses when somebody else changed the size, and records what the cloud has', async () => {
    const { decisionId, jobId } = await rig.prepare();
    cloud.desired = 9;
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe('conflict');
    expect(await state(decisionId)).toMatchObject({
      state: 'superseded',
      current_instances: 9,
      cooling: false,
    });
    expect(cloud.writes).toEqual([]);
  });

  it('records that the cloud has the size already without a write or a cooldown', async () => {
    const { decisionId, jobId } = await rig.prepare();
    cloud.desired = 6;
    await rig.execute(cloud, jobId);
    expect(cloud.writes).toEqual([]);
    expect(await state(decisionId)).toMatchObject({
      state: 'executed',
      cooling: false,
      current_instances: 6,
      events: ['outcome:already_satisfied'],
    });
  });

  it.each([
    [
      'cooldown',
      `update resources set last_effect_at = clock_timestamp() - interval '299 seconds' where id = $1`,
    ],
    ['paused', `update resources set scale_up_paused_until = now() + interval '1 hour' where id = $1`],
    ['step_too_large', `update resources set max_scale_up_step = 1 where id = $1`],
    ['out_of_bounds', `update resources set max_instances = 5 where id = $1`],
    [
      'stopped',
      `insert into controls (scope, stopped, reason, actor) values ('resource:' || $1::uuid, true, 'a test', 'me')`,
    ],
    [
      'decision_expired',
      `update scaling_decisions set expires_at = now() - interval '1 second' where resource_id = $1`,
    ],
  ])('refuses with %s, enforced by the database clock at execution', async (code, change) => {
    const { jobId, resourceId, decisionId } = await rig.prepare();
    await pool.query(change, [resourceId]);
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe(code);
    expect(cloud.writes).toEqual([]);
    expect((await state(decisionId)).attempts).toBeNull();
  });

  it('refuses past the hourly limit', async () => {
    const resourceId = await seedResource(pool, { cooldown_period: 0, max_actions_per_hour: 1 });
    const first = await seedDecision(pool, resourceId, 4, 6);
    await rig.execute(cloud, await seedExecuteJob(pool, resourceId, first));
    const second = await seedDecision(pool, resourceId, 6, 7);
    const jobId = await seedExecuteJob(pool, resourceId, second);
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe('rate_limited');
    expect(cloud.writes).toEqual([6]);
  });

  it('refuses a decision once a newer one was carried out', async () => {
    const resourceId = await seedResource(pool, { cooldown_period: 0 });
    const older = await seedDecision(pool, resourceId, 6, 5);
    const newer = await seedDecision(pool, resourceId, 4, 6);
    await rig.execute(cloud, await seedExecuteJob(pool, resourceId, newer));
    const jobId = await seedExecuteJob(pool, resourceId, older);
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe('decision_superseded');
    expect(cloud.writes).toEqual([6]);
  });

  it('refuses a decision once a newer one was begun, whatever came of that', async () => {
    const resourceId = await seedResource(pool, { cooldown_period: 0 });
    const older = await seedDecision(pool, resourceId, 4, 5);
    const newer = await seedDecision(pool, resourceId, 4, 6);
    cloud.beforeWrite = () => {
      throw new ProviderError('permanent', 'validation', 'The cloud refuses.');
    };
    await rig.execute(cloud, await seedExecuteJob(pool, resourceId, newer));
    cloud.beforeWrite = () => {};
    const jobId = await seedExecuteJob(pool, resourceId, older);
    await rig.execute(cloud, jobId);
    expect(await rig.errorCode(jobId)).toBe('decision_superseded');
    expect(cloud.writes).toEqual([]);
  });

  it("keeps within the cloud's own bounds and says what blocks", async () => {
    const bounded = await rig.prepare();
    cloud.max = 5;
    await rig.execute(cloud, bounded.jobId);
    expect(await rig.errorCode(bounded.jobId)).toBe('out_of_bounds');
    const blocked = await rig.prepare();
    cloud.blocks = [
      { code: 'process_suspended', direction: 'up', message: 'Launch is suspended: resume it.' },
    ];
    await rig.execute(cloud, blocked.jobId);
    expect(await rig.errorCode(blocked.jobId)).toBe('process_suspended');
    expect(cloud.writes).toEqual([]);
  });

  it('infers success from the cloud when the answer was lost after the change', async () => {
    const { decisionId, jobId } = await rig.prepare();
    cloud.afterWrite = noAnswer;
    const first = await rig.execute(cloud, jobId);
    expect(first).toMatchObject(postponed('outcome_unknown', true));
    expect(await state(decisionId)).toMatchObject({ state: 'executing', attempts: ['unknown'] });
    await rig.execute(cloud, jobId);
    expect(await state(decisionId)).toMatchObject({
      state: 'executed',
      attempts: ['succeeded'],
      events: ['intent:', 'control:unknown', 'outcome:inferred'],
    });
    expect(cloud.writes).toEqual([6]);
  });

  it('waits until a lost request can no longer land, and does not write again what it cannot prove was not applied', async () => {
    const { decisionId, jobId } = await rig.prepare();
    cloud.beforeWrite = noAnswer;
    await rig.execute(cloud, jobId);
    expect(await rig.execute(cloud, jobId)).toMatchObject(postponed('outcome_unknown', true));
    expect(await state(decisionId)).toMatchObject({ attempts: ['unknown'] });
    await rig.settle(decisionId);
    expect(await rig.execute(cloud, jobId)).toMatchObject({
      kind: 'finished',
      completion: { outcome: 'superseded', error: { code: 'outcome_unproven' } },
    });
    expect(cloud.writes).toEqual([]);
    expect(await state(decisionId)).toMatchObject({
      state: 'superseded',
      attempts: ['superseded'],
      cooling: false,
      current_instances: 4,
    });
  });

  describe('with an object that has versions', () => {
    const then = { uid: 'one', resourceVersion: '10', generation: 3 };
    const lose = async () => {
      cloud.fence = then;
      const { decisionId, jobId } = await rig.prepare();
      cloud.beforeWrite = noAnswer;
      await rig.execute(cloud, jobId);
      cloud.beforeWrite = () => {};
      return { decisionId, jobId };
    };

    it('waits while the request could still land', async () => {
      const { jobId } = await lose();
      expect(await rig.execute(cloud, jobId)).toMatchObject(postponed('outcome_unknown'));
      expect(cloud.writes).toEqual([]);
    });

    it.each([
      ['nobody has written it', {}, true],
      ['only its status has moved, which ends the wait', { resourceVersion: '11' }, false],
    ])('tries again when %s', async (_, change, patient) => {
      const { decisionId, jobId } = await lose();
      cloud.fence = { ...then, ...change };
      if (patient) await rig.settle(decisionId);
      expect(await rig.execute(cloud, jobId)).toMatchObject(postponed('not_applied'));
      await rig.execute(cloud, jobId);
      expect(cloud.writes).toEqual([6]);
      expect(await state(decisionId)).toMatchObject({
        state: 'executed',
        attempts: ['not_applied', 'succeeded'],
      });
    });

    it.each([
      ['somebody has written it', { resourceVersion: '12', generation: 5 }],
      ['it was made anew', { uid: 'two', resourceVersion: '12', generation: 3 }],
      ['it does not count its changes', { resourceVersion: '12', generation: undefined }],
    ])('ends the decision when %s meanwhile', async (_, change) => {
      const { jobId } = await lose();
      const { generation, ...kept } = { ...then, ...change };
      cloud.fence = generation === undefined ? kept : { ...kept, generation };
      expect(await rig.execute(cloud, jobId)).toMatchObject({
        completion: { outcome: 'superseded', error: { code: 'outcome_unproven' } },
      });
      expect(cloud.writes).toEqual([]);
    });
  });

  it('begins nothing while a write whose size was seen, but not answered, could still arrive', async () => {
    const { resourceId, decisionId, jobId } = await rig.prepare(4, 6, { cooldown_period: 0 });
    cloud.beforeWrite = noAnswer;
    await rig.execute(cloud, jobId);
    cloud.beforeWrite = () => {};
    cloud.desired = 6; // Ours, or somebody else's: nobody can tell.
    await rig.execute(cloud, jobId);
    expect(await state(decisionId)).toMatchObject({
      state: 'executed',
      events: expect.arrayContaining(['outcome:inferred']),
    });
    const next = async () => {
      const id = await seedExecuteJob(pool, resourceId, await seedDecision(pool, resourceId, 6, 8));
      await rig.execute(cloud, id);
      return (await findJob(pool, id))?.error;
    };
    expect(await next()).toMatchObject({ code: 'settling', context: { earliest: expect.any(String) } });
    expect(cloud.writes).toEqual([]);
    await pool.query(
      `update attempts set settle_after = now(), blocked = tstzrange(lower(blocked), now()) where decision_id = $1`,
      [decisionId],
    );
    expect(await next()).toBeNull();
    expect(cloud.writes).toEqual([8]);
  });

  it('holds the resource against other decisions while an outcome is unknown', async () => {
    const { resourceId, jobId } = await rig.prepare(4, 6, { cooldown_period: 0 });
    cloud.beforeWrite = noAnswer;
    await rig.execute(cloud, jobId);
    cloud.beforeWrite = () => {};
    const other = await seedExecuteJob(pool, resourceId, await seedDecision(pool, resourceId, 4, 5));
    expect(await rig.execute(cloud, other)).toMatchObject(postponed('resource_busy', true));
    expect(cloud.writes).toEqual([]);
  });

  it('lets another worker resolve what a dead one left open, without writing again', async () => {
    const { decisionId, jobId } = await rig.prepare();
    let release = () => {};
    const frozen = new Promise<void>((resolve) => {
      release = resolve;
    });
    cloud.afterWrite = () => frozen;
    const first = rig.execute(cloud, jobId);
    await expect.poll(() => cloud.writes.length).toBe(1);
    await rig.execute(cloud, jobId, { workerId: 'worker-2' });
    release();
    // The first worker wakes up late: it reports, and changes nothing.
    expect(await first).toMatchObject(postponed('resolved_elsewhere'));
    expect(cloud.writes).toEqual([6]);
    expect(await state(decisionId)).toMatchObject({
      state: 'executed',
      attempts: ['succeeded'],
      events: ['intent:', 'outcome:inferred', 'late_report:succeeded'],
    });
  });

  it('starts the cooldown for a write that lands after it was given up, too', async () => {
    cloud.settleMs = 0;
    cloud.fence = { uid: 'one', resourceVersion: '10' };
    const { decisionId, jobId } = await rig.prepare();
    let release = () => {};
    const frozen = new Promise<void>((resolve) => {
      release = resolve;
    });
    let sending = false;
    cloud.beforeWrite = async () => {
      sending = true;
      await frozen;
    };
    const first = rig.execute(cloud, jobId);
    await expect.poll(() => sending).toBe(true);
    await rig.execute(cloud, jobId, { workerId: 'worker-2' });
    expect(await state(decisionId)).toMatchObject({ attempts: ['not_applied'], cooling: false });
    release();
    await first;
    expect(await state(decisionId)).toMatchObject({
      cooling: true,
      events: ['intent:', 'outcome:not_applied', 'late_report:succeeded'],
    });
  });

  it('lets only one of two simultaneous executions of a resource through', async () => {
    const resourceId = await seedResource(pool, { cooldown_period: 0 });
    const jobs = [];
    for (const target of [5, 6])
      jobs.push(await seedExecuteJob(pool, resourceId, await seedDecision(pool, resourceId, 4, target)));
    const outcomes = await Promise.all(jobs.map(async (id) => await rig.execute(cloud, id)));
    expect(cloud.writes).toHaveLength(1);
    expect(
      outcomes.filter((outcome) => outcome.kind === 'finished' && outcome.completion.status === 'completed'),
    ).toHaveLength(1);
  });

  it('postpones throttling for free, retries what was not applied, and ends permanent refusals', async () => {
    const fault = {
      current: new ProviderError('throttled', 'throttled', 'Slow down.', { retryAfterMs: 1_000 }),
    };
    cloud.beforeWrite = () => {
      throw fault.current;
    };
    const { decisionId, jobId } = await rig.prepare();
    const throttled = await rig.execute(cloud, jobId);
    expect(throttled).toMatchObject({ kind: 'postpone', refund: true });
    fault.current = new ProviderError('pre_send', 'connection_refused', 'Nobody listens.');
    expect(await rig.execute(cloud, jobId)).toMatchObject({ kind: 'postpone', refund: true });
    fault.current = new ProviderError('permanent', 'validation', 'The cloud refuses.');
    expect(await rig.execute(cloud, jobId)).toMatchObject({
      kind: 'finished',
      completion: { outcome: 'rejected' },
    });
    expect(await state(decisionId)).toMatchObject({
      state: 'failed',
      cooling: false,
      attempts: ['not_applied', 'not_applied', 'rejected'],
    });
  });

  it('is dead after its last attempt, with the reason', async () => {
    cloud.beforeWrite = () => {
      throw new ProviderError('conflict', 'kubernetes_conflict', 'Somebody else wrote the object.');
    };
    const { jobId } = await rig.prepare();
    await pool.query('update jobs set attempts = max_attempts - 1 where id = $1', [jobId]);
    await rig.execute(cloud, jobId);
    expect(await findJob(pool, jobId)).toMatchObject({
      status: 'failed',
      outcome: 'dead',
      error: { code: 'kubernetes_conflict' },
    });
  });

  it('asks for no more than can go', async () => {
    cloud.removable = 1;
    const { jobId, decisionId } = await rig.prepare(4, 2);
    cloud.desired = 4;
    expect(await rig.execute(cloud, jobId)).toMatchObject({
      completion: { outcome: 'rejected', error: { code: 'protected_instances' } },
    });
    expect([cloud.writes, await state(decisionId)]).toMatchObject([[], { state: 'pending' }]);
    const one = await rig.prepare(4, 3);
    expect(await rig.execute(cloud, one.jobId)).toMatchObject({ completion: { outcome: 'succeeded' } });
  });

  it('waits for a cloud that is away, as long as the decision lives', async () => {
    cloud.describeFault = new ProviderError('unavailable', 'connection_refused', 'Nobody listens.');
    const { jobId, decisionId } = await rig.prepare();
    await pool.query('update jobs set attempts = max_attempts - 1 where id = $1', [jobId]);
    for (let run = 0; run < 8; run++) {
      const outcome = await rig.execute(cloud, jobId);
      expect(outcome).toMatchObject({ kind: 'postpone', refund: true, error: { code: expect.anything() } });
      expect(outcome.kind === 'postpone' ? outcome.delayMs : Infinity).toBeLessThanOrEqual(31_000);
    }
    cloud.describeFault = null;
    await pool.query('update circuits set open_until = now()');
    expect(await rig.execute(cloud, jobId)).toMatchObject({ completion: { outcome: 'succeeded' } });

    const late = await rig.prepare();
    cloud.describeFault = new ProviderError('unavailable', 'connection_refused', 'Nobody listens.');
    await pool.query('update scaling_decisions set expires_at = now() where id = $1', [late.decisionId]);
    expect(await rig.execute(cloud, late.jobId)).toMatchObject({ completion: { outcome: 'expired' } });
    expect(await state(decisionId)).toMatchObject({ state: 'executed' });
  });
});

describe('the database as the last guard', () => {
  it('refuses to change history and finished jobs', async () => {
    const { jobId } = await rig.prepare();
    await rig.execute(cloud, jobId);
    await expect(pool.query('delete from scaling_events')).rejects.toThrow(/append-only/);
    await expect(pool.query('update scaling_events set success = false')).rejects.toThrow(/append-only/);
    await expect(pool.query('truncate scaling_events')).rejects.toThrow(/append-only/);
    await expect(
      pool.query(`update jobs set status = 'queued', outcome = null, finished_at = null where id = $1`, [
        jobId,
      ]),
    ).rejects.toThrow(/never changes again/);
  });

  it('refuses two open attempts, two successes and an intent within the cooldown', async () => {
    const { jobId, decisionId, resourceId } = await rig.prepare();
    await rig.execute(cloud, jobId);
    const insert = (attemptState: string, no: number) =>
      seedAttempt(pool, { resourceId, decisionId, jobId }, [4, 6], { no, epoch: 9, state: attemptState });
    await expect(insert('open', 8)).rejects.toThrow(/attempts_cooldown/);
    await expect(insert('succeeded', 9)).rejects.toThrow(/attempts_one_success|attempts_cooldown/);
  });
});
