import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import {
  type AutoScaling,
  type DescribeAutoScalingGroupsCommandInput,
  SetDesiredCapacityCommand,
  UpdateAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling';
import type { EC2 } from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { autoScalingClient, ec2Client } from './aws/clients.ts';
import { type AwsSimulator, startAwsSimulator } from './aws/server.ts';

const run = promisify(execFile);

/** No jitter and a frozen clock: nothing happens until a test advances it. */
const FROZEN = {
  timeScale: 0,
  provisioning: { launchMs: 60_000, terminateMs: 20_000, jitter: 0, retryMs: 30_000 },
};

let simulator: AwsSimulator;
let autoScaling: AutoScaling;
let ec2: EC2;

beforeEach(async () => {
  simulator = await startAwsSimulator(FROZEN);
  autoScaling = autoScalingClient(simulator.endpoint);
  ec2 = ec2Client(simulator.endpoint);
});

afterEach(async () => {
  autoScaling.destroy();
  ec2.destroy();
  await simulator.close();
});

async function describeGroup(name: string) {
  const answer = await autoScaling.describeAutoScalingGroups({ AutoScalingGroupNames: [name] });
  return answer.AutoScalingGroups?.[0];
}

async function activitiesOf(name: string) {
  const answer = await autoScaling.describeScalingActivities({ AutoScalingGroupName: name });
  return answer.Activities ?? [];
}

function setDesired(name: string, capacity: number, honorCooldown = false): Promise<unknown> {
  return autoScaling.setDesiredCapacity({
    AutoScalingGroupName: name,
    DesiredCapacity: capacity,
    HonorCooldown: honorCooldown,
  });
}

describe('groups', () => {
  it('creates one from a launch template and answers everything it was given', async () => {
    await ec2.createLaunchTemplate({
      LaunchTemplateName: 'lt-web',
      LaunchTemplateData: { InstanceType: 'c5.xlarge', ImageId: 'ami-12345678' },
    });
    await autoScaling.createAutoScalingGroup({
      AutoScalingGroupName: 'web & <co>',
      MinSize: 1,
      MaxSize: 10,
      DesiredCapacity: 2,
      LaunchTemplate: { LaunchTemplateName: 'lt-web', Version: '$Latest' },
      AvailabilityZones: ['us-east-1a', 'us-east-1c'],
      DefaultCooldown: 120,
      DefaultInstanceWarmup: 45,
      HealthCheckGracePeriod: 30,
      NewInstancesProtectedFromScaleIn: true,
      Tags: [{ Key: 'team', Value: 'shop', PropagateAtLaunch: false }],
    });
    const group = await describeGroup('web & <co>');
    expect(group).toMatchObject({
      AutoScalingGroupName: 'web & <co>',
      MinSize: 1,
      MaxSize: 10,
      DesiredCapacity: 2,
      DefaultCooldown: 120,
      DefaultInstanceWarmup: 45,
      HealthCheckGracePeriod: 30,
      HealthCheckType: 'EC2',
      AvailabilityZones: ['us-east-1a', 'us-east-1c'],
      LaunchTemplate: { LaunchTemplateName: 'lt-web', Version: '$Latest' },
      NewInstancesProtectedFromScaleIn: true,
      TerminationPolicies: ['Default'],
      SuspendedProcesses: [],
      Tags: [{ Key: 'team', Value: 'shop', PropagateAtLaunch: false, ResourceId: 'web & <co>' }],
    });
    expect(group?.Status).toBeUndefined();
    expect(group?.CreatedTime).toEqual(new Date(simulator.clock.now()));
    expect(group?.AutoScalingGroupARN).toMatch(/^arn:aws:autoscaling:us-east-1:\d{12}:autoScalingGroup:/);
    expect(
      group?.Instances?.map((one) => [one.InstanceType, one.AvailabilityZone, one.LifecycleState]),
    ).toEqual([
      ['c5.xlarge', 'us-east-1a', 'Pending'],
      ['c5.xlarge', 'us-east-1c', 'Pending'],
    ]);
  });

  const valid = {
    AutoScalingGroupName: 'web',
    MinSize: 1,
    MaxSize: 4,
    LaunchConfigurationName: 'old',
    AvailabilityZones: ['us-east-1a'],
  };

  it.each([
    ['min above max', { MinSize: 5 }, 'Max bound, 4, must be greater than or equal to min bound, 5'],
    [
      'desired out of bounds',
      { DesiredCapacity: 9 },
      'Desired capacity:9 must be between the specified min size:1 and max size:4',
    ],
    ['a negative size', { MinSize: -1 }, "Value '-1' at 'minSize' failed to satisfy constraint"],
    [
      'no launch source',
      { LaunchConfigurationName: undefined },
      'Valid requests must contain either LaunchTemplate',
    ],
    [
      'no zone',
      { AvailabilityZones: undefined },
      'At least one Availability Zone or VPC Subnet is required.',
    ],
    [
      'an unknown launch template',
      { LaunchConfigurationName: undefined, LaunchTemplate: { LaunchTemplateId: 'lt-0' } },
      'with template ID lt-0, does not exist',
    ],
    ['no maximum', { MaxSize: undefined }, "Value null at 'maxSize' failed to satisfy constraint"],
  ])('refuses to create with %s', async (_what, change, words) => {
    const input = { ...valid, ...change } as typeof valid;
    await expect(autoScaling.createAutoScalingGroup(input)).rejects.toMatchObject({
      name: 'ValidationError',
      message: expect.stringContaining(words),
      $metadata: { httpStatusCode: 400 },
    });
    expect(await describeGroup('web')).toBeUndefined();
  });

  it('refuses a name that is taken', async () => {
    await autoScaling.createAutoScalingGroup(valid);
    await expect(autoScaling.createAutoScalingGroup(valid)).rejects.toMatchObject({
      name: 'AlreadyExistsFault',
    });
  });

  it('keeps regions apart', async () => {
    simulator.createGroup({ name: 'web', region: 'eu-west-1', min: 1, max: 3, desired: 2 });
    expect(await describeGroup('web')).toBeUndefined();
    const ireland = autoScalingClient(simulator.endpoint, { region: 'eu-west-1' });
    const answer = await ireland.describeAutoScalingGroups({});
    expect(answer.AutoScalingGroups?.map((group) => group.DesiredCapacity)).toEqual([2]);
    ireland.destroy();
  });

  it('keeps and answers a mixed instances policy, and counts capacity in its units', async () => {
    await ec2.createLaunchTemplate({
      LaunchTemplateName: 'lt',
      LaunchTemplateData: { InstanceType: 'm5.large' },
    });
    const policy = {
      LaunchTemplate: {
        LaunchTemplateSpecification: { LaunchTemplateName: 'lt', Version: '1' },
        Overrides: [
          { InstanceType: 'm5.2xlarge' as const, WeightedCapacity: '4' },
          { InstanceType: 'm5.large' as const, WeightedCapacity: '1' },
        ],
      },
      InstancesDistribution: { OnDemandBaseCapacity: 1, SpotAllocationStrategy: 'capacity-optimized' },
    };
    await autoScaling.createAutoScalingGroup({
      ...valid,
      LaunchConfigurationName: undefined,
      MaxSize: 20,
      DesiredCapacity: 6,
      MixedInstancesPolicy: policy,
    });
    const group = await describeGroup('web');
    expect(group?.MixedInstancesPolicy).toMatchObject(policy);
    expect(group?.Instances?.map((one) => [one.InstanceType, one.WeightedCapacity])).toEqual([
      ['m5.2xlarge', '4'],
      ['m5.2xlarge', '4'],
    ]);
    await setDesired('web', 3);
    const left = (await describeGroup('web'))?.Instances?.filter((one) => one.LifecycleState === 'Pending');
    expect(left).toHaveLength(1);
  });

  it('lets desired follow a new minimum or maximum, and refuses one outside them', async () => {
    simulator.createGroup({ name: 'web', min: 2, max: 10, desired: 5 });
    const update = (input: { MinSize?: number; MaxSize?: number; DesiredCapacity?: number }) =>
      autoScaling.updateAutoScalingGroup({ AutoScalingGroupName: 'web', ...input });
    await update({ MaxSize: 4 });
    expect(simulator.group('web')).toMatchObject({ desired: 4, inService: 4, terminating: 1 });
    await update({ MinSize: 6, MaxSize: 10 });
    expect(simulator.group('web')).toMatchObject({ min: 6, max: 10, desired: 6, pending: 2 });
    await expect(update({ DesiredCapacity: 11 })).rejects.toThrow(
      'Desired capacity:11 must be between the specified min size:6 and max size:10',
    );
    await expect(update({ MaxSize: 5 })).rejects.toThrow(
      'Max bound, 5, must be greater than or equal to min bound, 6',
    );
  });

  it.each([
    [
      'UpdateAutoScalingGroup',
      () => new UpdateAutoScalingGroupCommand({ AutoScalingGroupName: 'nope' }),
      'AutoScalingGroup name not found - null',
    ],
    [
      'SetDesiredCapacity',
      () => new SetDesiredCapacityCommand({ AutoScalingGroupName: 'nope', DesiredCapacity: 1 }),
      "AutoScalingGroup name not found - AutoScalingGroup 'nope' not found",
    ],
  ])('says that a group does not exist: %s', async (_action, command, message) => {
    await expect(autoScaling.send(command() as SetDesiredCapacityCommand)).rejects.toMatchObject({
      name: 'ValidationError',
      message,
    });
  });

  it('deletes only what is empty or forced, and shows the deletion while it lasts', async () => {
    simulator.createGroup({ name: 'web', min: 1, max: 3 });
    const remove = (force: boolean) =>
      autoScaling.deleteAutoScalingGroup({ AutoScalingGroupName: 'web', ForceDelete: force });
    await expect(remove(false)).rejects.toMatchObject({ name: 'ResourceInUseFault' });
    await remove(true);
    expect(await describeGroup('web')).toMatchObject({
      Status: 'Delete in progress',
      DesiredCapacity: 0,
      Instances: [{ LifecycleState: 'Terminating' }],
    });
    await expect(setDesired('web', 0)).rejects.toThrow('may not be modified while it is pending delete');
    simulator.clock.advance(20_000);
    expect(await describeGroup('web')).toBeUndefined();
  });

  it('pages, filters by tag, and refuses a bad token or too many names', async () => {
    for (let index = 0; index < 120; index++) {
      simulator.createGroup({
        name: `g${String(index).padStart(3, '0')}`,
        min: 0,
        max: 1,
        tags: { parity: index % 2 === 0 ? 'even' : 'odd' },
      });
    }
    const describeAll = (input: DescribeAutoScalingGroupsCommandInput) =>
      autoScaling.describeAutoScalingGroups(input);
    const first = await describeAll({});
    expect(first.AutoScalingGroups).toHaveLength(50);
    simulator.changeExternally('g049', { remove: true }); // the last of the page vanishes: nothing may be skipped
    const second = await describeAll({ NextToken: first.NextToken });
    expect(second.AutoScalingGroups?.[0]?.AutoScalingGroupName).toBe('g050');
    const third = await describeAll({ NextToken: second.NextToken, MaxRecords: 100 });
    expect([third.AutoScalingGroups?.length, third.NextToken]).toEqual([20, undefined]);

    const even = await describeAll({ Filters: [{ Name: 'tag:parity', Values: ['even'] }], MaxRecords: 100 });
    expect(even.AutoScalingGroups).toHaveLength(60);

    await expect(describeAll({ NextToken: 'rubbish' })).rejects.toMatchObject({ name: 'InvalidNextToken' });
    await expect(describeAll({ MaxRecords: 101 })).rejects.toThrow(
      'must have value less than or equal to 100',
    );
    const names = Array.from({ length: 51 }, (_, index) => `g${index}`);
    await expect(describeAll({ AutoScalingGroupNames: names })).rejects.toThrow(
      'The number of group names that may be passed in is limited to 50',
    );
  });
});

describe('SetDesiredCapacity', () => {
  beforeEach(() => {
    simulator.createGroup({ name: 'web', min: 1, max: 4, desired: 2 });
  });

  it('refuses what is outside the bounds, in the words AWS uses', async () => {
    await expect(setDesired('web', 5)).rejects.toMatchObject({
      name: 'ValidationError',
      message: 'New SetDesiredCapacity value 5 is above max value 4 for the AutoScalingGroup.',
      Type: 'Sender',
    });
    await expect(setDesired('web', 0)).rejects.toThrow(
      'New SetDesiredCapacity value 0 is below min value 1 for the AutoScalingGroup.',
    );
    expect(simulator.group('web')?.desired).toBe(2);
  });

  it('is accepted at once; instances become ready one delay later, and each is explained', async () => {
    await setDesired('web', 4);
    expect(simulator.group('web')).toMatchObject({ desired: 4, inService: 2, pending: 2 });
    expect((await activitiesOf('web')).map((one) => one.StatusCode)).toEqual([
      'PreInService',
      'PreInService',
    ]);
    simulator.clock.advance(59_999);
    expect(simulator.group('web')).toMatchObject({ inService: 2 });
    simulator.clock.advance(1);
    expect(simulator.group('web')).toMatchObject({ inService: 4, pending: 0 });

    const [newest] = await activitiesOf('web');
    expect(newest).toMatchObject({ StatusCode: 'Successful', Progress: 100, AutoScalingGroupName: 'web' });
    expect(newest?.Cause).toMatch(
      /^At \S+Z a user request explicitly set group desired capacity changing the desired capacity from 2 to 4\. {2}At \S+Z an instance was started in response to a difference between desired and actual capacity, increasing the capacity from 2 to 4\.$/,
    );
    expect(newest?.Description).toMatch(/^Launching a new EC2 instance: i-[0-9a-f]{17}$/);
    expect(newest?.EndTime?.getTime()).toBe((newest?.StartTime?.getTime() ?? 0) + 60_000);
  });

  it('ends instances on the way down, keeping the zones even', async () => {
    await setDesired('web', 1);
    const states = (await describeGroup('web'))?.Instances?.map((one) => one.LifecycleState);
    expect(states?.sort()).toEqual(['InService', 'Terminating']);
    simulator.clock.advance(20_000);
    expect(await describeGroup('web')).toMatchObject({ Instances: [{ LifecycleState: 'InService' }] });
    const [activity] = await activitiesOf('web');
    expect(activity?.Cause).toMatch(
      /shrinking the capacity from 2 to 1\. {2}At \S+Z instance i-\S+ was selected for termination\.$/,
    );
  });

  it('honours the cooldown only when asked to', async () => {
    await setDesired('web', 3);
    await expect(setDesired('web', 4, true)).rejects.toMatchObject({
      name: 'ScalingActivityInProgressFault',
    });
    simulator.clock.advance(60_000); // the launch ends, the cooldown of 300 s begins
    simulator.clock.advance(299_999);
    await expect(setDesired('web', 4, true)).rejects.toThrow('is in progress and blocks this action');
    await setDesired('web', 2); // without HonorCooldown nothing is asked
    simulator.clock.advance(20_000 + 300_000);
    await setDesired('web', 4, true);
    expect(simulator.group('web')?.desired).toBe(4);
  });

  it('changes only the number while Launch or Terminate is suspended, and catches up on resume', async () => {
    const process = { AutoScalingGroupName: 'web', ScalingProcesses: ['Launch', 'Terminate'] };
    await autoScaling.suspendProcesses(process);
    await setDesired('web', 4);
    expect(simulator.group('web')).toMatchObject({ desired: 4, inService: 2, pending: 0 });
    const shown = await describeGroup('web');
    expect(shown?.SuspendedProcesses).toMatchObject([
      { ProcessName: 'Launch', SuspensionReason: expect.stringMatching(/^User suspended at /) },
      { ProcessName: 'Terminate' },
    ]);
    await setDesired('web', 1);
    expect(simulator.group('web')).toMatchObject({ desired: 1, inService: 2, terminating: 0 });
    await setDesired('web', 4);
    await autoScaling.resumeProcesses(process);
    expect(simulator.group('web')).toMatchObject({ pending: 2, suspended: [] });
    await expect(
      autoScaling.suspendProcesses({ AutoScalingGroupName: 'web', ScalingProcesses: ['Dance'] }),
    ).rejects.toMatchObject({ name: 'ValidationError' });
  });

  it('lowers desired but ends nothing while all instances are protected', async () => {
    const ids = simulator.group('web')?.instances.map(({ id }) => id) ?? [];
    const protect = (isProtected: boolean) =>
      autoScaling.setInstanceProtection({
        AutoScalingGroupName: 'web',
        InstanceIds: ids,
        ProtectedFromScaleIn: isProtected,
      });
    await protect(true);
    await setDesired('web', 1);
    expect(simulator.group('web')).toMatchObject({ desired: 1, inService: 2, terminating: 0 });
    await protect(false);
    expect(simulator.group('web')).toMatchObject({ desired: 1, inService: 1, terminating: 1 });
  });

  it('reports a failed launch when the type has run out, and tries again', async () => {
    simulator.limitCapacity('m5.large', 3);
    await setDesired('web', 4);
    expect(simulator.group('web')).toMatchObject({ desired: 4, pending: 1 });
    const [failed] = await activitiesOf('web');
    expect(failed).toMatchObject({
      StatusCode: 'Failed',
      StatusMessage: expect.stringContaining('We currently do not have sufficient m5.large capacity'),
    });
    simulator.limitCapacity('m5.large', null);
    simulator.clock.advance(30_000 + 60_000);
    expect(simulator.group('web')).toMatchObject({ inService: 4 });
  });
});

describe('instances', () => {
  beforeEach(() => {
    simulator.createGroup({
      name: 'web',
      min: 1,
      max: 4,
      desired: 3,
      instanceType: 'c5.large',
      tags: { team: 'shop' },
    });
  });

  it('are listed by the group, by Auto Scaling and by EC2 alike', async () => {
    const ids =
      simulator
        .group('web')
        ?.instances.map(({ id }) => id)
        .sort() ?? [];
    const managed = await autoScaling.describeAutoScalingInstances({ MaxRecords: 2 });
    expect(managed.AutoScalingInstances).toMatchObject([
      {
        AutoScalingGroupName: 'web',
        LifecycleState: 'InService',
        HealthStatus: 'HEALTHY',
        InstanceId: ids[0],
      },
      { InstanceId: ids[1] },
    ]);
    const rest = await autoScaling.describeAutoScalingInstances({ NextToken: managed.NextToken });
    expect(rest.AutoScalingInstances?.map((one) => one.InstanceId)).toEqual([ids[2]]);

    const filters = [{ Name: 'tag:aws:autoscaling:groupName', Values: ['web'] }];
    const answer = await ec2.describeInstances({ Filters: filters });
    const instances = answer.Reservations?.flatMap((reservation) => reservation.Instances ?? []);
    expect(instances?.map((one) => one.InstanceId)).toEqual(ids);
    expect(instances?.[0]).toMatchObject({
      InstanceType: 'c5.large',
      State: { Name: 'running', Code: 16 },
      Tags: [
        { Key: 'aws:autoscaling:groupName', Value: 'web' },
        { Key: 'team', Value: 'shop' },
      ],
    });
  });

  it('can be ended one by one, with or without a replacement', async () => {
    const [first, second, third] = simulator.group('web')?.instances.map(({ id }) => id) ?? [];
    const end = (id: string | undefined, decrement: boolean) =>
      autoScaling.terminateInstanceInAutoScalingGroup({
        InstanceId: id,
        ShouldDecrementDesiredCapacity: decrement,
      });
    const { Activity } = await end(first, true);
    expect(Activity).toMatchObject({
      StatusCode: 'InProgress',
      Cause: expect.stringMatching(/response to a user request, shrinking the capacity from 3 to 2\.$/),
    });
    expect(simulator.group('web')).toMatchObject({ desired: 2, inService: 2, pending: 0 });
    await end(second, false);
    expect(simulator.group('web')).toMatchObject({ desired: 2, inService: 1, pending: 1 });
    simulator.changeExternally('web', { min: 2 });
    await expect(end(third, true)).rejects.toThrow('Currently, desiredSize equals minSize (2).');
    await expect(end('i-00000000000000000', true)).rejects.toThrow('No managed instance found');
  });
});

describe('scaling activities', () => {
  it('are paged, newest first, and forget a deleted group unless asked', async () => {
    simulator.createGroup({ name: 'web', min: 0, max: 50, desired: 0 });
    await setDesired('web', 30);
    simulator.clock.advance(60_000);
    const read = (input: object) =>
      autoScaling.describeScalingActivities({ AutoScalingGroupName: 'web', ...input });
    const first = await read({ MaxRecords: 20 });
    const second = await read({ MaxRecords: 20, NextToken: first.NextToken });
    const ids = [...(first.Activities ?? []), ...(second.Activities ?? [])].map((one) => one.ActivityId);
    expect([new Set(ids).size, second.NextToken]).toEqual([30, undefined]);

    simulator.changeExternally('web', { remove: true });
    await expect(read({})).rejects.toMatchObject({ name: 'ValidationError' });
    const all = await read({ IncludeDeletedGroups: true });
    expect(all.Activities?.length).toBeGreaterThanOrEqual(30);
  });
});

describe('instance refresh', () => {
  it('runs from Pending to Successful, one at a time, and can be cancelled', async () => {
    simulator.createGroup({ name: 'web', min: 2, max: 4 });
    const group = { AutoScalingGroupName: 'web' };
    const status = async () => {
      const answer = await autoScaling.describeInstanceRefreshes(group);
      return answer.InstanceRefreshes?.map((one) => [one.Status, one.PercentageComplete]);
    };
    const { InstanceRefreshId } = await autoScaling.startInstanceRefresh({
      ...group,
      Preferences: { MinHealthyPercentage: 90 },
    });
    expect(InstanceRefreshId).toMatch(/^[0-9a-f-]{36}$/);
    expect(await status()).toEqual([['Pending', 0]]);
    await expect(autoScaling.startInstanceRefresh(group)).rejects.toMatchObject({
      name: 'InstanceRefreshInProgressFault',
    });
    simulator.clock.advance(65_000);
    expect(await status()).toEqual([['InProgress', 52]]);
    simulator.clock.advance(60_000);
    expect(await status()).toEqual([['Successful', 100]]);

    await autoScaling.startInstanceRefresh(group);
    await autoScaling.cancelInstanceRefresh(group);
    simulator.clock.advance(5_000);
    expect((await status())?.map(([one]) => one)).toEqual(['Cancelled', 'Successful']);
    await expect(autoScaling.cancelInstanceRefresh(group)).rejects.toMatchObject({
      name: 'ActiveInstanceRefreshNotFoundFault',
    });
  });
});

describe('EC2', () => {
  it('describes the launch template a group uses', async () => {
    simulator.createGroup({ name: 'web', min: 0, max: 1, instanceType: 'r6g.large' });
    const template = (await describeGroup('web'))?.LaunchTemplate;
    const answer = await ec2.describeLaunchTemplateVersions({
      LaunchTemplateId: template?.LaunchTemplateId,
      Versions: [template?.Version ?? ''],
    });
    expect(answer.LaunchTemplateVersions).toMatchObject([
      { VersionNumber: 1, DefaultVersion: true, LaunchTemplateData: { InstanceType: 'r6g.large' } },
    ]);
  });

  it('answers errors in its own envelope', async () => {
    const send = (id: string) => ec2.describeInstances({ InstanceIds: [id] });
    await expect(send('i-0123456789abcdef0')).rejects.toMatchObject({
      name: 'InvalidInstanceID.NotFound',
      message: "The instance ID 'i-0123456789abcdef0' does not exist",
    });
    await expect(send('x')).rejects.toMatchObject({ name: 'InvalidInstanceID.Malformed' });
    await expect(ec2.describeLaunchTemplateVersions({ LaunchTemplateName: 'nope' })).rejects.toMatchObject({
      name: 'InvalidLaunchTemplateName.NotFoundException',
    });
  });
});

describe('unknown actions', () => {
  it('are InvalidAction in both envelopes', async () => {
    await expect(autoScaling.executePolicy({ PolicyName: 'p' })).rejects.toMatchObject({
      name: 'InvalidAction',
      $metadata: { httpStatusCode: 400 },
    });
    await expect(ec2.describeVpcs({})).rejects.toMatchObject({ name: 'InvalidAction' });
  });

  it('answer hostile forms without harm', async () => {
    const headers = { authorization: SIGNED, 'x-amz-date': stampOf(Date.now()) };
    for (const body of [
      'Action=constructor',
      'Action=__proto__&__proto__.x=1',
      'Action.member.1=x&Action=y&Action.z=1',
      '%',
      'Action=\u0000',
    ]) {
      const answer = await fetch(simulator.endpoint, { method: 'POST', body, headers });
      expect([body, answer.status]).toEqual([body, 400]);
    }
    expect(({} as { x?: number }).x).toBeUndefined();
  });
});

const SIGNED = `AWS4-HMAC-SHA256 Credential=AKIA/${stampOf(Date.now()).slice(0, 8)}/us-east-1/autoscaling/aws4_request, SignedHeaders=host, Signature=${'0'.repeat(64)}`;

function stampOf(epochMs: number): string {
  return new Date(epochMs).toISOString().replace(/[-:]|\.\d{3}/g, '');
}

describe('the aws command', async () => {
  const version = await run('aws', ['--version']).catch(() => undefined);

  it.skipIf(version === undefined)('works on it unmodified', async () => {
    simulator.createGroup({ name: 'web', min: 1, max: 4, desired: 2 });
    const aws = async (...args: string[]) => {
      const { stdout } = await run(
        'aws',
        [...args, '--endpoint-url', simulator.endpoint, '--output', 'json'],
        {
          env: {
            PATH: process.env.PATH,
            HOME: process.env.HOME,
            AWS_ACCESS_KEY_ID: 'AKIATEST',
            AWS_SECRET_ACCESS_KEY: 'secret',
            AWS_DEFAULT_REGION: 'us-east-1',
            AWS_MAX_ATTEMPTS: '1',
          },
        },
      );
      return stdout === '' ? undefined : JSON.parse(stdout);
    };
    await aws(
      'autoscaling',
      'set-desired-capacity',
      '--auto-scaling-group-name',
      'web',
      '--desired-capacity',
      '3',
    );
    const [groups, instances, identity, refusal] = await Promise.all([
      aws('autoscaling', 'describe-auto-scaling-groups', '--auto-scaling-group-names', 'web'),
      aws('ec2', 'describe-instances'),
      aws('sts', 'get-caller-identity'),
      aws(
        'autoscaling',
        'set-desired-capacity',
        '--auto-scaling-group-name',
        'web',
        '--desired-capacity',
        '9',
      ).catch((error: { stderr: string }) => error.stderr),
    ]);
    expect(groups.AutoScalingGroups).toMatchObject([{ DesiredCapacity: 3, MaxSize: 4 }]);
    expect(instances.Reservations).toHaveLength(3);
    expect(identity).toMatchObject({ Account: '123456789012' });
    expect(refusal).toContain('(ValidationError)');
    expect(refusal).toContain('New SetDesiredCapacity value 9 is above max value 4');
  });
});
