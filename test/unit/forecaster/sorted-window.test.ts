import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SortedWindow } from '../../../worker/forecaster/sorted-window.ts';
import { forAll } from '../../support/for-all.ts';

function filled(capacity: number, values: readonly number[]): SortedWindow {
  const window = new SortedWindow(capacity);
  for (const value of values) window.add(value);
  return window;
}

describe('SortedWindow', () => {
  it('forgets the oldest first', () => {
    const window = filled(3, [9, 1, 5, 2]);
    expect(window.size).toBe(3);
    // 1, 2, 5 are left: ranks ceil(share × 4).
    expect([0.25, 0.5, 0.75].map((share) => window.quantile(share))).toEqual([1, 2, 5]);
  });

  it('takes the rank ceil(share × (n + 1)), within what there is', () => {
    const window = filled(10, [10, 20, 30, 40]);
    expect(window.quantile(0)).toBe(10);
    expect(window.quantile(0.2)).toBe(10);
    expect(window.quantile(0.21)).toBe(20);
    expect(window.quantile(0.8)).toBe(40);
    expect(window.quantile(1)).toBe(40);
  });

  it('counts what is below, not what is equal', () => {
    const window = filled(10, [1, 2, 2, 3]);
    expect([0, 1, 2, 2.5, 3, 4].map((value) => window.countBelow(value))).toEqual([0, 0, 1, 3, 3, 4]);
  });

  it('keeps values in single precision', () => {
    expect(filled(1, [0.1]).quantile(0.5)).toBe(Math.fround(0.1));
    // 16,777,217 is the first whole number that single precision lacks.
    expect(filled(1, [16_777_217]).quantile(0.5)).toBe(16_777_216);
  });

  it('is empty again after clear', () => {
    const window = filled(3, [3, 2, 1]);
    window.clear();
    expect(window.size).toBe(0);
    window.add(7);
    expect(window.quantile(0.5)).toBe(7);
  });

  it('keeps the newest, in the order they came', () => {
    const window = filled(4, [9, 8, 1, 5, 2, 7]);
    window.keepNewest(2);
    expect(window.size).toBe(2);
    expect([0.3, 0.7].map((share) => window.quantile(share))).toEqual([2, 7]);
    for (const value of [3, 4, 6]) window.add(value);
    // 2 was the oldest of what was kept.
    expect([0.2, 0.4, 0.6, 0.8].map((share) => window.quantile(share))).toEqual([3, 4, 6, 7]);
    window.keepNewest(9);
    expect(window.size).toBe(4);
  });

  it('agrees with sorting everything anew, whatever comes, and with whatever ties', () => {
    const value = fc.oneof(
      fc.integer({ min: -3, max: 3 }),
      fc.double({ min: -1e6, max: 1e6, noNaN: true }),
      fc.constantFrom(0.1, 0.1 + 1e-10, -0, 0),
    );
    forAll(200, [fc.integer({ min: 1, max: 12 }), fc.array(value, { maxLength: 60 })], (capacity, values) => {
      const shares = [0, 0.1, 0.5, 0.77, 0.98, 1];
      const window = new SortedWindow(capacity, shares);
      for (const [index, added] of values.entries()) {
        window.add(added);
        const naive = values
          .slice(Math.max(0, index + 1 - capacity), index + 1)
          .map((each) => Math.fround(each))
          .sort((a, b) => a - b);
        expect(window.size).toBe(naive.length);
        for (let rank = 1; rank <= naive.length; rank++) {
          // Half a rank less, so that rounding cannot lift it over the next.
          const share = (rank - 0.5) / (naive.length + 1);
          expect(window.quantile(share) === naive[rank - 1]).toBe(true);
        }
        for (const [at, share] of shares.entries())
          expect(window.quantileAt(at)).toBe(window.quantile(share));
        const probe = values[(index * 7) % values.length] as number;
        expect(window.countBelow(probe)).toBe(naive.filter((each) => each < probe).length);
      }
    });
  });
});
