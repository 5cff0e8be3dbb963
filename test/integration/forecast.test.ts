import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { forFile } from '../support/for-file.ts';
import { refusal, startTestApi } from '../support/test-api.ts';
import { readValue } from '../support/test-database.ts';
import { startTestWorker } from '../support/worker-rig.ts';

const api = forFile(await startTestApi());
const { pool } = api;
const client = await api.client();
const start = () => startTestWorker(api.environment, { WORKER_QUEUES: 'decide,forecast' });
let worker = await start();
forFile({ close: () => worker.close() });

const minute = 60_000;
const beganAt = Date.now();
/** Demand of a daily wave, in instances' worth, with a little noise: the same in every run, and at every time of day. */
const wave = (atMs: number) => {
  const phase = (2 * Math.PI * (atMs - beganAt)) / 86_400_000;
  const noise = ((((Math.round((atMs - beganAt) / minute) * 7_919) % 1_000) + 1_000) % 1_000) / 1_000 - 0.5;
  return 30 + 15 * Math.sin(phase) + 6 * noise;
};

const createGroup = (values: Record<string, unknown> = {}) =>
  client.createGroup({
    max_instances: 100,
    current_instances: 50,
    max_scale_up_step: 100,
    max_scale_down_step: 100,
    decision_interval: 300,
    provisioning_delay: 300,
    planning: 'risk',
    ...values,
  });

/** @param noise the share by which demand strays from its wave, at most: without any, less risk costs nothing. */
async function postHistory(id: string, days: number, untilMs = Date.now(), noise = 0): Promise<void> {
  const count = days * 288;
  const samples = Array.from({ length: count }, (_, index) => {
    const atMs = untilMs - (count - 1 - index) * 5 * minute;
    return {
      timestamp: new Date(atMs).toISOString(),
      cpu: 2 * wave(atMs) * (1 + noise * Math.sin(index ** 2)),
      instances: 50,
    };
  });
  const { body } = await client.post(`/resources/${id}/metrics`, { samples });
  expect(body).toEqual({ inserted: count, updated: 0 });
}

const decideNow = async (id: string, use_prediction = true) =>
  await client.post('/scale/decide', { resource_id: id, use_prediction }, { prefer: 'wait=10' });

async function untilBuilt(id: string): Promise<void> {
  await expect
    .poll(
      async () => {
        const { body } = await client.get(`/jobs?resource_id=${id}&kind=forecast`);
        return body.jobs.map((job: { status: string }) => job.status);
      },
      { timeout: 10_000 },
    )
    .toContain('completed');
}

describe('forecasts', () => {
  it('are built from history in the background, then lead decisions with a calibrated confidence', async () => {
    const id = await createGroup();
    await postHistory(id, 5);
    expect((await client.get(`/resources/${id}/forecast`)).body).toMatchObject({
      state: 'none',
      metrics: [],
      age_seconds: null,
    });
    const first = await decideNow(id);
    expect(first.status).toBe(200);
    expect(first.body.explanation.forecast).toEqual({
      used: false,
      why: 'it is being built from the stored samples',
    });
    expect(first.body.reason).toMatch(/^Measured CPU: /);
    await untilBuilt(id);

    const second = await decideNow(id);
    expect(second.body.explanation.forecast).toEqual({ used: true, why: 'trusted' });
    expect(second.body.reason).toMatch(/^Predicted CPU: \d+% on 50 instances: /);
    expect(second.body.explanation.confidence).toMatchObject({
      basis: 'forecast',
      within_utilization: 90,
      learning: false,
    });
    expect(second.body.confidence).toBeGreaterThan(0.9);
    const need = wave(Date.now() + 10 * minute) / 0.9;
    expect(second.body.explanation.wanted_instances).toBeGreaterThanOrEqual(Math.ceil(need));
    expect(second.body.explanation.wanted_instances).toBeLessThanOrEqual(Math.ceil(need * 1.4));

    const view = (await client.get(`/resources/${id}/forecast`)).body;
    expect(view).toMatchObject({ resource_id: id, state: 'trusted', step_seconds: 300, horizon_steps: 2 });
    expect(view.age_seconds).toBeLessThan(400);
    const [cpu] = view.metrics;
    expect(Math.abs(cpu.expected - wave(Date.now() + 10 * minute))).toBeLessThan(6);
    expect(cpu.upper).toBeGreaterThan(cpu.expected);
    expect(cpu.accuracy.mase).toBeLessThan(3);
    expect(Object.values(cpu.weights as Record<string, number>).reduce((a, b) => a + b)).toBeCloseTo(1, 9);
    expect(cpu.quantiles.map((q: { demand: number }) => q.demand)).toEqual(
      cpu.quantiles.map((q: { demand: number }) => q.demand).toSorted((a: number, b: number) => a - b),
    );
  });

  it('outlive their worker: another one takes the checkpoint up and the samples since', async () => {
    const id = await createGroup();
    const untilMs = Date.now() - 60 * minute;
    await postHistory(id, 4, untilMs);
    await decideNow(id);
    await untilBuilt(id);
    await worker.close();
    await client.post(`/resources/${id}/metrics`, {
      samples: Array.from({ length: 12 }, (_, index) => {
        const atMs = untilMs + (index + 1) * 5 * minute;
        return { timestamp: new Date(atMs).toISOString(), cpu: 2 * wave(atMs), instances: 50 };
      }),
    });
    worker = await start();
    const { body } = await decideNow(id);
    expect(body.explanation.forecast).toEqual({ used: true, why: 'trusted' });
    const sql = `select count(*)::integer from jobs where kind = 'forecast' and resource_id = $1`;
    expect(await readValue(pool, sql, [id])).toBe(1);
  });

  it('are built anew when the horizon changes, and a damaged checkpoint is no obstacle', async () => {
    const id = await createGroup();
    await postHistory(id, 2);
    await decideNow(id);
    await untilBuilt(id);
    const { headers } = await client.get(`/resources/${id}`);
    const etag = headers.get('etag') as string;
    const patched = await client.patch(`/resources/${id}`, { provisioning_delay: 900 }, { 'if-match': etag });
    expect(patched.status).toBe(200);
    expect((await decideNow(id)).body.explanation.forecast.used).toBe(false);
    await expect.poll(async () => (await decideNow(id)).body.explanation.forecast.used).toBe(true);
    expect((await client.get(`/resources/${id}/forecast`)).body.horizon_steps).toBe(4);
    await worker.close();
    await pool.query(`update forecasts set state = '\\x00' where resource_id = $1`, [id]);
    worker = await start();
    expect((await decideNow(id)).body.explanation.forecast.used).toBe(false);
    await expect.poll(async () => (await decideNow(id)).body.explanation.forecast.used).toBe(true);
    // As another release wrote it: of the same length, and of another meaning.
    await worker.close();
    await pool.query(`update forecasts set format = 0 where resource_id = $1`, [id]);
    worker = await start();
    expect((await decideNow(id)).body.explanation.forecast.used).toBe(false);
  });

  it('follow the samples where these come less often than decisions, and so do simulations', async () => {
    const id = await createGroup({ decision_interval: 60 });
    await postHistory(id, 3);
    await decideNow(id);
    await untilBuilt(id);
    const { explanation } = (await decideNow(id)).body;
    expect(explanation.forecast).toEqual({ used: true, why: 'trusted' });
    const { body } = await client.get(`/resources/${id}/forecast`);
    expect(body).toMatchObject({ step_seconds: 300, state: 'trusted' });
    // No more is known than was measured.
    expect(body.observed_seconds).toBeLessThanOrEqual(3 * 86_400);
    const to = new Date().toISOString();
    const from = new Date(Date.now() - 86_400_000).toISOString();
    const simulated = await client.post('/simulations', { resource_id: id, from, to }, { prefer: 'wait=20' });
    expect(simulated.body).toMatchObject({ step_seconds: 300, hpa: { instance_hours: expect.any(Number) } });
  });

  it('are in instances of today: after a change of type history is converted, not learnt anew', async () => {
    const id = await createGroup({ instance_type: 'm5.large' });
    await postHistory(id, 4);
    await decideNow(id);
    await untilBuilt(id);
    const before = (await decideNow(id)).body;
    expect(before.explanation.forecast).toEqual({ used: true, why: 'trusted' });
    // As an observation of the group writes it.
    await pool.query(`update resources set instance_type = 'm5.xlarge' where id = $1`, [id]);
    expect((await decideNow(id)).body.explanation.forecast.used).toBe(false);
    await expect.poll(async () => (await decideNow(id)).body.explanation.forecast.used).toBe(true);
    const after = (await decideNow(id)).body;
    // Twice as large, half as many.
    const need = wave(Date.now() + 10 * minute) / 2 / 0.9;
    expect(after.explanation.wanted_instances).toBeGreaterThanOrEqual(Math.ceil(need));
    expect(after.explanation.wanted_instances).toBeLessThanOrEqual(Math.ceil(need * 1.4));
    const [cpu] = (await client.get(`/resources/${id}/forecast`)).body.metrics;
    expect(Math.abs(cpu.expected - wave(Date.now() + 10 * minute) / 2)).toBeLessThan(3);
    // The errors of before count as errors of today's size, so the bound is as tight as it was.
    expect(cpu.upper / cpu.expected).toBeLessThan(1.3);
    expect(await client.get(`/scale/decisions/${after.id}/replay`)).toMatchObject({ body: { equal: true } });
  });

  it('take what the client says of the instances that were measured, and rates from counters', async () => {
    const id = await createGroup({ instance_type: 'm5.xlarge' });
    const at = (minutesAgo: number) => new Date(Date.now() - minutesAgo * minute).toISOString();
    const sample = (minutesAgo: number, requests_total: number, values = {}) => ({
      timestamp: at(minutesAgo),
      cpu: 40,
      instances: 10,
      requests_total,
      ...values,
    });
    const post = async (samples: unknown) => await client.post(`/resources/${id}/metrics`, { samples });
    // Late and out of order; the counter begins anew between the third and the fourth.
    expect((await post([sample(5, 5_000), sample(25, 1_000, { instance_type: 'm5.large' })])).status).toBe(
      200,
    );
    expect((await post([sample(10, 3_800), sample(0.5, 100), sample(15, 2_800)])).status).toBe(200);
    const { body } = await decideNow(id, false);
    const { rows } = await pool.query('select inputs from scaling_decisions where id = $1', [body.id]);
    const samples = rows[0].inputs.samples.map((packed: unknown[]) => packed.slice(1));
    expect(samples.map((packed: unknown[]) => (packed[3] as number | undefined)?.toFixed(2))).toEqual([
      undefined,
      '3.00',
      '3.33',
      '4.00',
      undefined,
    ]);
    expect(samples[0]).toEqual([0.4, null, 10, null, 0.5, 0.5]);
    const listed = (await client.get(`/resources/${id}/metrics`)).body.samples;
    expect(listed.at(-1)).toMatchObject({ requests: null, requests_total: 1_000, instance_type: 'm5.large' });
    expect(await post([{ timestamp: at(1), requests_total: -1 }])).toMatchObject({ status: 400 });
    expect(await post([{ timestamp: at(1), requests_total: 5 }])).toMatchObject({ status: 200 });
  });

  it('are neither built nor used for those who do not ask for predictions', async () => {
    const id = await createGroup();
    await postHistory(id, 1);
    const { body } = await decideNow(id, false);
    expect(body.explanation.forecast).toEqual({ used: false, why: 'not asked for' });
    expect((await client.get(`/jobs?resource_id=${id}&kind=forecast`)).body.count).toBe(0);
  });
});

describe('the replay of a decision', () => {
  it('comes to the same answer, bit for bit, with a forecast and without', async () => {
    const id = await createGroup({ planning: 'target' });
    await postHistory(id, 3);
    const without = (await decideNow(id)).body.id;
    await untilBuilt(id);
    const withForecast = (await decideNow(id)).body.id;
    for (const decision of [without, withForecast]) {
      expect(await client.get(`/scale/decisions/${decision}/replay`)).toMatchObject({
        status: 200,
        body: { decision_id: decision, equal: true, differences: [] },
      });
    }
  });

  it('names what differs when the row was tampered with, and another engine version', async () => {
    const id = await createGroup();
    await postHistory(id, 1);
    const decision = (await decideNow(id)).body.id;
    await pool.query(`update scaling_decisions set confidence = 0.123 where id = $1`, [decision]);
    const { body } = await client.get(`/scale/decisions/${decision}/replay`);
    expect(body).toMatchObject({ equal: false, differences: [{ field: 'confidence', stored: 0.123 }] });
    await pool.query(`update scaling_decisions set engine_version = '0.9.0' where id = $1`, [decision]);
    const other = await client.get(`/scale/decisions/${decision}/replay`);
    expect(other.body).toMatchObject({ equal: null, engine_version: '0.9.0' });
  });

  it('answers 404 for a decision that does not exist', async () => {
    const answer = await client.get(`/scale/decisions/${randomUUID()}/replay`);
    expect(answer).toMatchObject(refusal(404, 'decision_not_found'));
  });
});

describe('a simulation', () => {
  const simulate = async (body: unknown) => await client.post('/simulations', body, { prefer: 'wait=20' });

  it('tells what another policy would have done on the same history, and the price of each risk', async () => {
    const id = await createGroup({ hourly_price: 0.5 });
    await postHistory(id, 6);
    const to = new Date().toISOString();
    const from = new Date(Date.now() - 3 * 86_400_000).toISOString();
    const answer = await simulate({ resource_id: id, from, to, policy: {}, risks: [0.005, 0.1] });
    expect(answer.status).toBe(200);
    const { simulated, actual, frontier, series } = answer.body;
    // Fifty instances ran all the time.
    expect(actual.instance_hours).toBeCloseTo(3_600, -2);
    expect(actual.cost_usd).toBeCloseTo(actual.instance_hours * 0.5, 6);
    expect(actual.actions_per_day).toBe(0);
    expect(simulated.instance_hours).toBeLessThan(actual.instance_hours);
    expect(simulated.breach_percent).toBeLessThan(4);
    expect(simulated.ratio_to_oracle).toBeGreaterThan(1);
    expect(frontier.map((point: { risk: number }) => point.risk)).toEqual([0.005, 0.1]);
    expect(frontier[0].instance_hours).toBeGreaterThan(frontier[1].instance_hours);
    expect(frontier[0].breach_percent).toBeLessThanOrEqual(frontier[1].breach_percent);
    expect(series.length).toBeGreaterThan(800);
    expect(series[0]).toEqual({
      timestamp: expect.any(String),
      demand: expect.any(Number),
      simulated_instances: expect.any(Number),
      actual_instances: 50,
      upper: expect.any(Number),
    });
  });

  it('keeps the limits of the draft', async () => {
    const id = await createGroup();
    await postHistory(id, 2);
    const body = {
      resource_id: id,
      from: new Date(Date.now() - 86_400_000).toISOString(),
      to: new Date().toISOString(),
      policy: { min_instances: 9, max_instances: 9 },
    };
    const { series, simulated } = (await simulate(body)).body;
    expect(
      new Set(series.map((point: { simulated_instances: number }) => point.simulated_instances)),
    ).toEqual(new Set([9]));
    expect(simulated.actions_per_day).toBe(0);
  });

  it('refuses a range without samples, one that is backwards, and drafts with unknown fields', async () => {
    const id = await createGroup();
    const range = { from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z' };
    expect(await simulate({ resource_id: id, ...range })).toMatchObject(refusal(422, 'no_history'));
    expect(await simulate({ resource_id: id, from: range.to, to: range.from })).toMatchObject({
      status: 400,
      body: { errors: [{ field: 'to' }] },
    });
    expect(await simulate({ resource_id: id, ...range, policy: { bogus: 1 } })).toMatchObject({
      status: 400,
    });
    expect(await simulate({ resource_id: randomUUID(), ...range })).toMatchObject({ status: 404 });
  });
});

describe('the frontier', () => {
  const ask = async (id: string, headers: Record<string, string> = {}, as = client) =>
    await as.get(`/resources/${id}/frontier`, headers);

  it('tells what each risk would have cost: first by a job, then at once, and anew when it is a day old', async () => {
    const id = await createGroup({ hourly_price: 0.5, tolerated_risk: 0.01 });
    await postHistory(id, 3, Date.now(), 0.2);
    const reader = await api.client(['read']);
    const first = await ask(id, {}, reader);
    expect(first).toMatchObject({ status: 202, body: { job_id: expect.any(String) } });
    // Asking again while it is under way starts no second one.
    const [second, third] = await Promise.all([
      ask(id, { prefer: 'wait=20' }),
      ask(id, { prefer: 'wait=20' }),
    ]);
    expect(second.status).toBe(200);
    expect(third.status).toBe(200);
    const jobs = async () =>
      (await pool.query(`select id, status from jobs where resource_id = $1 and kind = 'simulate'`, [id]))
        .rows;
    expect(await jobs()).toEqual([{ id: first.body.job_id, status: 'completed' }]);

    const { points, actual, current_policy, hours, ...rest } = (await ask(id)).body;
    expect(rest).toMatchObject({
      resource_id: id,
      tolerated_risk: 0.01,
      step_seconds: 300,
      refreshing_job_id: null,
    });
    expect(rest.age_seconds).toBeLessThan(60);
    expect(points.map((point: { risk: number }) => point.risk)).toEqual([0.005, 0.01, 0.02, 0.05, 0.1]);
    expect(points[0].instance_hours).toBeGreaterThan(points[4].instance_hours);
    expect(points[0].breach_percent).toBeLessThanOrEqual(points[4].breach_percent);
    expect(current_policy.instance_hours).toBe(points[1].instance_hours);
    // Fifty instances at half a dollar, 730 hours a month.
    expect(actual.cost_per_month_usd).toBeCloseTo(50 * 0.5 * 730, 0);
    expect(points[0].cost_per_month_usd).toBeCloseTo((points[0].instance_hours * 0.5 * 730) / hours, 1);

    // Jobs never change once they are done: only a day's passing makes a frontier old. The trigger is told otherwise here.
    await pool.query(
      `begin; set local session_replication_role = replica;
       update jobs set finished_at = finished_at - interval '25 hours' where id = '${first.body.job_id}'; commit`,
    );
    const old = await ask(id);
    expect(old).toMatchObject({ status: 200, body: { refreshing_job_id: expect.any(String) } });
    expect(old.body.age_seconds).toBeGreaterThan(86_400);
    await expect.poll(async () => (await ask(id)).body.age_seconds, { timeout: 10_000 }).toBeLessThan(3_600);
    expect(await jobs()).toHaveLength(2);
  });

  it('cannot be told without samples, or of a resource that is not there', async () => {
    const id = await createGroup();
    expect(await ask(id, { prefer: 'wait=20' })).toMatchObject(refusal(422, 'no_history'));
    expect(await ask(randomUUID())).toMatchObject(refusal(404, 'resource_not_found'));
  });
});
