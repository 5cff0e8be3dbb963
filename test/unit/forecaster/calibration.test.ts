import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Calibration, interpolate, levels } from '../../../worker/forecaster/calibration.ts';
import { forAll } from '../../support/for-all.ts';
import { randoms } from '../../support/forecast-input.ts';

describe('interpolate', () => {
  const demands = [10, 20, 40];
  const probabilities = [0.1, 0.5, 0.9];
  const at = (demand: number) => interpolate(demands, 0, probabilities, demand);

  it('is a straight line between the points', () => {
    expect(at(15)).toBeCloseTo(0.3, 12);
    expect(at(20)).toBeCloseTo(0.5, 12);
    expect(at(30)).toBeCloseTo(0.7, 12);
  });

  it('is half of what is left beyond them', () => {
    expect(at(9.999)).toBe(0.05);
    expect(at(40.001)).toBe(0.95);
    expect(at(-1e9)).toBe(0.05);
    expect(at(1e9)).toBe(0.95);
  });

  it('only rises, and stays between 0 and 1, with ties as well', () => {
    const given = fc.record({
      demands: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 2, maxLength: 10 }),
      asked: fc.array(fc.double({ min: -1, max: 10, noNaN: true }), { minLength: 2, maxLength: 10 }),
    });
    forAll(200, [given], (values) => {
      const quantiles = values.demands.toSorted((a, b) => a - b);
      const shares = quantiles.map((_, index) => (index + 1) / (quantiles.length + 1));
      const said = values.asked
        .concat(quantiles)
        .sort((a, b) => a - b)
        .map((demand) => interpolate([7, 7, ...quantiles], 2, shares, demand));
      for (const [index, probability] of said.entries()) {
        expect(probability > 0 && probability < 1).toBe(true);
        if (index > 0) expect(probability).toBeGreaterThanOrEqual(said[index - 1] as number);
      }
    });
  });
});

describe('Calibration', () => {
  /** States that demand is spread evenly over 0 to 100, whatever comes. */
  const claimed = (index: number) => 100 * (levels[index] as number);
  const calibrated = (calibration: Calibration, level: number) =>
    calibration.calibratedAt(levels.indexOf(level));

  it('takes a probability as it is until there are fifty outcomes', () => {
    const calibration = new Calibration(1, 100);
    for (let count = 0; count < 50; count++) calibration.update(90, true, claimed);
    expect(calibrated(calibration, 0.7)).toBe(0.7);
    calibration.update(90, true, claimed);
    // All fifty were at 0.9 of the distribution: (0 + 0.5) / 51 and (50 + 0.5) / 51.
    expect(calibrated(calibration, 0.7)).toBeCloseTo(0.5 / 51, 12);
    expect(calibrated(calibration, 0.95)).toBeCloseTo(50.5 / 51, 12);
  });

  it('judges each outcome by what was forecast a horizon before', () => {
    const calibration = new Calibration(2, 100);
    // Only even steps claim the truth; an outcome two steps later is then in the middle.
    for (let step = 0; step < 120; step++) {
      calibration.update(50, true, step % 2 === 0 ? claimed : (index) => 1_000 + index);
    }
    // Half of the outcomes were at 0.5, half below the lowest claim.
    expect(calibrated(calibration, 0.4)).toBeCloseTo((50 + 0.5) / 101, 12);
    expect(calibrated(calibration, 0.6)).toBeCloseTo(100.5 / 101, 12);
  });

  it('does not count what was made up', () => {
    const calibration = new Calibration(1, 100);
    for (let count = 0; count < 99; count++) calibration.update(90, false, claimed);
    expect(calibrated(calibration, 0.7)).toBe(0.7);
  });

  it('leaves an honest distribution alone, and corrects one that claims too little spread', () => {
    const random = randoms(3);
    const honest = new Calibration(1, 2_000);
    const narrow = new Calibration(1, 2_000);
    for (let count = 0; count < 2_001; count++) {
      const demand = 100 * random();
      honest.update(demand, true, claimed);
      narrow.update(demand, true, (index) => 50 + (claimed(index) - 50) / 2);
    }
    for (const level of levels) {
      expect(Math.abs(calibrated(honest, level) - level)).toBeLessThan(0.04);
      const truth = 0.5 + (level - 0.5) / 2;
      expect(Math.abs(calibrated(narrow, level) - truth)).toBeLessThan(0.04);
    }
  });

  it('forgets the oldest outcome when the window is full, at every level', () => {
    const calibration = new Calibration(1, 60);
    const came: number[] = [];
    const random = randoms(8);
    calibration.update(50, true, claimed);
    for (let count = 0; count < 200; count++) {
      const place = 0.99 * random() + 0.005;
      came.push(place);
      calibration.update(100 * place, true, claimed);
    }
    for (const level of levels.slice(1, -1)) {
      const below = came.slice(-60).filter((place) => place < level).length;
      expect(calibrated(calibration, level)).toBeCloseTo((below + 0.5) / 61, 12);
    }
  });

  it('tells how often outcomes are under the lowest of the distribution', () => {
    const calibration = new Calibration(1, 100);
    for (let count = 0; count < 101; count++) calibration.update(count % 4 === 0 ? 0.5 : 60, true, claimed);
    expect(calibration.underLowest).toBeCloseTo(25.5 / 101, 12);
  });

  it('keeps levels that rise', () => {
    expect(levels.toSorted((a, b) => a - b)).toEqual(levels);
    expect(new Set(levels).size).toBe(levels.length);
    expect(levels.every((level) => level > 0 && level < 1)).toBe(true);
  });
});
