import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import type { ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import { type AwsSimulator, type AwsSimulatorOptions, startAwsSimulator } from '../simulators/aws/server.ts';
import type { TransportEffect } from '../simulators/core/fault-script.ts';
import { watchClientSockets } from './client-sockets.ts';
import { pointAwsSdkTo } from './point-aws-sdk.ts';
import {
  type ContractRig,
  describeScalingProvider,
  failureOf,
  testLimits,
} from './scaling-provider.contract.ts';

const actions = { read: 'DescribeAutoScalingGroups', write: 'SetDesiredCapacity' } as const;
const region = 'us-east-1';

function group(name: string, scope: string | null = null): ProviderTarget {
  return { provider: 'aws', scope, name };
}

async function startRig(): Promise<ContractRig> {
  const simulator = await startAwsSimulator({
    timeScale: 0,
    groups: [
      { name: 'web', min: 1, max: 9, desired: 3 },
      { name: 'web', region: 'eu-west-1', min: 1, max: 9, desired: 5 },
    ],
  });
  pointAwsSdkTo(simulator.endpoint);
  const sockets = watchClientSockets([simulator.port]);
  const error = (status: number, code: string): TransportEffect => ({ kind: 'error', status, code });
  return {
    provider: new AwsAutoScaling({ defaultRegion: region, settleMs: 330_000, limits: testLimits }),
    target: group('web'),
    elsewhere: group('web', 'eu-west-1'),
    missing: group('nobody'),
    answers: {
      conflict: error(400, 'ScalingActivityInProgress'),
      denied: error(403, 'AccessDenied'),
      unauthenticated: error(403, 'ExpiredToken'),
      rejected: error(400, 'ValidationError'),
    },
    add(name, instances) {
      simulator.createGroup({ name, min: 1, max: 9, desired: instances });
      return group(name);
    },
    onNext: (kind, effect, count = 1) =>
      simulator.faults.add({ action: actions[kind], scope: region, count, effect }),
    size: ({ name, scope }) => simulator.group(name, scope ?? region)?.desired,
    requests: (kind) => simulator.ledger.requests().filter(({ action }) => action === actions[kind]).length,
    applied: () =>
      simulator.ledger
        .writes()
        .filter(({ requestId }) => requestId !== null)
        .map(({ to }) => to),
    somebodyElse: ({ size, ...change }) =>
      simulator.changeExternally('web', { ...change, ...(size === undefined ? {} : { desired: size }) }),
    openSockets: () => sockets.open(),
    async close() {
      sockets.stop();
      await simulator.close();
    },
  };
}

describeScalingProvider('AWS', startRig);

describe('AWS in particular', () => {
  let simulator: AwsSimulator;
  let provider: AwsAutoScaling;
  const signal = new AbortController().signal;

  async function restart(options: AwsSimulatorOptions = {}): Promise<void> {
    await provider?.close();
    await simulator?.close();
    simulator = await startAwsSimulator({
      timeScale: 0,
      groups: [{ name: 'web', min: 1, max: 9, desired: 3 }],
      ...options,
    });
    pointAwsSdkTo(simulator.endpoint);
    provider = new AwsAutoScaling({ defaultRegion: region, settleMs: 330_000, limits: testLimits });
  }
  beforeEach(() => restart());
  afterEach(async () => {
    await provider.close();
    await simulator.close();
  });
  const set = async (instances: number, intentAtMs = Date.now()) =>
    provider.setCapacity(group('web'), instances, await provider.describe(group('web'), signal), {
      intentAtMs,
      signal,
    });
  const requests = (name: string) => simulator.ledger.requests().filter(({ action }) => action === name);

  it.each(['RequestExpired', 'SignatureDoesNotMatch'] as const)(
    'lets a request die that is older than its intent allows, however AWS words it (%s)',
    async (expiredSignatureCode) => {
      await restart({ expiredSignatureCode });
      const failure = await failureOf(set(5, Date.now() - 301_000));
      expect(failure).toMatchObject({ fault: 'fenced', retry: 'backoff' });
      expect(simulator.group('web')?.desired).toBe(3);
      await set(5, Date.now() - 290_000);
      expect(simulator.group('web')?.desired).toBe(5);
    },
  );

  it.each(['RequestExpired', 'SignatureDoesNotMatch'] as const)(
    'takes an intent from the future for the same, not for wrong credentials (%s)',
    async (expiredSignatureCode) => {
      await restart({ expiredSignatureCode });
      const failure = await failureOf(set(5, Date.now() + 302_000));
      expect(failure).toMatchObject({ fault: 'fenced' });
      expect(failure.message).toMatch(/clock/);
    },
  );

  it('pins the date of the one write only: reads and later writes are signed with theirs', async () => {
    const old = failureOf(set(5, Date.now() - 600_000));
    const reads = Array.from({ length: 10 }, () => provider.describe(group('web'), signal));
    expect((await Promise.all(reads)).map(({ desired }) => desired)).toEqual(Array(10).fill(3));
    expect((await old).fault).toBe('fenced');
    await set(4);
    expect(simulator.group('web')?.desired).toBe(4);
  });

  it('never honours the cooldown of the group: the service has its own', async () => {
    await restart({ groups: [{ name: 'web', min: 1, max: 9, desired: 3, defaultCooldownSeconds: 3_600 }] });
    await set(5);
    await set(6);
    expect(simulator.group('web')?.desired).toBe(6);
  });

  it.each([
    ['an unknown key', { AKIAOTHER: { secretAccessKey: 'secret' } }],
    ['a wrong secret', { AKIATEST: { secretAccessKey: 'other' } }],
    ['an expired key', { AKIATEST: { secretAccessKey: 'secret', isExpired: true } }],
    [
      'a key without the right',
      { AKIATEST: { secretAccessKey: 'secret', denied: ['autoscaling:SetDesiredCapacity'] } },
    ],
  ])('takes %s for a matter of identity', async (_what, credentials) => {
    const expected = await provider.describe(group('web'), signal);
    await restart({ credentials });
    const failure = await failureOf(
      provider.setCapacity(group('web'), 5, expected, { intentAtMs: Date.now(), signal }),
    );
    expect(failure).toMatchObject({ fault: 'identity', retry: 'never' });
    expect(simulator.group('web')?.desired).toBe(3);
  });

  it('has nothing to sign with when nobody gave it credentials, and sends nothing', async () => {
    const expected = await provider.describe(group('web'), signal);
    await restart();
    delete process.env.AWS_ACCESS_KEY_ID;
    delete process.env.AWS_SECRET_ACCESS_KEY;
    process.env.AWS_EC2_METADATA_DISABLED = 'true';
    process.env.AWS_SHARED_CREDENTIALS_FILE = '/dev/null';
    process.env.AWS_CONFIG_FILE = '/dev/null';
    const failure = await failureOf(
      provider.setCapacity(group('web'), 5, expected, { intentAtMs: Date.now(), signal }),
    );
    expect(failure).toMatchObject({ fault: 'identity' });
    expect(simulator.ledger.requests()).toEqual([]);
  });

  it('is refused outside the bounds of the group, in the words of AWS', async () => {
    const failure = await failureOf(set(10));
    expect(failure).toMatchObject({ fault: 'permanent', code: 'aws_rejected' });
    expect(failure.message).toContain('10 is above max value 9');
  });

  it('describes 120 groups with three requests, the regions beside each other', async () => {
    const groups = Array.from({ length: 120 }, (_, index) => ({
      name: `g${index}`,
      min: 0,
      max: 5,
      desired: index % 5,
    }));
    for (const each of groups) simulator.createGroup({ ...each, instanceType: 'c5.large' });
    simulator.createGroup({ name: 'far', region: 'eu-west-1', min: 0, max: 5, desired: 2 });
    const targets = groups.map(({ name }) => group(name));
    const states = await provider.describeMany([...targets, group('far', 'eu-west-1')], signal);
    expect(states.map((state) => (state as { desired: number }).desired)).toEqual([
      ...groups.map(({ desired }) => desired),
      2,
    ]);
    const sent = requests('DescribeAutoScalingGroups');
    expect(sent.filter((request) => request.region === region)).toHaveLength(3);
    expect(sent.filter((request) => request.region === 'eu-west-1')).toHaveLength(1);
    expect(requests('DescribeInstanceRefreshes')).toEqual([]);
  });
});
