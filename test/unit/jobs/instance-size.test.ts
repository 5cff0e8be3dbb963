import { describe, expect, it } from 'vitest';
import { relativeSizeOf, sizeOf } from '../../../worker/samples/instance-size.ts';

const type = (instance_type: string | null) =>
  sizeOf({ instance_type, cpu_request: null, memory_request: null });

describe('the size of an instance', () => {
  // vCPU and GiB as AWS publishes them.
  it.each([
    ['m5.large', 2, 8],
    ['m5.xlarge', 4, 16],
    ['m7g.medium', 1, 4],
    ['m6i.32xlarge', 128, 512],
    ['c5.9xlarge', 36, 72],
    ['c4.large', 2, 3.75],
    ['c5n.2xlarge', 8, 21],
    ['c6gn.xlarge', 4, 8],
    ['r5.4xlarge', 16, 128],
    ['r4.large', 2, 15.25],
    ['i3.2xlarge', 8, 61],
    ['i4i.xlarge', 4, 32],
    ['t2.micro', 1, 1],
    ['t2.medium', 2, 4],
    ['t3.nano', 2, 0.5],
    ['t3a.large', 2, 8],
    ['t4g.2xlarge', 8, 32],
    ['a1.4xlarge', 16, 32],
  ])('%s: %d vCPU, %d GiB', (name, vcpu, gib) => {
    expect(type(name)).toEqual({ vcpu, gib });
  });

  it.each([
    'm3.large',
    'c4.8xlarge',
    't1.micro',
    'm5.metal',
    'p4d.24xlarge',
    'u-6tb1.112xlarge',
    'm5.small',
    'large',
    '',
    null,
  ])('%s is not known', (name) => {
    expect(type(name)).toEqual({ vcpu: null, gib: null });
  });

  it("of a replica is what it requests, as the database's strings or as numbers", () => {
    const requests = { instance_type: null, cpu_request: '0.500', memory_request: 1.5 };
    expect(sizeOf(requests)).toEqual({ vcpu: 0.5, gib: 1.5 });
    expect(sizeOf({ ...requests, cpu_request: 0, memory_request: 'x' })).toEqual({ vcpu: null, gib: null });
  });
});

describe('what an instance of then is worth', () => {
  it('is its share of one of now, by CPU and by memory', () => {
    expect(relativeSizeOf(type('m5.large'), type('m5.xlarge'))).toEqual({ cpuWorth: 0.5, memoryWorth: 0.5 });
    expect(relativeSizeOf(type('m5.large'), type('r5.large'))).toEqual({ memoryWorth: 0.5 });
    expect(relativeSizeOf(type('c5.2xlarge'), type('m5.xlarge'))).toEqual({ cpuWorth: 2 });
  });

  it('is the same where either is not known', () => {
    expect(relativeSizeOf(type(null), type('m5.xlarge'))).toEqual({});
    expect(relativeSizeOf(type('m5.xlarge'), type('p4d.24xlarge'))).toEqual({});
  });
});
