import { describe, expect, it } from 'vitest';
import { SlotProfile } from '../../../worker/forecaster/slot-profile.ts';

function learnDays(profile: SlotProfile, days: readonly (readonly number[])[]): void {
  for (const day of days) for (const [slot, value] of day.entries()) profile.learn(slot, value);
}

describe('SlotProfile', () => {
  it('is the plain mean of the first three days, then counts the newest 0.3', () => {
    const profile = new SlotProfile(2, 0);
    const seen = [
      [10, 100],
      [20, 200],
      [60, 0],
      [50, 50],
    ].map((day) => {
      learnDays(profile, [day]);
      return [profile.at(0), profile.at(1)];
    });
    // 10; (10+20)/2; 15 + (60-15)/3 = 30; 30 + 0.3 × 20 = 36. And 100; 150; 100; 100 - 0.3 × 50 = 85.
    expect(seen).toEqual([
      [10, 100],
      [15, 150],
      [30, 100],
      [36, 85],
    ]);
  });

  it('knows a period once it is whole', () => {
    const profile = new SlotProfile(3, 0);
    expect(profile.periods).toBe(0);
    profile.learn(1, 5);
    profile.learn(2, 5);
    expect(profile.periods).toBe(0);
    profile.learn(0, 5);
    expect(profile.periods).toBe(1);
  });

  it('averages neighbours, round the end of the period', () => {
    const profile = new SlotProfile(6, 1);
    learnDays(profile, [[1, 2, 4, 8, 16, 32]]);
    expect(profile.at(2)).toBe((2 + 4 + 8) / 3);
    expect(profile.at(0)).toBe((32 + 1 + 2) / 3);
    expect(profile.at(5)).toBe((16 + 32 + 1) / 3);
  });

  it('counts no slot twice where the radius is wider than the period', () => {
    const profile = new SlotProfile(4, 9);
    learnDays(profile, [[1, 2, 4, 8]]);
    // Radius 1 is the widest that fits into four.
    expect(profile.at(0)).toBe((8 + 1 + 2) / 3);
    const single = new SlotProfile(1, 9);
    single.learn(0, 7);
    expect(single.at(0)).toBe(7);
  });
});
