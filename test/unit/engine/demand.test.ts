import { describe, expect, it } from 'vitest';
import {
  measureDemand,
  plannedRatio,
  proposalsOf,
  requiredAt,
  roundUp,
} from '../../../worker/engine/demand.ts';
import { policy } from '../../support/engine-input.ts';

const load = (cpuRatio: number | null, memoryRatio: number | null, instances = 10) => ({
  cpuRatio,
  memoryRatio,
  instances,
});

describe('roundUp', () => {
  it.each([
    [0, 0],
    [0.2, 1],
    [6.999, 7],
    [7, 7],
    [7.000000001, 7],
    [7.0000009, 7],
    [7.0000011, 8],
    [7.001, 8],
    [(7 * 0.7) / 0.7, 7],
    [(3 * 0.1) / 0.1, 3],
    [123_456.0000000001, 123_456],
  ])('%d instances are %d', (need, required) => {
    expect(roundUp(need)).toBe(required);
    expect(Object.is(roundUp(need), -0)).toBe(false);
  });
});

describe('proposalsOf', () => {
  it('turns utilisation into demand by the count it was measured on', () => {
    const [cpu, memory] = proposalsOf(load(0.5, 0.6), 'reactive', { policy: policy() });
    expect(cpu).toMatchObject({ metric: 'cpu', demand: 5, required: 8, saturated: false });
    expect(cpu?.unrounded).toBeCloseTo(5 / 0.7, 12);
    expect(memory).toMatchObject({ metric: 'memory', demand: 6, required: 8, saturated: false });
  });

  it('says the same of the same work on more instances', () => {
    const required = [load(0.8, null, 5), load(0.4, null, 10), load(0.2, null, 20)].map((each) =>
      requiredAt(each, { policy: policy() }),
    );
    expect(required).toEqual([6, 6, 6]);
  });

  it('is in instances of today: one of then may have been worth half of one', () => {
    const [cpu, memory] = proposalsOf({ ...load(0.8, 0.4), cpuWorth: 0.5, memoryWorth: 0.25 }, 'reactive', {
      policy: policy(),
    });
    expect(cpu).toMatchObject({ ratio: 0.8, demand: 4, required: 6 });
    expect(memory).toMatchObject({ ratio: 0.4, demand: 1, required: 2 });
    // Ten that were worth five: twice as many are ten.
    const [full] = proposalsOf({ ...load(1, null), cpuWorth: 0.5 }, 'reactive', { policy: policy() });
    expect(full).toMatchObject({ saturated: true, required: 10 });
  });

  it('leaves out a metric that is not there', () => {
    expect(
      proposalsOf(load(null, 0.8), 'reactive', { policy: policy() }).map((proposal) => proposal.metric),
    ).toEqual(['memory']);
    expect(
      proposalsOf(load(0.8, null), 'reactive', { policy: policy() }).map((proposal) => proposal.metric),
    ).toEqual(['cpu']);
  });

  it.each([
    [0.97, 0.9, 11, false],
    [0.98, 0.9, 20, true],
    [1, 0.9, 20, true],
    [1, 0.4, 25, true],
    [2.7, 0.9, 30, true],
  ])('a ratio of %d for a target of %d needs %d', (ratio, targetCpuRatio, required, saturated) => {
    expect(
      proposalsOf(load(ratio, null), 'reactive', { policy: policy({ targetCpuRatio }) })[0],
    ).toMatchObject({
      required,
      saturated,
    });
  });

  it('takes a prediction at its word, even at 100 %', () => {
    expect(
      proposalsOf(load(1, null), 'prediction', { policy: policy({ targetCpuRatio: 0.9 }) })[0],
    ).toMatchObject({
      required: 12,
      saturated: false,
    });
  });

  it('plans no hotter than demand can still be seen', () => {
    expect(plannedRatio(policy({ targetCpuRatio: 1 }), 'cpu')).toBe(0.97);
    expect(plannedRatio(policy({ targetMemoryRatio: 0.97 }), 'memory')).toBe(0.97);
    expect(plannedRatio(policy({ targetMemoryRatio: 0.5 }), 'memory')).toBe(0.5);
  });
});

describe('measureDemand', () => {
  const measure = (cpu: number | null, memory: number | null, values = {}) =>
    measureDemand(proposalsOf(load(cpu, memory), 'reactive', { policy: policy(values) }));

  it('takes the larger need, and tells both demands', () => {
    expect(measure(0.5, 0.9)).toEqual({
      capacity: 12,
      detail: "demand in instances' worth: CPU 5.00, memory 9.00",
    });
  });

  it('says when it grew past what could be seen', () => {
    expect(measure(1, 0.2)).toEqual({
      capacity: 20,
      code: 'saturated',
      detail: 'CPU at 100% hides how much more is needed',
    });
    expect(measure(0.2, 0.99)).toMatchObject({
      capacity: 20,
      code: 'saturated',
      detail: 'memory at 99% hides how much more is needed',
    });
  });

  it('does not say so when what is seen asks for as much', () => {
    expect(measure(1, null, { targetCpuRatio: 0.5 })).toMatchObject({ capacity: 20 });
    expect(measure(1, null, { targetCpuRatio: 0.5 })).not.toHaveProperty('code');
  });
});
