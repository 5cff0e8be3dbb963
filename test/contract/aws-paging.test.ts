import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { AwsAutoScaling } from '../../worker/providers/aws-auto-scaling.ts';
import { pointAwsSdkTo } from './point-aws-sdk.ts';

const group = (name: string) =>
  `<member><AutoScalingGroupName>${name}</AutoScalingGroupName><MinSize>1</MinSize><MaxSize>9</MaxSize><DesiredCapacity>3</DesiredCapacity></member>`;
const page = (members: string, nextToken: string) =>
  `<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><DescribeAutoScalingGroupsResult><AutoScalingGroups>${members}</AutoScalingGroups>${nextToken}</DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>`;

it('does not take a group for missing that is on the next page', async () => {
  let requests = 0;
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      requests++;
      response.writeHead(200, { 'content-type': 'text/xml', 'x-amzn-requestid': 'r' });
      const second = body.includes('NextToken=more');
      response.end(page(group(second ? 'b' : 'a'), second ? '' : '<NextToken>more</NextToken>'));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  pointAwsSdkTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 1 });
  const targets = ['a', 'b', 'c'].map((name) => ({ provider: 'aws' as const, scope: null, name }));
  expect(await provider.describeMany(targets, new AbortController().signal)).toMatchObject([
    { desired: 3 },
    { desired: 3 },
    { code: 'target_not_found' },
  ]);
  expect(requests).toBe(2);
  await provider.close();
  server.close();
});
