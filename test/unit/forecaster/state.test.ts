import { describe, expect, it } from 'vitest';
import { DelayLine, RunningMean } from '../../../worker/forecaster/state.ts';

/** One step of a line with one column. */
function pushed(line: DelayLine, value: number): number {
  const due = line.swap(0, value);
  line.next();
  return due;
}

describe('DelayLine', () => {
  it('gives back what was pushed so many pushes ago, NaN until then', () => {
    const line = new DelayLine(3);
    expect([1, 2, 3, 4, 5, 6, 7].map((value) => pushed(line, value))).toEqual([
      Number.NaN,
      Number.NaN,
      Number.NaN,
      1,
      2,
      3,
      4,
    ]);
  });

  it('of one step gives back the one before', () => {
    const line = new DelayLine(1);
    expect([5, 6, 7].map((value) => pushed(line, value))).toEqual([Number.NaN, 5, 6]);
  });
});

describe('RunningMean', () => {
  it('is the plain mean until its rate is the larger share, and exponential from then on', () => {
    const mean = new RunningMean(0.25);
    const seen = [4, 8, 0, 8, 20, 0].map((value) => {
      mean.add(value);
      return mean.value;
    });
    // Shares 1, 1/2, 1/3, 1/4, then 1/4 for good.
    expect(seen).toEqual([4, 6, 4, 5, 8.75, 6.5625]);
    expect(mean.count).toBe(6);
  });

  it('is 0 before the first value', () => {
    expect(new RunningMean(0.1).value).toBe(0);
    expect(new RunningMean(0.1).count).toBe(0);
  });
});
