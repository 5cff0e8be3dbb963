import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fullJitter } from '../../../worker/resilience/backoff.ts';
import { forAll } from '../../support/for-all.ts';

describe('full jitter', () => {
  it.each([
    [1_000, 0, 1_000],
    [1_000, 1, 2_000],
    [1_000, 5, 32_000],
    [1_000, 6, 60_000],
    [1_000, 1_000_000, 60_000],
    [500, 0, 500],
    [120_000, 0, 60_000],
    [0, 9, 0],
  ])('of base %i ms after %i attempts spreads from 0 to %i ms', (baseMs, attempt, longestMs) => {
    expect(fullJitter(baseMs, attempt, () => 0)).toBe(0);
    expect(fullJitter(baseMs, attempt, () => 0.5)).toBe(longestMs / 2);
    expect(fullJitter(baseMs, attempt, () => 1 - Number.EPSILON)).toBeCloseTo(longestMs, 3);
  });

  it('is never negative, never above a minute, never not a number', () =>
    forAll(
      100,
      [fc.nat(10_000_000), fc.nat(), fc.double({ min: 0, max: 1, noNaN: true })],
      (base, attempt, random) => {
        const wait = fullJitter(base, attempt, () => random);
        expect(wait).toBeGreaterThanOrEqual(0);
        expect(wait).toBeLessThanOrEqual(60_000);
      },
    ));

  it('draws its own chance: those that failed together do not come back together', () => {
    const waits = Array.from({ length: 200 }, () => fullJitter(1_000, 3));
    expect(new Set(waits).size).toBeGreaterThan(190);
    expect(Math.min(...waits)).toBeLessThan(1_000);
    expect(Math.max(...waits)).toBeGreaterThan(7_000);
  });
});
