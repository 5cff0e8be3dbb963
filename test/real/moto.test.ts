import { AutoScaling } from '@aws-sdk/client-auto-scaling';
import { EC2 } from '@aws-sdk/client-ec2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import type { CapacityState, ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import { pointAwsSdkTo } from '../contract/point-aws-sdk.ts';
import { openExecutionRig } from '../support/execution-rig.ts';
import { type Moto, startMoto } from './moto.ts';

const region = 'us-east-1';
const signal = new AbortController().signal;

const moto: Moto | null = await startMoto().catch((error: Error) => {
  console.log(`test:real: not started: moto (${error.message.split('\n')[0]})`);
  return null;
});

describe.skipIf(moto === null)('on moto', () => {
  const name = `scaler-${Date.now()}`;
  const target: ProviderTarget = { provider: 'aws', scope: null, name };
  let provider: AwsAutoScaling;
  let scaling: AutoScaling;

  beforeAll(async () => {
    pointAwsSdkTo((moto as Moto).endpoint);
    scaling = new AutoScaling({ region });
    const ec2 = new EC2({ region });
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
    ec2.destroy();
    provider = new AwsAutoScaling({ defaultRegion: region, settleMs: 330_000 });
  });
  afterAll(async () => {
    scaling?.destroy();
    await provider?.close();
    moto?.close();
  });

  it('reads a group with its bounds and type, many in order, and names what moto does not tell', async () => {
    const missing = { ...target, name: 'nobody' };
    expect(await provider.describeMany([missing, target, missing], signal)).toMatchObject([
      { code: 'target_not_found' },
      { desired: 0, min: 0, max: 9, blocks: [], instanceType: 'c5.xlarge' },
      { code: 'target_not_found' },
    ]);
    const { blocks } = await provider.describe(target, signal);
    expect(blocks).toMatchObject([{ code: 'advisory_read_failed', direction: 'down' }]);
  });

  it('sets the number itself', async () => {
    for (const instances of [5, 2, 2]) {
      const state = (await provider.describeMany([target], signal))[0] as CapacityState;
      await provider.setCapacity(target, instances, state, { intentAtMs: Date.now(), signal });
      expect((await provider.describeMany([target], signal))[0]).toMatchObject({
        desired: instances,
        ready: instances,
      });
    }
  });

  it('carries a scale-out out from end to end, and refuses to scale in', async () => {
    const rig = await openExecutionRig();
    const up = await rig.prepare(2, 4, { name, region });
    expect(await rig.execute(provider, up.jobId)).toMatchObject({ completion: { outcome: 'succeeded' } });
    const down = await rig.prepare(4, 3, { name: `${name}-later`, region });
    await rig.pool.query('update resources set name = id::text where name = $1', [name]);
    await rig.pool.query('update resources set name = $1 where name = $2', [name, `${name}-later`]);
    expect(await rig.execute(provider, down.jobId)).toMatchObject({
      completion: { outcome: 'rejected', error: { code: 'advisory_read_failed' } },
    });
    expect(await provider.describe(target, signal)).toMatchObject({ desired: 4 });
    await rig.close();
  });
});
