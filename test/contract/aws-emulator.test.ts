import { AutoScaling } from '@aws-sdk/client-auto-scaling';
import { EC2 } from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import type { ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import { pointAwsSdkTo } from './point-aws-sdk.ts';

/** An AWS somebody else has simulated, such as `moto_server`: its address. It is given a group of its own. */
const endpoint = process.env.SCALER_TEST_AWS_ENDPOINT;
const region = 'us-east-1';
const name = `scaler-${Date.now()}`;
const target: ProviderTarget = { provider: 'aws', scope: null, name };
const signal = new AbortController().signal;

describe.skipIf(endpoint === undefined)('on an AWS that is not ours', () => {
  let provider: AwsAutoScaling;
  beforeAll(async () => {
    pointAwsSdkTo(endpoint as string);
    const [scaling, ec2] = [new AutoScaling({ region }), new EC2({ region })];
    const { LaunchTemplate } = await ec2.createLaunchTemplate({
      LaunchTemplateName: name,
      LaunchTemplateData: { InstanceType: 'c5.xlarge', ImageId: 'ami-12c6146b' },
    });
    await scaling.createAutoScalingGroup({
      AutoScalingGroupName: name,
      MinSize: 0,
      MaxSize: 9,
      DesiredCapacity: 0,
      AvailabilityZones: [`${region}a`],
      LaunchTemplate: { LaunchTemplateId: LaunchTemplate?.LaunchTemplateId, Version: '$Latest' },
    });
    scaling.destroy();
    ec2.destroy();
    provider = new AwsAutoScaling({ defaultRegion: region, settleMs: 330_000 });
  });
  afterAll(() => provider?.close());
  // Not `describe`: no emulator we know answers DescribeInstanceRefreshes.
  const read = async () => (await provider.describeMany([target], signal))[0];

  it('reads the group and its bounds, and the type from its launch template', async () => {
    expect(await read()).toMatchObject({ desired: 0, min: 0, max: 9, blocks: [], instanceType: 'c5.xlarge' });
  });

  it('answers in order, with an error for a group that is not there', async () => {
    const missing = { ...target, name: 'nobody' };
    expect(await provider.describeMany([missing, target, missing], signal)).toMatchObject([
      { code: 'target_not_found' },
      { desired: 0 },
      { code: 'target_not_found' },
    ]);
  });

  it('sets the number itself', async () => {
    for (const instances of [5, 2, 2]) {
      const write = { intentAtMs: Date.now(), signal };
      await provider.setCapacity(target, instances, await stateNow(), write);
      expect(await read()).toMatchObject({ desired: instances, ready: instances });
    }
  });

  async function stateNow() {
    const state = await read();
    if (state === undefined || state instanceof Error) throw state;
    return state;
  }
});
