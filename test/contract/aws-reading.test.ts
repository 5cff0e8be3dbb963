import type { AutoScaling, CreateAutoScalingGroupCommandInput } from '@aws-sdk/client-auto-scaling';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import { autoScalingClient, ec2Client } from '../simulators/aws/clients.ts';
import type { GroupSeed } from '../simulators/aws/external.ts';
import { type AwsSimulator, startAwsSimulator } from '../simulators/aws/server.ts';
import { pointAwsSdkTo } from './point-aws-sdk.ts';

const signal = new AbortController().signal;
let simulator: AwsSimulator;
let provider: AwsAutoScaling;
let operator: AutoScaling;

beforeEach(async () => {
  simulator = await startAwsSimulator({ timeScale: 0, provisioning: { launchMs: 60_000, jitter: 0 } });
  pointAwsSdkTo(simulator.endpoint);
  provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 330_000 });
  operator = autoScalingClient(simulator.endpoint);
});
afterEach(async () => {
  operator.destroy();
  await provider.close();
  await simulator.close();
});

const read = (name = 'web') => provider.describe({ provider: 'aws', scope: null, name }, signal);
const seed = (more: Partial<GroupSeed> = {}) =>
  simulator.createGroup({ name: 'web', min: 1, max: 9, desired: 3, ...more });

/** A group that is only just being made, so no instance tells its type yet. */
async function create(more: Partial<CreateAutoScalingGroupCommandInput>): Promise<void> {
  await operator.createAutoScalingGroup({
    AutoScalingGroupName: 'web',
    MinSize: 0,
    MaxSize: 9,
    AvailabilityZones: ['us-east-1a'],
    ...more,
  });
}

async function createTemplate(): Promise<void> {
  const ec2 = ec2Client(simulator.endpoint);
  await ec2.createLaunchTemplate({
    LaunchTemplateName: 'lt',
    LaunchTemplateData: { InstanceType: 'c5.xlarge', ImageId: 'ami-12345678' },
  });
  ec2.destroy();
}

describe('what blocks an Auto Scaling group', () => {
  it.each([
    ['Launch', 'up'],
    ['Terminate', 'down'],
  ])('is a suspended %s, %swards', async (process, direction) => {
    seed({ suspended: [process] });
    const { blocks } = await read();
    expect(blocks).toMatchObject([{ code: 'process_suspended', direction }]);
    expect(blocks[0]?.message).toMatch(
      new RegExp(
        `^The group's ${process} process is suspended \\(User suspended at .*\\): resume it first\\.$`,
      ),
    );
  });

  it.each([
    'AlarmNotification',
    'HealthCheck',
    'ReplaceUnhealthy',
    'AZRebalance',
    'ScheduledActions',
    'InstanceRefresh',
    'AddToLoadBalancer',
  ])('is not a suspended %s: the size can be set all the same', async (process) => {
    seed({ suspended: [process] });
    expect((await read()).blocks).toEqual([]);
  });

  it('is an instance refresh, downwards, until it is cancelled and over', async () => {
    seed();
    await operator.startInstanceRefresh({ AutoScalingGroupName: 'web' });
    const blocked = [
      {
        code: 'instance_refresh',
        direction: 'down',
        message: expect.stringContaining('Cancel the refresh or wait'),
      },
    ];
    expect((await read()).blocks).toEqual(blocked); // Pending
    simulator.clock.advance(6_000);
    expect((await read()).blocks).toEqual(blocked); // InProgress
    await operator.cancelInstanceRefresh({ AutoScalingGroupName: 'web' });
    expect((await read()).blocks).toEqual(blocked); // Cancelling
    simulator.clock.advance(6_000);
    expect((await read()).blocks).toEqual([]);
  });

  it('is that the group is being deleted', async () => {
    seed();
    await operator.deleteAutoScalingGroup({ AutoScalingGroupName: 'web', ForceDelete: true });
    expect((await read()).blocks).toMatchObject([
      {
        code: 'group_deleting',
        direction: 'both',
        message: 'The group is being deleted (Delete in progress): remove the resource.',
      },
    ]);
  });

  it('is that every instance is protected, downwards; one without protection is enough', async () => {
    const { instances } = seed({ protectInstances: true });
    expect((await read()).blocks).toMatchObject([{ code: 'all_protected', direction: 'down' }]);
    await operator.setInstanceProtection({
      AutoScalingGroupName: 'web',
      InstanceIds: [instances[0]?.id ?? ''],
      ProtectedFromScaleIn: false,
    });
    expect((await read()).blocks).toEqual([]);
  });

  it('is told of everything at once', async () => {
    seed({ suspended: ['Launch', 'Terminate'], protectInstances: true });
    expect((await read()).blocks.map(({ code }) => code)).toEqual([
      'process_suspended',
      'process_suspended',
      'all_protected',
    ]);
  });
});

describe('what an Auto Scaling group is', () => {
  it('is counted in its own units, and tells what runs for them', async () => {
    seed({ weight: 2, desired: 6, max: 20 });
    seed({ name: 'even', weight: 1 });
    seed({ name: 'empty', weight: 4, min: 0, desired: 0 });
    expect(await read()).toMatchObject({
      desired: 6,
      ready: 6,
      max: 20,
      blocks: [],
      instanceType: null,
      mix: [{ units: 2, count: 3 }],
    });
    expect((await read('even')).mix).toBeUndefined();
    expect(await read('empty')).toMatchObject({ desired: 0, ready: 0, mix: [{ units: 4, count: 1 }] });
  });

  it.each([
    ['vcpu', { desired: 6, ready: 8, mix: [{ units: 4, count: 2 }] }],
    ['memory-mib', { desired: 6, ready: 8_192, mix: [{ units: 8_192, count: 1 }] }],
  ])('is counted in %s where the group says so', async (DesiredCapacityType, expected) => {
    await createTemplate();
    await create({
      DesiredCapacityType,
      LaunchTemplate: { LaunchTemplateName: 'lt' },
      MaxSize: 10_000,
      DesiredCapacity: 6,
    });
    simulator.clock.advance(600_000);
    expect(await read()).toMatchObject({ ...expected, blocks: [] });
  });

  it('says how much of it can go', async () => {
    const { instances } = seed({ desired: 5, max: 20 });
    expect((await read()).removable).toBeUndefined();
    await operator.setInstanceProtection({
      AutoScalingGroupName: 'web',
      InstanceIds: instances.slice(0, 3).map(({ id }) => id),
      ProtectedFromScaleIn: true,
    });
    expect(await read()).toMatchObject({ removable: 2, blocks: [] });
  });

  it("has the group's own bounds, as they are now", async () => {
    seed({ min: 2, max: 7 });
    expect(await read()).toMatchObject({ desired: 3, min: 2, max: 7, fence: {}, cpuRequest: null });
    simulator.changeExternally('web', { max: 4 });
    expect(await read()).toMatchObject({ max: 4 });
  });

  it('counts as ready what is in service, not what is launching or terminating', async () => {
    seed();
    simulator.changeExternally('web', { desired: 5 });
    expect(await read()).toMatchObject({ desired: 5, ready: 3 });
    simulator.clock.advance(61_000);
    expect(await read()).toMatchObject({ desired: 5, ready: 5 });
    simulator.changeExternally('web', { desired: 1 });
    expect(await read()).toMatchObject({ desired: 1, ready: 1 });
  });

  it('takes the instance type from what runs, without asking EC2', async () => {
    seed({ instanceType: 'r5.2xlarge' });
    expect((await read()).instanceType).toBe('r5.2xlarge');
    expect(simulator.ledger.requests().map(({ action }) => action)).not.toContain(
      'DescribeLaunchTemplateVersions',
    );
  });

  it('takes it from the launch template while nothing runs, asking once in ten minutes', async () => {
    await createTemplate();
    await create({ LaunchTemplate: { LaunchTemplateName: 'lt', Version: '$Latest' } });
    expect((await read()).instanceType).toBe('c5.xlarge');
    expect((await read()).instanceType).toBe('c5.xlarge');
    const asked = simulator.ledger
      .requests()
      .filter(({ action }) => action === 'DescribeLaunchTemplateVersions');
    expect(asked).toHaveLength(1);
  });

  it('takes it from the first override of a mixed instances policy, or from its template', async () => {
    await createTemplate();
    const LaunchTemplateSpecification = { LaunchTemplateName: 'lt', Version: '$Latest' };
    const mixed = (name: string, Overrides: { InstanceType: string }[]) =>
      create({
        AutoScalingGroupName: name,
        MixedInstancesPolicy: { LaunchTemplate: { LaunchTemplateSpecification, Overrides } },
      });
    await mixed('overridden', [{ InstanceType: 'm6i.large' }, { InstanceType: 'm5.large' }]);
    await mixed('plain', []);
    expect((await read('overridden')).instanceType).toBe('m6i.large');
    expect((await read('plain')).instanceType).toBe('c5.xlarge');
  });

  it('is read all the same when its type cannot be: without the permission, or with EC2 silent', async () => {
    await createTemplate();
    await create({ LaunchTemplate: { LaunchTemplateName: 'lt' } });
    simulator.faults.add({
      action: 'DescribeLaunchTemplateVersions',
      effect: { kind: 'error', status: 403, code: 'UnauthorizedOperation' },
    });
    expect(await read()).toMatchObject({ desired: 0, instanceType: null, blocks: [] });
  });

  it.each([
    ['AccessDenied', 403],
    ['UnauthorizedOperation', 403],
    ['InvalidAction', 400],
    ['InternalFailure', 500],
  ])('is not scaled in while %s answers whether a refresh runs', async (code, status) => {
    seed();
    simulator.faults.add({
      action: 'DescribeInstanceRefreshes',
      effect: { kind: 'error', status, code },
    });
    const { desired, blocks } = await read();
    expect(desired).toBe(3);
    expect(blocks).toHaveLength(1);
    expect(blocks[0]).toMatchObject({ code: 'advisory_read_failed', direction: 'down' });
    expect(blocks[0]?.message).toMatch(
      /whether an instance refresh is under way, so nothing is scaled in: .* autoscaling:DescribeInstanceRefreshes\.$/,
    );
  });
});
