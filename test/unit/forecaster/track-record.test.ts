import { describe, expect, it } from 'vitest';
import { TrackRecord } from '../../../worker/forecaster/track-record.ts';

const slots = 96;

describe('TrackRecord', () => {
  it('judges what was forecast a horizon ago', () => {
    const record = new TrackRecord(1, slots);
    record.add(10, Number.NaN, 12, 15, 0.1, true);
    expect(record.accuracy.steps).toBe(0);
    // 11 came where 12 was expected, at most 15; the last value was 10.
    record.add(11, Number.NaN, 9, 10, 0.1, true);
    expect(record.accuracy).toMatchObject({ bias: 1, meanAbsoluteError: 1, mase: 1, coverage: 1, steps: 1 });
    // Pinball: 0.1 × 4, over 0.9 × 1 of the last value.
    expect(record.accuracy.pinballRatio).toBeCloseTo(0.4 / 0.9, 12);
    // 13 came where 9 was expected, at most 10; yesterday it was 10.
    record.add(13, 10, 0, 0, 0.1, true);
    expect(record.accuracy).toMatchObject({
      bias: (1 - 4) / 2,
      meanAbsoluteError: (1 + 4) / 2,
      mase: 2.5 / ((1 + 3) / 2),
      coverage: 0.5,
      steps: 2,
    });
    // (0.4 + 0.9 × 3) / 2 over (0.9 × 1 + 0.9 × 2) / 2.
    expect(record.accuracy.pinballRatio).toBeCloseTo(3.1 / 2.7, 12);
  });

  it('passes over steps that were made up, but not over the time they take', () => {
    const record = new TrackRecord(2, slots);
    record.add(10, Number.NaN, 20, 99, 0.1, true);
    record.add(10, Number.NaN, 30, 99, 0.1, false);
    record.add(10, Number.NaN, 40, 99, 0.1, false);
    record.add(10, Number.NaN, 50, 99, 0.1, true);
    expect(record.accuracy).toMatchObject({ bias: 20, steps: 1 });
  });

  it('is as good as the naive forecast where neither errs, and infinitely worse where only it does', () => {
    const flat = new TrackRecord(1, slots);
    const over = new TrackRecord(1, slots);
    for (let step = 0; step < 5; step++) {
      flat.add(10, Number.NaN, 10, 10, 0.1, true);
      over.add(10, Number.NaN, 11, 11, 0.1, true);
    }
    expect(flat.accuracy).toMatchObject({ mase: 1, pinballRatio: 1 });
    expect(over.accuracy).toMatchObject({ mase: Number.POSITIVE_INFINITY });
  });

  describe('trust', () => {
    /** Demand swings between 10 and 12, so that the last value always errs by 2. */
    const run = (record: TrackRecord, steps: number, upper: (step: number) => number, risk = 0.02) => {
      let regainedAt = -1;
      for (let step = 0; step < steps; step++) {
        const before = record.trusted;
        record.add(step % 2 === 0 ? 10 : 12, Number.NaN, 11, upper(step), risk, true);
        if (!before && record.trusted && regainedAt < 0) regainedAt = step;
      }
      return regainedAt;
    };

    it('is given, and lost at the sixtieth outcome at the earliest', () => {
      const record = new TrackRecord(1, slots);
      run(record, 60, () => 5);
      expect(record.accuracy.steps).toBe(59);
      expect(record.trusted).toBe(true);
      run(record, 1, () => 5);
      expect(record.trusted).toBe(false);
    });

    it('is lost to bounds that are missed too often, kept by those that are not', () => {
      const often = new TrackRecord(1, slots);
      run(often, 2_000, (step) => (step % 7 === 0 ? 11.9 : 12.1));
      // A seventh of the bounds are just too low, and half of those are met by a 10: 7 % are missed.
      expect(often.trusted).toBe(true);
      const oftener = new TrackRecord(1, slots);
      run(oftener, 2_000, (step) => (step % 3 === 0 ? 11.9 : 12.1));
      expect(1 - oftener.accuracy.coverage).toBeGreaterThan(0.1);
      expect(oftener.trusted).toBe(false);
    });

    it('allows five times the risk that was stated', () => {
      const record = new TrackRecord(1, slots);
      run(record, 2_000, (step) => (step % 3 === 0 ? 11.9 : 12.1), 0.05);
      expect(record.trusted).toBe(true);
    });

    it('is lost to a bound that costs twice the last value without a margin', () => {
      const record = new TrackRecord(1, slots);
      // The last value's mean loss is (0.98 × 2 + 0.02 × 2) / 2 = 1; that of 150 is 0.02 × 139 = 2.78.
      run(record, 200, () => 150);
      expect(record.accuracy.coverage).toBe(1);
      expect(record.accuracy.pinballRatio).toBeGreaterThan(2);
      expect(record.trusted).toBe(false);
    });

    it('comes back, at a stricter bar than it was lost at', () => {
      const record = new TrackRecord(1, slots);
      run(record, 200, () => 5);
      expect(record.trusted).toBe(false);
      const regainedAt = run(record, 1_000, () => 12.1);
      expect(record.trusted).toBe(true);
      // Misses fade by 1 - 1/96 a step, from 1 (bounds of 5) to three times the risk: ln(0.06) / ln(95/96) = 269.
      expect(regainedAt).toBeGreaterThanOrEqual(268);
      expect(regainedAt).toBeLessThanOrEqual(271);
    });

    it('does not come back at what would have been good enough to keep it', () => {
      // 7 % missed: too little to lose trust, too much to regain it.
      const bounds = (step: number) => (step % 7 === 0 ? 11.9 : 12.1);
      const record = new TrackRecord(1, 960);
      run(record, 200, () => 5);
      expect(run(record, 20_000, bounds)).toBe(-1);
    });
  });
});
