import { randomUUID } from 'node:crypto';
import { AutoScalingClient, SetInstanceProtectionCommand } from '@aws-sdk/client-auto-scaling';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type RunningWorker, startWorker } from '../../worker/compose.ts';
import { readWorkerConfig } from '../../worker/config.ts';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import { observeResources } from '../../worker/upkeep/chores.ts';
import type { AwsSimulator } from '../simulators/aws/server.ts';
import { startTestApi, type TestApi } from '../support/test-api.ts';
import { awsEnvironment, startQuickAws } from '../support/worker-rig.ts';

/** Inputs of a user's first week, over REST: what the engine's own tests cannot see is how they are read and stored. */
let api: TestApi;
let worker: RunningWorker;
let key: string;

beforeAll(async () => {
  api = await startTestApi();
  const environment = {
    ...api.environment,
    WORKER_QUEUES: 'decide,forecast',
    AWS_EC2_METADATA_DISABLED: 'true',
  };
  worker = await startWorker(readWorkerConfig(environment));
  key = await api.key(['read', 'decide', 'admin']);
});
afterAll(async () => {
  await worker.close(5_000);
  await api.close();
});

const minute = 60_000;
const ago = (minutes: number) => new Date(Date.now() - minutes * minute).toISOString();

async function created(values: Record<string, unknown>): Promise<string> {
  const { status, body } = await api.call('POST', '/resources', {
    key,
    body: {
      ...{ name: `asg-${randomUUID()}`, resource_type: 'ec2', cloud_provider: 'aws' },
      ...{ min_instances: 1, max_instances: 100, current_instances: 10, ...values },
    },
  });
  expect(status, JSON.stringify(body)).toBe(201);
  return body.id;
}

async function post(id: string, kind: 'metrics' | 'predictions', rows: readonly object[]): Promise<void> {
  const body = kind === 'metrics' ? { samples: rows } : { predictions: rows };
  const answer = await api.call('POST', `/resources/${id}/${kind}`, { key, body });
  expect(answer.status, JSON.stringify(answer.body)).toBe(200);
}

async function decided(id: string, use_prediction = false) {
  const { status, body } = await api.call('POST', '/scale/decide', {
    key,
    headers: { prefer: 'wait=10' },
    body: { resource_id: id, use_prediction },
  });
  expect(status).toBe(200);
  const replay = await api.call('GET', `/scale/decisions/${body.id}/replay`, {
    key,
    headers: { prefer: 'wait=10' },
  });
  expect(replay.body, 'the same, bit for bit, from what was stored').toMatchObject({ equal: true });
  return body;
}

/** Samples every so many minutes, the newest so many minutes old. */
const every = (minutes: number, newest: number, count: number, sample: object) =>
  Array.from({ length: count }, (_, index) => ({ timestamp: ago(newest + index * minutes), ...sample }));

describe('a unit', () => {
  it('that was not declared is doubted; declared, it is read as it is, in old samples, too', async () => {
    const id = await created({ current_instances: 20 });
    await post(id, 'metrics', every(2, 0, 6, { cpu: 0.82, memory: 0.6, instances: 20 }));
    const doubted = await decided(id);
    expect(doubted).toMatchObject({ decision_type: 'noaction', target_instances: 20 });
    expect(doubted.explanation).toMatchObject({
      reason_code: 'suspect_unit',
      data_quality: { verdict: 'suspect_unit' },
    });

    const version = (await api.call('GET', `/resources/${id}`, { key })).body.version;
    const set = await api.call('PATCH', `/resources/${id}`, {
      key,
      headers: { 'if-match': `"${version}"` },
      body: { utilization_unit: 'ratio' },
    });
    expect(set.status, JSON.stringify(set.body)).toBe(200);
    expect(await decided(id)).toMatchObject({
      decision_type: 'scaleup',
      reason: expect.stringMatching(/^Measured CPU: 82%, Memory: 60% on 20 instances/),
    });
  });
});

describe('the rhythm of the data', () => {
  it('of five minutes, four minutes late, is fresh enough to scale in', async () => {
    const id = await created({});
    await post(id, 'metrics', every(5, 4, 13, { cpu: 20, memory: 20, instances: 10 }));
    expect(await decided(id)).toMatchObject({ decision_type: 'scaledown', target_instances: 8 });
  });

  it.each([
    ['of a minute that stopped six minutes ago is stale', {}],
    ['is what max_sample_age says, where that is set', { max_sample_age: 200 }],
  ])('%s', async (_, values) => {
    const id = await created(values);
    const interval = 'max_sample_age' in values ? 5 : 1;
    await post(id, 'metrics', every(interval, interval === 5 ? 4 : 6, 20, { cpu: 20, instances: 10 }));
    const { target_instances, explanation } = await decided(id);
    expect(target_instances).toBe(10);
    expect(explanation.data_quality.verdict).toBe('stale');
  });

  it('that always arrives late is no older than usual', async () => {
    const id = await created({});
    // Each row its own request: that they were four minutes under way is seen in their arrival.
    for (let index = 9; index >= 0; index--)
      await post(id, 'metrics', [{ timestamp: ago(4 + index), cpu: 20, instances: 10 }]);
    await api.api.deps.pool.query(
      `update metric_samples set received_at = timestamp + interval '4 minutes' where resource_id = '${id}'`,
    );
    expect(await decided(id)).toMatchObject({ decision_type: 'scaledown' });
  });
});

describe('zero', () => {
  it('is left as soon as requests come', async () => {
    const id = await created({ min_instances: 0, current_instances: 0 });
    await post(id, 'metrics', [{ timestamp: ago(0), requests: 50, instances: 0 }]);
    expect(await decided(id)).toMatchObject({ decision_type: 'scaleup', target_instances: 1 });
  });

  it.each([
    ['requests', { requests: 0 }],
    ['a counter of requests', { requests_total: 7_000 }],
  ])('is reached when %s were silent, whatever memory is held', async (_, signal) => {
    const id = await created({ min_instances: 0, current_instances: 1 });
    await post(id, 'metrics', every(1, 0, 20, { cpu: 0, memory: 5, instances: 1, ...signal }));
    expect(await decided(id)).toMatchObject({ decision_type: 'scaledown', target_instances: 0 });
  });

  it('is not reached while a counter rises, nor without a signal, and the reason says why', async () => {
    const counting = await created({ min_instances: 0, current_instances: 1 });
    const rows = every(1, 0, 20, { cpu: 0, memory: 5, instances: 1 });
    await post(
      counting,
      'metrics',
      rows.map((row, index) => ({ ...row, requests_total: 7_000 - (index > 5 ? 1 : 0) })),
    );
    expect(await decided(counting)).toMatchObject({ target_instances: 1 });

    const gap = await created({ min_instances: 0, current_instances: 1 });
    await post(
      gap,
      'metrics',
      rows.filter((_, index) => index < 3 || index > 15).map((row) => ({ ...row, requests: 0 })),
    );
    expect(await decided(gap)).toMatchObject({ target_instances: 1 });

    const mute = await created({ min_instances: 0, current_instances: 1 });
    await post(mute, 'metrics', rows);
    expect(await decided(mute)).toMatchObject({
      target_instances: 1,
      reason: expect.stringMatching(/the last instance stays: neither requests nor predictions/),
    });
  });

  it('is left for what is predicted', async () => {
    const id = await created({ min_instances: 0, current_instances: 0 });
    await post(id, 'predictions', [{ timestamp: ago(-2), predicted_requests: 20 }]);
    expect(await decided(id, true)).toMatchObject({ decision_type: 'scaleup', target_instances: 1 });
  });
});

describe('predictions', () => {
  it('without a record lead by one step; with a bad one, not at all', async () => {
    const id = await created({ current_instances: 15 });
    await post(id, 'metrics', every(1, 0, 15, { cpu: 60, memory: 30, instances: 15 }));
    const spike = { predicted_cpu: 163, predicted_memory: 60, instances: 24 };
    await post(id, 'predictions', [{ timestamp: ago(-2), ...spike }]);
    const first = await decided(id, true);
    expect(first.target_instances).toBeLessThanOrEqual(16);

    // Three hours later: the same was predicted for moments that have come.
    await post(
      id,
      'predictions',
      [2, 5, 8].map((minutes) => ({ timestamp: ago(minutes), ...spike })),
    );
    await api.api.deps.pool.query(
      `update predictions set created_at = timestamp - interval '1 hour'
        where resource_id = '${id}' and timestamp < now()`,
    );
    const later = await decided(id, true);
    expect(later.explanation.prediction).toMatchObject({
      used: false,
      why: expect.stringMatching(
        /3 of its last 3 outcomes missed: a demand of 39\.1 was predicted and 9\.0 came/,
      ),
    });
  });

  it('that were right keep their full lead', async () => {
    const id = await created({ current_instances: 15, max_scale_up_step: 50 });
    await post(id, 'metrics', every(1, 0, 15, { cpu: 60, memory: 30, instances: 15 }));
    await post(id, 'predictions', [
      ...[2, 5, 8].map((minutes) => ({ timestamp: ago(minutes), predicted_cpu: 55, instances: 15 })),
      { timestamp: ago(-2), predicted_cpu: 163, instances: 24 },
    ]);
    await api.api.deps.pool.query(
      `update predictions set created_at = timestamp - interval '1 hour'
        where resource_id = '${id}' and timestamp < now()`,
    );
    expect(await decided(id, true)).toMatchObject({ target_instances: 56 });
  });
});

describe('a metric that does not respond', () => {
  it('is remembered from one decision to the next', async () => {
    const id = await created({ current_instances: 6 });
    await post(id, 'metrics', [
      ...every(1, 8, 8, { cpu: 30, memory: 90, instances: 3 }),
      ...every(1, 0, 8, { cpu: 15, memory: 90, instances: 6 }),
    ]);
    const learnt = await decided(id);
    expect(learnt.explanation.metric_responses).toEqual([
      { metric: 'memory', response: 'none', base_percent: 90, changes: 1 },
    ]);
    expect(learnt.target_instances).toBeLessThan(6);
    await api.api.deps.pool.query(`delete from metric_samples where resource_id = '${id}' and instances = 3`);
    expect((await decided(id)).explanation.metric_responses).toEqual(learnt.explanation.metric_responses);

    // The same in a simulation: its memory would need six instances, if it responded.
    await post(id, 'metrics', every(5, 0, 100, { cpu: 15, memory: 90, instances: 6 }));
    const { body } = await api.call('POST', '/simulations', {
      key,
      headers: { prefer: 'wait=20' },
      body: { resource_id: id, from: ago(400), to: ago(0), policy: { max_scale_down_step: 9 } },
    });
    const last = body.series.at(-1);
    expect(last).toMatchObject({ actual_instances: 6 });
    expect(last.demand).toBeLessThan(1);
    expect(last.simulated_instances).toBeLessThan(3);
  });
});

describe('what the cloud object shows', () => {
  let aws: AwsSimulator;
  let provider: AwsAutoScaling;

  beforeAll(async () => {
    aws = await startQuickAws();
    for (const [name, value] of Object.entries(awsEnvironment(aws))) vi.stubEnv(name, value);
    provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 1_000 });
  });
  afterAll(async () => {
    await provider.close();
    await aws.close();
    vi.unstubAllEnvs();
  });

  const observe = () =>
    observeResources(api.api.deps.pool, new Map([['aws', provider]]), {
      maxAgeSeconds: 0,
      defaultRegion: 'us-east-1',
      workerId: 'test',
      signal: AbortSignal.timeout(5_000),
    });
  async function group(values: Parameters<AwsSimulator['createGroup']>[0]): Promise<string> {
    aws.createGroup({ ...values, region: 'us-east-1', instanceType: 'm5.large' });
    aws.clock.advance(60_000);
    const id = await created({ name: values.name, region: 'us-east-1', current_instances: values.desired });
    await observe();
    return id;
  }

  it('is priced by its units and what runs for them, where a machine is more than one', async () => {
    const id = await group({ name: 'weighted', min: 0, max: 40, desired: 6, weight: 2 });
    await post(id, 'metrics', every(1, 0, 10, { cpu: 93, instances: 6 }));
    const { target_instances, estimated_cost, explanation } = await decided(id);
    expect(target_instances).toBe(8);
    expect(explanation.cost.hourly_price).toBe('0.048');
    expect(estimated_cost).toBeCloseTo(8 * 0.048, 9);
    const { body } = await api.call('POST', '/cost/estimate', {
      key,
      body: { resource_id: id, instance_count: 10 },
    });
    expect(body).toMatchObject({ hourly_cost: 0.48, price_source: 'table' });
  });

  it('is asked for no more than can go', async () => {
    const id = await group({ name: 'protected', min: 0, max: 40, desired: 10 });
    const client = new AutoScalingClient({ region: 'us-east-1' });
    await client.send(
      new SetInstanceProtectionCommand({
        AutoScalingGroupName: 'protected',
        InstanceIds: aws
          .group('protected')
          ?.instances.slice(0, 9)
          .map(({ id }) => id),
        ProtectedFromScaleIn: true,
      }),
    );
    client.destroy();
    await observe();
    await post(id, 'metrics', every(1, 0, 10, { cpu: 20, instances: 10 }));
    expect(await decided(id)).toMatchObject({
      target_instances: 9,
      reason: expect.stringMatching(/only 1 of 10 can go, the others are protected/),
    });
  });

  it('is said when deciding, where it blocks the change', async () => {
    const id = await group({ name: 'suspended', min: 0, max: 40, desired: 10, suspended: ['Launch'] });
    await post(id, 'metrics', every(1, 0, 10, { cpu: 95, instances: 10 }));
    const up = await decided(id);
    expect(up).toMatchObject({ decision_type: 'noaction' });
    expect(up.explanation).toMatchObject({
      reason_code: 'process_suspended',
      blocks: [{ code: 'process_suspended', direction: 'up' }],
    });
    await api.api.deps.pool.query('delete from metric_samples where resource_id = $1', [id]);
    await post(id, 'metrics', every(1, 0, 10, { cpu: 20, instances: 10 }));
    expect(await decided(id)).toMatchObject({ decision_type: 'scaledown' });
  });
});

describe('samples of many resources at once', () => {
  it('are stored for each, the last of a moment, and replaced when sent again', async () => {
    const [one, two] = [await created({}), await created({})];
    const timestamp = ago(1);
    const send = (samples: readonly object[]) => api.call('POST', '/metrics', { key, body: { samples } });
    const first = await send([
      { resource_id: one, timestamp, cpu: 10 },
      { resource_id: two, timestamp, cpu: 20, instances: 4 },
      { resource_id: one, timestamp, cpu: 30 },
      { resource_id: one, timestamp: ago(2), requests: 5 },
    ]);
    expect(first).toMatchObject({ status: 200, body: { inserted: 3, updated: 0 } });
    expect(await send([{ resource_id: two, timestamp, cpu: 25 }])).toMatchObject({
      body: { inserted: 0, updated: 1 },
    });
    const of = async (id: string) =>
      (await api.call('GET', `/resources/${id}/metrics`, { key })).body.samples.map(
        ({ cpu, instances }: { cpu: number; instances: number }) => [cpu, instances],
      );
    expect(await of(one)).toEqual([
      [30, 10],
      [null, 10],
    ]);
    expect(await of(two)).toEqual([[25, 10]]);
  });

  it('change nothing when one is wrong: its field is named', async () => {
    const [mine, nobody] = [await created({}), randomUUID()];
    const timestamp = ago(1);
    const unknown = await api.call('POST', '/metrics', {
      key,
      body: {
        samples: [
          { resource_id: mine, timestamp, cpu: 1 },
          { resource_id: nobody, timestamp, cpu: 1 },
        ],
      },
    });
    expect(unknown).toMatchObject({ status: 404, body: { errors: [{ field: 'samples.1.resource_id' }] } });
    const wrong = await api.call('POST', '/metrics', {
      key,
      body: {
        samples: [
          { resource_id: mine, timestamp },
          { timestamp, cpu: 1 },
        ],
      },
    });
    expect(wrong).toMatchObject({ status: 400, body: { code: 'invalid_request' } });
    const narrow = await api.key(['decide'], 1, [{ provider: 'kubernetes' }] as never);
    const foreign = await api.call('POST', '/metrics', {
      key: narrow,
      body: { samples: [{ resource_id: mine, timestamp, cpu: 1 }] },
    });
    expect(foreign.status).toBe(404);
    expect((await api.call('GET', `/resources/${mine}/metrics`, { key })).body.count).toBe(0);
  });
});
