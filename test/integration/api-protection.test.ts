import { describe, expect, it, vi } from 'vitest';
import { forFile } from '../support/for-file.ts';
import { seedAttempt, seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';
import { newGroup, refusal, startTestApi } from '../support/test-api.ts';

const api = forFile(await startTestApi());
const admin = await api.client(['admin', 'read']);
const reader = await api.client(['read']);

const query = (sql: string, values: unknown[] = []) => api.pool.query(sql, values);
const lastAudit = async (action: string) =>
  (
    await query(
      `select actor, subject, request_id, remote_address, detail from audit_log where action = $1 order by id desc limit 1`,
      [action],
    )
  ).rows[0];
const gauge = async (kind: string) => {
  const text = (await reader.get('/metrics')).body as string;
  return Number(new RegExp(`scaler_protections_active\\{kind="${kind}"\\} (\\d+)`).exec(text)?.[1]);
};
const ready = async () => (await api.get('/ready')).body;

describe('a stop over REST', () => {
  it('is seen by whoever looks, and every step of it is in the audit log with who, from where and why', async () => {
    const scope = 'scope:kubernetes:prod';
    expect(await admin.put(`/controls/${scope}`, { stopped: true, reason: 'incident 42' })).toMatchObject({
      status: 200,
      body: { scope, state: 'stopped', stopped: true },
    });
    expect(await lastAudit('control.stopped')).toMatchObject({
      actor: admin.key.split('_')[2],
      subject: scope,
      request_id: expect.stringMatching(/./),
      remote_address: expect.stringContaining('127.0.0.1'),
      detail: { reason: 'incident 42' },
    });
    expect((await ready()).protection).toMatchObject({ stops: 1 });
    // Anyone may ask `/ready`: it says how many, and not which.
    expect(JSON.stringify(await ready())).not.toContain('prod');
    expect(await gauge('stops')).toBe(1);
    expect((await reader.get('/protection')).body.stops).toMatchObject([
      { scope, state: 'stopped', reason: 'incident 42' },
    ]);

    const asked = await admin.put(`/controls/${scope}`, { stopped: false, reason: 'all clear' });
    expect(asked.body).toMatchObject({
      state: 'stopped',
      next: expect.stringContaining(asked.body.release_code),
    });
    expect(await lastAudit('control.release_asked')).toMatchObject({
      subject: scope,
      detail: { reason: 'all clear' },
    });
    expect((await lastAudit('control.release_asked'))?.detail).not.toHaveProperty('release_code');
    expect((await ready()).protection.stops).toBe(1);

    const release = { stopped: false, reason: 'all clear', release_code: asked.body.release_code };
    expect((await admin.put(`/controls/${scope}`, { ...release, observe_seconds: 60 })).body.state).toBe(
      'observing',
    );
    expect(await gauge('stops')).toBe(1);
    await query(`update controls set observe_until = now() where scope = $1`, [scope]);
    expect(await gauge('stops')).toBe(0);
    expect((await ready()).protection.stops).toBe(0);
  });

  it.each([
    ['global', { stopped: false, reason: 'over' }, 409, 'not_stopped'],
    ['global', { stopped: true }, 400, 'invalid_request'],
    ['global', { stopped: true, reason: '  ' }, 400, 'invalid_request'],
    ['global', { stopped: true, reason: 'x y z', observe_seconds: 5 }, 400, 'invalid_request'],
    ['everything', { stopped: true, reason: 'incident' }, 400, 'invalid_request'],
    ['resource:1', { stopped: true, reason: 'incident' }, 400, 'invalid_request'],
  ])('of %s is refused for %j', async (scope, body, status, code) => {
    expect(await admin.put(`/controls/${scope}`, body)).toMatchObject(refusal(status, code));
    expect((await query(`select 1 from controls where scope = $1`, [scope])).rowCount).toBe(0);
  });
});

describe('a freeze over REST', () => {
  const always = {
    scope: 'global',
    schedule: '* * * * *',
    duration_minutes: 5,
    time_zone: 'Europe/Berlin',
    reason: 'a sale',
  };

  it('is made, listed with its times, counted, and taken away with a reason', async () => {
    const made = await admin.post('/freezes', always);
    expect(made).toMatchObject({
      status: 201,
      body: {
        direction: 'down',
        active: true,
        active_until: expect.any(String),
        next_start: expect.any(String),
      },
    });
    expect(made.headers.get('location')).toBe(`/freezes/${made.body.id}`);
    expect(await lastAudit('freeze.created')).toMatchObject({
      subject: 'global',
      detail: { freeze_id: made.body.id },
    });
    expect((await reader.get('/freezes')).body.freezes).toMatchObject([
      { id: made.body.id, time_zone: 'Europe/Berlin' },
    ]);
    expect(await gauge('freezes')).toBe(1);
    expect((await ready()).protection.freezes).toBe(1);
    expect((await admin.delete(`/freezes/${made.body.id}`)).status).toBe(400);
    expect((await admin.delete(`/freezes/${made.body.id}?reason=it+is+over`)).status).toBe(204);
    expect(await lastAudit('freeze.deleted')).toMatchObject({ detail: { reason: 'it is over' } });
    expect((await admin.delete(`/freezes/${made.body.id}?reason=twice`)).body.code).toBe('freeze_not_found');
    expect(await gauge('freezes')).toBe(0);
  });

  it.each([
    ['schedule', { ...always, schedule: '61 * * * *' }],
    ['schedule', { ...always, schedule: '* * * * * *' }],
    ['schedule', { scope: 'global', reason: 'a sale' }],
    ['time_zone', { ...always, time_zone: 'Mars/Base' }],
    ['duration_minutes', { ...always, duration_minutes: null }],
    ['duration_minutes', { ...always, duration_minutes: 0 }],
    ['starts_at', { ...always, starts_at: '2026-11-27T00:00:00Z' }],
    [
      'ends_at',
      {
        scope: 'global',
        reason: 'a sale',
        starts_at: '2026-11-27T00:00:00Z',
        ends_at: '2026-11-26T00:00:00Z',
      },
    ],
    ['reason', { ...always, reason: '' }],
    ['scope', { ...always, scope: 'everything' }],
  ])('names %s as what is wrong with %j', async (field, body) => {
    const answer = await admin.post('/freezes', body);
    expect(answer).toMatchObject(refusal(400, 'invalid_request'));
    expect(answer.body.errors.map((error: { field: string }) => error.field)).toContain(field);
    expect((await query('select 1 from freezes')).rowCount).toBe(0);
  });
});

describe('fleet limits over REST', () => {
  it('are set, listed and taken away; the default ones can only be changed', async () => {
    const scope = 'scope:aws:us-east-1';
    expect(
      (await admin.put(`/fleet-limits/${scope}`, { scale_in_percent: 5, reason: 'careful here' })).body,
    ).toMatchObject({ scope, scale_in_percent: 5, window_seconds: 600 });
    expect(await lastAudit('fleet_limits.set')).toMatchObject({
      subject: scope,
      detail: { scale_in_percent: 5 },
    });
    expect((await reader.get('/fleet-limits')).body.fleet_limits).toMatchObject([
      { scope: 'default', scale_in_percent: 10, reason: 'as delivered' },
      { scope, scale_in_percent: 5 },
    ]);
    expect((await admin.delete(`/fleet-limits/${scope}?reason=no+more`)).status).toBe(204);
    expect((await admin.delete(`/fleet-limits/${scope}?reason=no+more`)).body.code).toBe(
      'fleet_limits_not_found',
    );
    expect((await admin.delete('/fleet-limits/default?reason=away')).body.code).toBe('default_stays');
  });

  it.each([
    ['/fleet-limits/resource:1', { reason: 'a test' }],
    ['/fleet-limits/global', { scale_in_percent: 101, reason: 'a test' }],
    ['/fleet-limits/global', { window_seconds: 0, reason: 'a test' }],
    ['/fleet-limits/global', { percent: 5, reason: 'a test' }],
  ])('%s refuses %j', async (path, body) => {
    expect(await admin.put(path, body)).toMatchObject(refusal(400, 'invalid_request'));
  });

  it('are shown with their use', async () => {
    await admin.post(
      '/resources',
      newGroup({ region: 'eu-west-1', max_instances: 100, current_instances: 80 }),
    );
    expect((await reader.get('/protection')).body.budgets).toMatchObject([
      {
        scope: 'scope:aws:eu-west-1',
        instances: 80,
        scale_in: { limit: 8, used: 0, left: 8, more_at: null },
        change: { limit: 160 },
      },
    ]);
  });
});

describe('a hold for correlated scale-in over REST', () => {
  const scope = 'scope:aws:us-east-1';
  const path = `/fleet-holds/${scope}/release`;

  it('is seen, and released with a reason', async () => {
    expect((await admin.post(path, { reason: 'looked' })).body.code).toBe('not_held');
    await query(
      `insert into fleet_holds (scope, held_until, quiet_until, wanting, resources) values ($1, now() + interval '30 minutes', now() + interval '90 minutes', 40, 50)`,
      [scope],
    );
    expect(await gauge('holds')).toBe(1);
    expect((await ready()).protection.holds).toBe(1);
    expect((await reader.get('/protection')).body.holds).toMatchObject([
      { scope, wanting: 40, resources: 50 },
    ]);
    expect(await admin.post(path, { reason: 'metrics are right' })).toMatchObject({
      status: 200,
      body: { scope, held: false },
    });
    expect(await lastAudit('fleet.released')).toMatchObject({
      subject: scope,
      detail: { reason: 'metrics are right' },
    });
    expect(await gauge('holds')).toBe(0);
  });
});

describe('an open circuit', () => {
  it('is counted, and told with its last failure to those who may read', async () => {
    await query(
      `insert into circuits (scope, failures, open_until, last_code, last_message) values ('scope:aws:us-west-2', 5, now() + interval '30 seconds', 'timeout', 'The cloud did not answer.')`,
    );
    expect(await gauge('circuits')).toBe(1);
    expect(await ready()).toMatchObject({
      protection: { circuits: 1 },
      reasons: expect.arrayContaining([expect.stringContaining('GET /protection')]),
    });
    expect((await reader.get('/protection')).body.circuits).toMatchObject([
      { scope: 'scope:aws:us-west-2', failures: 5, last_code: 'timeout' },
    ]);
    const { body } = await reader.get('/metrics');
    expect(body).toContain('scaler_scope_circuit_open{scope="scope:aws:us-west-2"} 1');
    await query('delete from circuits');
    expect((await reader.get('/metrics')).body).not.toContain('us-west-2');
  });
});

describe('what is seen without being asked for', () => {
  it('a budget that is used up', async () => {
    const scope = 'scope:aws:eu-west-1';
    const before = await gauge('budgets');
    const none = { scale_in_percent: 0, scale_in_floor: 0, reason: 'a test' };
    await admin.put(`/fleet-limits/${scope}`, none);
    expect(await gauge('budgets')).toBe(before + 1);
    expect(await ready()).toMatchObject({
      protection: { budgets: before + 1 },
      reasons: expect.arrayContaining([expect.stringMatching(/budget is used up/)]),
    });
    await admin.delete(`/fleet-limits/${scope}?reason=a+test`);
    expect(await gauge('budgets')).toBe(before);
  });

  it('a resource that flaps', async () => {
    const { pool } = api;
    const id = await seedResource(pool, { max_reversals_per_half_hour: 1 });
    for (const [n, [from, to]] of [
      [4, 6],
      [6, 4],
      [4, 6],
    ].entries()) {
      const decision = await seedDecision(pool, id, from as number, to as number);
      const at = new Date(Date.now() - (20 - n) * 60_000);
      const job = { resourceId: id, decisionId: decision, jobId: await seedExecuteJob(pool, id, decision) };
      const done = {
        epoch: n + 1,
        state: 'succeeded',
        intent_at: at,
        effect_at: at,
        fence: {},
        blocked: 'empty',
      };
      await seedAttempt(pool, job, [from as number, to as number], done);
    }
    expect(await gauge('flapping')).toBe(1);
    expect((await ready()).protection.flapping).toBe(1);
    expect((await reader.get('/protection')).body.flapping).toMatchObject([
      { resource_id: id, reversals: 3, max_reversals: 1 },
    ]);
  });

  it('a worker that SCALER_STOP stops', async () => {
    await query(
      `insert into worker_heartbeats (worker_id, queues, version, stopped) values ('w-1', '{execute-aws}', '1', true)`,
    );
    expect(await gauge('stopped_workers')).toBe(1);
    const state = await ready();
    expect(state).toMatchObject({
      protection: { stopped_workers: 1 },
      reasons: expect.arrayContaining([expect.stringContaining('SCALER_STOP')]),
      heartbeats: [{ queues: ['execute-aws'], stopped: true }],
    });
    // Anyone may ask.
    expect(JSON.stringify(state)).not.toContain('w-1');
    expect((await reader.get('/protection')).body.stopped_workers).toMatchObject([{ worker_id: 'w-1' }]);
  });
});

it('/ready asks PostgreSQL once for all who ask at the same time', async () => {
  const query = vi.spyOn(api.pool, 'query');
  await ready();
  const once = query.mock.calls.length;
  query.mockClear();
  const answers = await Promise.all(Array.from({ length: 40 }, ready));
  expect(query.mock.calls.length).toBeLessThan(once * 15);
  expect(new Set(answers.map(({ status }) => status)).size).toBe(1);
  query.mockRestore();
});
