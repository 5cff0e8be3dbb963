import type { AutoScaling } from '@aws-sdk/client-auto-scaling';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { autoScalingClient, type ClientOptions, ec2Client } from './aws/clients.ts';
import type { AwsEffect, AwsFaultRule } from './aws/faults.ts';
import { type AwsSimulator, type AwsSimulatorOptions, startAwsSimulator } from './aws/server.ts';

const GROUP = { name: 'web', min: 1, max: 9, desired: 2 };

let simulator: AwsSimulator;
let client: AutoScaling;

async function restart(options: AwsSimulatorOptions = {}): Promise<void> {
  client?.destroy();
  await simulator?.close();
  simulator = await startAwsSimulator({ timeScale: 0, groups: [GROUP], ...options });
  client = autoScalingClient(simulator.endpoint);
}

beforeEach(() => restart());
afterEach(async () => {
  client.destroy();
  await simulator.close();
});

function setDesired(capacity: number, signal?: AbortSignal, by: AutoScaling = client): Promise<unknown> {
  return by.setDesiredCapacity(
    { AutoScalingGroupName: 'web', DesiredCapacity: capacity },
    signal === undefined ? {} : { abortSignal: signal },
  );
}

async function readDesired(): Promise<number | undefined> {
  const answer = await client.describeAutoScalingGroups({ AutoScalingGroupNames: ['web'] });
  return answer.AutoScalingGroups?.[0]?.DesiredCapacity;
}

function onWrite(effect: AwsEffect, rule: Partial<AwsFaultRule> = {}): void {
  simulator.faults.add({ action: 'SetDesiredCapacity', count: 1, ...rule, effect });
}

function desired(): number | undefined {
  return simulator.group('web')?.desired;
}

function outcomes(): string[] {
  return simulator.ledger.requests().map((entry) => entry.outcome);
}

async function control(method: string, path: string, body?: unknown) {
  const answer = await fetch(`${simulator.endpoint}/_simulator/${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const json = (await answer.json()) as Record<string, unknown>;
  return { status: answer.status, json };
}

const http = (httpStatusCode: number) => ({ $metadata: { httpStatusCode } });

describe('an error from the script', () => {
  const error = (status: number, code: string, more: { message?: string; applied?: true } = {}) =>
    ({ kind: 'error', status, code, ...more }) as const;

  it.each<[string, AwsEffect, object, boolean]>([
    [
      'throttling',
      { kind: 'throttle' },
      { name: 'Throttling', message: 'Rate exceeded', ...http(400) },
      false,
    ],
    ['a 4xx', error(403, 'AccessDenied', { message: 'no' }), { name: 'AccessDenied', message: 'no' }, false],
    ['expired credentials', error(403, 'ExpiredToken'), { name: 'ExpiredToken' }, false],
    [
      'a 500 before the change',
      error(500, 'InternalFailure'),
      { name: 'InternalFailure', Type: 'Receiver' },
      false,
    ],
    [
      'a 500 after the change',
      error(500, 'ResourceContention', { applied: true }),
      { name: 'ResourceContentionFault', ...http(500) },
      true,
    ],
    ['a 503', error(503, 'ServiceUnavailable'), { name: 'ServiceUnavailable' }, false],
    ['HTML from a proxy', { kind: 'html', status: 502 }, http(502), false],
    ['HTML after the change', { kind: 'html', status: 504, applied: true }, http(504), true],
    ['a reset before the change', { kind: 'reset' }, { code: 'ECONNRESET' }, false],
    ['a reset after the change', { kind: 'reset', applied: true }, { code: 'ECONNRESET' }, true],
    [
      'a body cut short',
      { kind: 'truncate' },
      { message: expect.stringMatching(/^aborted/), ...http(200) },
      true,
    ],
  ])('%s', async (_what, effect, error, isApplied) => {
    onWrite(effect);
    await expect(setDesired(5)).rejects.toMatchObject(error);
    expect(desired()).toBe(isApplied ? 5 : 2);
    expect(simulator.ledger.writes().filter((entry) => entry.action === 'SetDesiredCapacity')).toHaveLength(
      isApplied ? 1 : 0,
    );
    await setDesired(6); // count: 1, so the next one passes
    expect(desired()).toBe(6);
  });

  it('uses the envelope and the throttling code of EC2', async () => {
    simulator.faults.add({ action: 'DescribeInstances', effect: { kind: 'throttle', retryAfterSeconds: 2 } });
    const ec2 = ec2Client(simulator.endpoint);
    await expect(ec2.describeInstances({})).rejects.toMatchObject({
      name: 'RequestLimitExceeded',
      $response: { headers: { 'retry-after': '2' } },
    });
    ec2.destroy();
  });
});

describe('an answer that does not come', () => {
  it.each([
    ['before the change', false],
    ['after the change', true],
  ])('hangs %s', async (_when, applied) => {
    onWrite({ kind: 'hang', applied });
    await expect(setDesired(5, AbortSignal.timeout(60))).rejects.toMatchObject({ name: 'AbortError' });
    expect(desired()).toBe(applied ? 5 : 2);
    expect(outcomes().at(-1)).toBe('hang');
  });

  it('may be followed by the change, long after the client gave up', async () => {
    onWrite({ kind: 'apply-late', delayMs: 120 });
    await expect(setDesired(5, AbortSignal.timeout(40))).rejects.toMatchObject({ name: 'AbortError' });
    await setDesired(3);
    expect(desired()).toBe(3);
    await expect.poll(desired, { interval: 10 }).toBe(5);
    const writes = simulator.ledger.writes().slice(1);
    expect(writes.map(({ from, to }) => [from, to])).toEqual([
      [2, 3],
      [3, 5],
    ]);
    expect(writes[1]?.receivedAt).toBeLessThan(writes[0]?.receivedAt ?? 0);
    expect(outcomes()).toContain('late 200');
  });

  it('may be a gateway time-out, with the change still to come', async () => {
    onWrite({ kind: 'apply-late', delayMs: 30, status: 504 });
    await expect(setDesired(5)).rejects.toMatchObject(http(504));
    expect(desired()).toBe(2);
    await expect.poll(desired, { interval: 10 }).toBe(5);
  });

  it('never lands once the signature is too old', async () => {
    await restart({ signatureMaxAgeMs: 1_500 });
    onWrite({ kind: 'apply-late', delayMs: 2_600 }); // x-amz-date has whole seconds
    await expect(setDesired(5, AbortSignal.timeout(400))).rejects.toMatchObject({ name: 'AbortError' });
    await expect.poll(outcomes, { timeout: 4_000 }).toContain('late 403 RequestExpired');
    expect(desired()).toBe(2);
  });

  it('is only slow, with the change made first or last', async () => {
    onWrite({ kind: 'slow', delayMs: 80, applied: 'first' });
    const first = setDesired(5);
    await expect.poll(desired, { interval: 5 }).toBe(5);
    expect(outcomes().at(-1)).toBe('received');
    await first;
    onWrite({ kind: 'slow', delayMs: 60 });
    await expect(setDesired(6, AbortSignal.timeout(20))).rejects.toMatchObject({ name: 'AbortError' });
    expect(desired()).toBe(5);
    await expect.poll(desired, { interval: 5 }).toBe(6); // the client has gone, the change comes all the same
    await expect.poll(outcomes).toContain('client gone before 200');
  });
});

describe('a world that moves', () => {
  it('answers a stale read as long as the last write is young', async () => {
    simulator.faults.add({
      action: 'DescribeAutoScalingGroups',
      effect: { kind: 'stale-read', staleMs: 200 },
    });
    expect(await readDesired()).toBe(2);
    await setDesired(5);
    expect(await readDesired()).toBe(2);
    await expect.poll(readDesired, { interval: 20 }).toBe(5);
  });

  it('lets somebody else write between our read and our write', async () => {
    simulator.faults.add({
      action: 'DescribeAutoScalingGroups',
      target: 'web',
      count: 1,
      effect: { kind: 'external', when: 'after', change: { desired: 7 } },
    });
    expect(await readDesired()).toBe(2);
    expect(await readDesired()).toBe(7);
    const writes = simulator.ledger.writes();
    expect(writes.at(-1)).toMatchObject({ action: 'ExternalWriter', requestId: null, from: 2, to: 7 });
  });

  it('moves the bounds just before our write', async () => {
    onWrite({ kind: 'external', when: 'before', change: { max: 4 } });
    await expect(setDesired(5)).rejects.toThrow('New SetDesiredCapacity value 5 is above max value 4');
    expect(simulator.ledger.writes().at(-1)).toMatchObject({ bounds: { min: 1, max: 4 } });
  });

  it('deletes the group and makes another of the same name', async () => {
    const before = simulator.group('web');
    onWrite({ kind: 'external', when: 'before', change: { recreate: true, desired: 4 } });
    await setDesired(5);
    const now = simulator.group('web');
    expect(now).toMatchObject({ desired: 5, inService: 4, pending: 1 });
    expect(now?.arn).not.toBe(before?.arn);
    expect(now?.instances.map(({ id }) => id)).not.toContain(before?.instances[0]?.id);
  });

  it('says so when the script itself is wrong', async () => {
    onWrite({ kind: 'external', when: 'before', group: 'nope', change: { desired: 1 } });
    await expect(setDesired(5)).rejects.toThrow("AutoScalingGroup 'nope' not found");
  });
});

describe('when a rule applies', () => {
  const throttle: AwsEffect = { kind: 'throttle' };
  const isRefused = (capacity: number) =>
    setDesired(capacity).then(
      () => false,
      () => true,
    );

  it('counts, after letting some pass', async () => {
    onWrite(throttle, { skip: 1, count: 2 });
    const refused: boolean[] = [];
    for (const capacity of [3, 4, 5, 6]) refused.push(await isRefused(capacity));
    expect(refused).toEqual([false, true, true, false]);
    expect(simulator.faults.list()).toMatchObject([{ seen: 4, injected: 2 }]);
  });

  it('draws from the seed: the same seed, the same history', async () => {
    const history = async () => {
      await restart({ seed: 7 });
      simulator.faults.add({ effect: throttle, probability: 0.5 });
      const refused: boolean[] = [];
      for (let index = 0; index < 20; index++) refused.push(await isRefused(3));
      return refused;
    };
    const once = await history();
    expect(await history()).toEqual(once);
    expect(new Set(once).size).toBe(2);
  });

  it('keeps to its window of virtual time, its group and its region', async () => {
    const now = simulator.clock.now();
    onWrite(throttle, { fromTime: now + 1_000, untilTime: now + 2_000, count: 9 });
    expect(await isRefused(3)).toBe(false);
    simulator.clock.advance(1_000);
    expect(await isRefused(3)).toBe(true);
    simulator.clock.advance(1_000);
    expect(await isRefused(3)).toBe(false);
    onWrite(throttle, { target: 'other' });
    onWrite(throttle, { scope: 'eu-west-1' });
    expect(await isRefused(4)).toBe(false);
  });

  it('throttles by token buckets, one of them shared by all actions of a region', async () => {
    await restart({
      rateLimits: { SetDesiredCapacity: { perSecond: 10, burst: 1 }, '*': { perSecond: 0, burst: 4 } },
    });
    expect([await isRefused(3), await isRefused(4)]).toEqual([false, true]);
    await expect.poll(() => isRefused(4), { interval: 100 }).toBe(false);
    await expect(readDesired()).rejects.toMatchObject({ name: 'Throttling' });
    const elsewhere = autoScalingClient(simulator.endpoint, { region: 'eu-west-1' });
    await elsewhere.describeAutoScalingGroups({});
    elsewhere.destroy();
  });
});

describe('signatures', () => {
  const credentials = {
    AKIAGOOD: { secretAccessKey: 'right', sessionToken: 'token' },
    AKIAOLD: { secretAccessKey: 'right', isExpired: true },
    AKIAREADER: { secretAccessKey: 'right', denied: ['autoscaling:SetDesiredCapacity'] },
  };
  const as = async (options: ClientOptions, work: (by: AutoScaling) => Promise<unknown>) => {
    const by = autoScalingClient(simulator.endpoint, options);
    await work(by).finally(() => by.destroy());
  };

  it.each<[string, ClientOptions, object]>([
    ['an unknown key', { accessKeyId: 'AKIANOBODY' }, { name: 'InvalidClientTokenId', ...http(403) }],
    [
      'a wrong secret',
      { accessKeyId: 'AKIAGOOD', secretAccessKey: 'wrong', sessionToken: 'token' },
      { name: 'SignatureDoesNotMatch' },
    ],
    [
      'a wrong session token',
      { accessKeyId: 'AKIAGOOD', secretAccessKey: 'right', sessionToken: 'x' },
      { name: 'InvalidClientTokenId' },
    ],
    ['an expired key', { accessKeyId: 'AKIAOLD', secretAccessKey: 'right' }, { name: 'ExpiredToken' }],
    [
      'a key without the right',
      { accessKeyId: 'AKIAREADER', secretAccessKey: 'right' },
      {
        name: 'AccessDenied',
        message: expect.stringContaining('is not authorized to perform: autoscaling:SetDesiredCapacity'),
      },
    ],
  ])('refuse %s', async (_what, options, error) => {
    await restart({ credentials });
    await as(options, (by) => expect(setDesired(5, undefined, by)).rejects.toMatchObject(error));
    expect(desired()).toBe(2);
  });

  it('are verified, session token included', async () => {
    await restart({ credentials });
    await as({ accessKeyId: 'AKIAGOOD', secretAccessKey: 'right', sessionToken: 'token' }, (by) =>
      setDesired(5, undefined, by),
    );
    expect(desired()).toBe(5);
    const ec2 = ec2Client(simulator.endpoint, { accessKeyId: 'AKIANOBODY' });
    await expect(ec2.describeInstances({})).rejects.toMatchObject({ name: 'AuthFailure' });
    ec2.destroy();
    simulator.credentials?.set('AKIAGOOD', { secretAccessKey: 'rotated' });
    await as({ accessKeyId: 'AKIAGOOD', secretAccessKey: 'right' }, (by) =>
      expect(setDesired(6, undefined, by)).rejects.toMatchObject({ name: 'SignatureDoesNotMatch' }),
    );
  });

  it.each([
    ['too old', -301_000, 'Signature expired: '],
    ['from the future', 302_000, 'Signature not yet current: '],
  ])('refuse a date that is %s, by the real clock', async (_what, systemClockOffset, words) => {
    simulator.clock.advance(86_400_000); // virtual time has no say in it
    await as({ systemClockOffset }, (by) =>
      expect(setDesired(5, undefined, by)).rejects.toMatchObject({
        name: 'RequestExpired',
        message: expect.stringContaining(words),
        ...http(403),
      }),
    );
    await as({ systemClockOffset: -295_000 }, (by) => setDesired(4, undefined, by));
    expect(desired()).toBe(4);
  });

  it('refuse what is not signed, or not in the right form', async () => {
    const body = 'Action=SetDesiredCapacity&AutoScalingGroupName=web&DesiredCapacity=5';
    const unsigned = await fetch(simulator.endpoint, { method: 'POST', body });
    expect([unsigned.status, await unsigned.text()]).toEqual([
      403,
      expect.stringContaining('MissingAuthenticationToken'),
    ]);
    const basic = await fetch(simulator.endpoint, {
      method: 'POST',
      body,
      headers: { authorization: 'Basic eDp5' },
    });
    expect([basic.status, await basic.text()]).toEqual([400, expect.stringContaining('IncompleteSignature')]);
    expect(desired()).toBe(2);
  });
});

describe('the ledger and the controls', () => {
  it('tell what was asked, what was applied and what was answered, in one order', async () => {
    await setDesired(5);
    await setDesired(99).catch(() => undefined);
    const entries = simulator.ledger.entries();
    expect(entries.map(({ seq }) => seq)).toEqual(entries.map((_, index) => index + 1));
    expect(entries.map(({ event, action, from, to, outcome }) => [event, action, from, to, outcome])).toEqual(
      [
        ['applied', 'Seed', null, 2, 'applied'],
        ['received', 'SetDesiredCapacity', null, 5, 'received'],
        ['applied', 'SetDesiredCapacity', 2, 5, 'applied'],
        ['answered', 'SetDesiredCapacity', null, 5, '200'],
        ['received', 'SetDesiredCapacity', null, 99, 'received'],
        ['answered', 'SetDesiredCapacity', null, 99, '400 ValidationError'],
      ],
    );
    expect(entries[2]).toMatchObject({
      region: 'us-east-1',
      group: 'web',
      accessKeyId: 'AKIATEST',
      invocationId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      userAgent: expect.stringContaining('aws-sdk-js/'),
      bounds: { min: 1, max: 9 },
      appliedAt: expect.any(Number),
    });
    expect(Object.isFrozen(entries[2])).toBe(true);
  });

  it('serve another process over HTTP', async () => {
    const made = await control('POST', 'groups', [{ name: 'api', region: 'eu-west-1', min: 2, max: 5 }]);
    expect(made).toMatchObject({
      status: 200,
      json: { groups: [{ name: 'api', desired: 2, inService: 2 }] },
    });
    await control('POST', 'external', { region: 'eu-west-1', group: 'api', desired: 3 });
    const { json: state } = await control('GET', 'state');
    expect(state.groups).toMatchObject([{ name: 'web' }, { name: 'api', desired: 3, pending: 1 }]);

    const { json: added } = await control('POST', 'faults', {
      action: 'SetDesiredCapacity',
      effect: { kind: 'throttle' },
    });
    await expect(setDesired(5)).rejects.toMatchObject({ name: 'Throttling' });
    expect(await control('GET', 'faults')).toMatchObject({
      json: { faults: [{ id: (added.ids as string[])[0], injected: 1 }] },
    });
    expect(await control('DELETE', 'faults')).toMatchObject({ json: { faults: [] } });
    await setDesired(5);

    expect(await control('POST', 'clock', { advanceMs: 3_600_000 })).toMatchObject({
      json: { now: Number(state.now) + 3_600_000 },
    });
    expect(simulator.group('web')).toMatchObject({ inService: 5, pending: 0 });
    await control('POST', 'capacity', { instanceType: 'm5.large', limit: 0 });
    await setDesired(6);
    expect(simulator.group('web')).toMatchObject({ desired: 6, pending: 0 });

    const { json: ledger } = await control('GET', 'ledger?event=applied&after=2');
    expect(ledger.entries).toMatchObject([{ action: 'ExternalWriter' }, { to: 5 }, { to: 6 }]);
    expect(await control('GET', 'nothing')).toMatchObject({ status: 404 });
    expect(await control('POST', 'external', { group: 'nope' })).toMatchObject({ status: 400 });
  });

  it('close at once while requests hang', async () => {
    onWrite({ kind: 'hang' });
    const hanging = setDesired(5).catch((error: Error) => error.name);
    await expect.poll(outcomes).toContain('hang');
    await simulator.close();
    expect(await hanging).toBeTypeOf('string');
    await restart();
  });
});

describe('virtual time', () => {
  it('runs faster than the wall clock when asked to', async () => {
    await restart({ timeScale: 1_000, provisioning: { launchMs: 60_000, jitter: 0 } });
    await setDesired(3);
    expect(simulator.group('web')).toMatchObject({ pending: 1 });
    await expect.poll(() => simulator.group('web')?.inService, { interval: 10 }).toBe(3); // 60 ms
  });

  it('can be somebody else’s clock', async () => {
    let now = 1_000_000;
    await restart({ now: () => now, provisioning: { launchMs: 60_000, jitter: 0 } });
    await setDesired(3);
    now += 60_000;
    expect(simulator.group('web')).toMatchObject({ inService: 3 });
  });

  it('spreads launches by the seeded jitter', async () => {
    const readyTimes = async () => {
      await restart({ seed: 3, startAt: 0, provisioning: { launchMs: 60_000, jitter: 0.5 } });
      await setDesired(9);
      const times: (number | undefined)[] = [];
      for (let step = 0; step < 12; step++) {
        simulator.clock.advance(10_000);
        times.push(simulator.group('web')?.inService);
      }
      return times;
    };
    const once = await readyTimes();
    expect(once.slice(0, 2)).toEqual([2, 2]); // never before half of the delay
    expect(once[9]).toBe(9);
    expect(new Set(once).size).toBeGreaterThan(3);
    expect(await readyTimes()).toEqual(once);
  });
});
