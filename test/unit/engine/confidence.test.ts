import { describe, expect, it } from 'vitest';
import { estimateConfidence } from '../../../worker/engine/confidence.ts';
import { checkSamples } from '../../../worker/engine/data-quality.ts';
import type { EngineSample } from '../../../worker/engine/types.ts';
import { aged, minutes, now, policy } from '../../support/engine-input.ts';

// Horizon: provisioning 120 s + interval 60 s = 3 samples.
const limits = policy({ targetCpuRatio: 0.5 });
const estimate = (instances: number, samples: readonly EngineSample[], metric: 'cpu' | 'memory' = 'cpu') =>
  estimateConfidence(instances, checkSamples(samples, limits, now), metric, limits);
/** One sample a minute, oldest first, by demand. */
const demands = (...values: number[]) =>
  minutes(values.length, (index) => ({ cpuRatio: (values[index] as number) / 10, instances: 10 }));

const unknown = { value: 0.5, basis: 'none', withinRatio: 0.5, n: 0, learning: true };

const measured = { basis: 'residuals', withinRatio: 0.5 };

describe('estimateConfidence', () => {
  it('is the share of past changes over one horizon that would still fit, ranked in the middle', () => {
    // Changes over 3 minutes: 4-1=3, 2-2=0, 5-3=2, 4-4=0. Demand now is 4; target × instances is the capacity.
    const samples = demands(1, 2, 3, 4, 2, 5, 4);
    expect(estimate(8, samples)).toEqual({ ...measured, value: 2.5 / 5, n: 4, learning: true });
    expect(estimate(11, samples).value).toBe(2.5 / 5);
    expect(estimate(12, samples).value).toBe(3.5 / 5);
    expect(estimate(14, samples).value).toBe(4.5 / 5);
    expect(estimate(7, samples).value).toBe(0.5 / 5);
  });

  it('never claims certainty, and stops learning at 20', () => {
    const steady = demands(...Array.from({ length: 23 }, () => 4));
    expect(estimate(8, steady)).toEqual({ ...measured, value: 20.5 / 21, n: 20, learning: false });
    expect(estimate(7, steady)).toEqual({ ...measured, value: 0.5 / 21, n: 20, learning: false });
    expect(estimate(8, steady.slice(1))).toMatchObject({ n: 19, learning: true });
  });

  it('looks at the metric that decides', () => {
    const samples = minutes(4, (index) => ({ cpuRatio: 0.4, memoryRatio: 0.1 * (index + 1), instances: 10 }));
    expect(estimate(8, samples, 'cpu').value).toBe(0.75);
    expect(estimate(5, samples, 'cpu').value).toBe(0.25);
    // Memory's target is 0.8 and its demand grew by 3 to 4: 9 leave room for 3.2, 8 for 2.4.
    expect(estimate(8, samples, 'memory').value).toBe(0.25);
    expect(estimate(9, samples, 'memory')).toMatchObject({ n: 1, value: 0.75 });
    const bare = samples.map((sample) => ({ ...sample, memoryRatio: null }));
    expect(estimate(8, bare, 'memory')).toEqual(unknown);
  });

  it('knows nothing without a pair a horizon apart, of old samples, or of hidden demand', () => {
    expect(estimate(8, demands(4, 4, 4))).toEqual(unknown);
    expect(estimate(8, demands(4))).toEqual(unknown);
    expect(estimate(8, [])).toEqual(unknown);
    expect(estimate(8, aged(demands(4, 4, 4, 4), 200_000))).toEqual(unknown);
    expect(estimate(30, demands(4, 4, 4, 4, 9.8))).toEqual(unknown);
  });

  it('compares nothing across a gap longer than a horizon and the age of stale', () => {
    const gap = (ms: number): EngineSample[] =>
      [now - ms, now].map((atMs) => ({ atMs, cpuRatio: 0.4, memoryRatio: null, instances: 10 }));
    expect(estimate(8, gap(179_999)).n).toBe(0);
    expect(estimate(8, gap(180_000)).n).toBe(1);
    expect(estimate(8, gap(360_000)).n).toBe(1);
    expect(estimate(8, gap(360_001)).n).toBe(0);
  });
});
