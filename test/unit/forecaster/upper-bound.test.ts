import { describe, expect, it } from 'vitest';
import { type BoundStep, pinball, UpperBound } from '../../../worker/forecaster/upper-bound.ts';
import { normals } from '../../support/forecast-input.ts';

const levels = [0.1, 0.5, 0.75, 0.98];
const options = { horizonSteps: 1, slotsPerDay: 288, poolSize: 2_016, slotRadius: 4, levels };
const step = (values: Partial<BoundStep> = {}): BoundStep => ({
  demand: 10,
  level: 10,
  slot: 0,
  slotAhead: 1,
  observed: true,
  disagreement: 0,
  pooled: true,
  risk: 0.02,
  ...values,
});

describe('pinball', () => {
  it('weighs what is missed by 1 - risk and what is too much by risk', () => {
    expect(pinball(12, 10, 0.02)).toBeCloseTo(1.96, 12);
    expect(pinball(10, 12, 0.02)).toBeCloseTo(0.04, 12);
    expect(pinball(10, 10, 0.02)).toBe(0);
  });
});

describe('UpperBound', () => {
  it.each([true, false])('takes three scales while there are no residuals (scaled: %s)', (scaled) => {
    const bound = new UpperBound({ ...options, scaled });
    bound.update(step(), 10);
    // The scale is at least a twentieth of the forecast: 10 + 3 × 0.5 × (2p - 1).
    expect(bound.at(0.98)).toBeCloseTo(11.44, 12);
    expect(bound.at(0.75)).toBeCloseTo(10.75, 12);
    // A median is no margin.
    expect(bound.at(0.5)).toBe(10);
    expect(bound.at(0.1)).toBe(10);
  });

  it('takes the mean error upwards as the scale then, where that is more', () => {
    const raw = new UpperBound({ ...options, scaled: false });
    raw.update(step(), 10);
    raw.update(step({ demand: 12 }), 10);
    raw.update(step({ demand: 6 }), 10);
    // Errors of 2 and -4, upwards 2 and 0: a mean of 2, as only one side counts. 10 + 3 × 2 × 0.96.
    expect(raw.residuals).toBe(2);
    expect(raw.at(0.98)).toBeCloseTo(15.76, 12);
    const scaled = new UpperBound({ ...options, scaled: true });
    scaled.update(step(), 10);
    scaled.update(step({ demand: 12 }), 10);
    scaled.update(step({ demand: 6 }), 10);
    // 0.03 × 10, and 0.4 + 0.2 + 0.4 (no day is known: the slow mean stands in) of the mean of before this step's error:
    // that of the error of 2 alone, twice.
    expect(scaled.at(0.98)).toBeCloseTo(10 + 3 * (0.3 + 4) * 0.96, 12);
  });

  it('is wider where the experts differ, when it is scaled', () => {
    const marginAt = (scaled: boolean, disagreement: number) => {
      const bound = new UpperBound({ ...options, scaled });
      for (let error = 0; error <= 40; error++) bound.update(step({ demand: 8 + (error % 5) }), 10);
      bound.update(step({ demand: 10, disagreement }), 10);
      return bound.at(0.98) - 10;
    };
    expect(marginAt(true, 4)).toBeGreaterThan(1.5 * marginAt(true, 0));
    expect(marginAt(false, 4)).toBe(marginAt(false, 0));
  });

  it('makes no margin of demand that stays under the forecast', () => {
    const margin = (demand: (index: number) => number) => {
      const bound = new UpperBound({ ...options, scaled: true });
      for (let index = 0; index < 15; index++) bound.update(step({ demand: demand(index) }), 10);
      return bound.at(0.98) - 10;
    };
    // The least there is: a twentieth of the forecast.
    expect(margin((index) => 10 - index / 2)).toBeCloseTo(3 * 0.5 * 0.96, 12);
    expect(margin((index) => 10 + index / 2)).toBeGreaterThan(10);
  });

  it('is the forecast plus the quantile of its errors once there are twenty', () => {
    const bound = new UpperBound({ ...options, scaled: false });
    bound.update(step(), 10);
    for (let error = -10; error < 9; error++) bound.update(step({ demand: 10 + error }), 10);
    expect(bound.residuals).toBe(19);
    expect(bound.at(0.5)).toBe(10);
    bound.update(step({ demand: 19 }), 20);
    // Errors -10 .. 9: rank ceil(0.9 × 21) = 19 is 8, rank ceil(0.5 × 21) = 11 is 0, the last of all is 9.
    expect(bound.residuals).toBe(20);
    expect(bound.at(0.9)).toBe(28);
    expect(bound.at(0.5)).toBe(20);
    expect(bound.at(0.98)).toBe(29);
  });

  it('pools only what was observed, at the steps meant for it', () => {
    const bound = new UpperBound({ ...options, scaled: false });
    bound.update(step(), 10);
    bound.update(step({ demand: 99, observed: false }), 10);
    bound.update(step({ demand: 99, pooled: false }), 10);
    expect(bound.residuals).toBe(0);
    bound.update(step(), 10);
    expect(bound.residuals).toBe(1);
  });

  it('never promises less than half of the forecast', () => {
    const bound = new UpperBound({ ...options, scaled: false });
    for (let count = 0; count < 40; count++) bound.update(step({ demand: 1 }), 10);
    expect(bound.at(0.98)).toBe(5);
  });

  it('keeps the mean pinball loss of what it promised', () => {
    const bound = new UpperBound({ ...options, scaled: false });
    bound.update(step(), 10);
    expect(bound.loss).toBe(0);
    bound.update(step({ demand: 12 }), 10);
    // 11.44 was promised at a risk of 0.02: 0.98 × 0.56.
    expect(bound.loss).toBeCloseTo(0.5488, 12);
    bound.update(step({ demand: 999, observed: false }), 10);
    expect(bound.loss).toBeCloseTo(0.5488, 12);
  });

  it.each([
    [true, 0.1],
    [true, 0.02],
    [false, 0.1],
    [false, 0.02],
  ])('is exceeded as often as it says, on noise (scaled: %s, risk %d)', (scaled, risk) => {
    const bound = new UpperBound({ ...options, horizonSteps: 2, scaled });
    const noise = normals(scaled ? 11 : 12);
    const due: number[] = [];
    const steps = 40_000;
    let missed = 0;
    let counted = 0;
    for (let at = 0; at < steps; at++) {
      const demand = 20 + 2 * noise();
      if (at >= 2_500) {
        counted++;
        if (demand > (due[at - 2] as number)) missed++;
      }
      bound.update(step({ demand, risk, slot: at % 288, slotAhead: (at + 2) % 288 }), 20);
      due.push(bound.at(1 - risk));
    }
    // Binomial, plus what the pools themselves vary by: each rests on 2,016 residuals, and there are about 18 of them.
    const variance = risk * (1 - risk) * (1 / counted + 1 / 2_016 / (counted / 2_016));
    expect(Math.abs(missed / counted - risk)).toBeLessThan(3 * Math.sqrt(variance));
  });

  it('knows when a service is unpredictable: the scaled bound is wide at that time of day only', () => {
    const bound = new UpperBound({ ...options, scaled: true });
    const noise = normals(13);
    const widths: [number, number] = [0, 0];
    for (let at = 0; at < 288 * 10; at++) {
      const noisy = at % 288 >= 144;
      const demand = 20 + (noisy ? 4 : 0.4) * noise();
      bound.update(step({ demand, level: 20, slot: at % 288, slotAhead: (at + 1) % 288 }), 20);
      if (at === 288 * 9 + 72) widths[0] = bound.at(0.98) - 20;
      if (at === 288 * 9 + 216) widths[1] = bound.at(0.98) - 20;
    }
    expect(widths[1]).toBeGreaterThan(1.8 * widths[0]);
  });

  it.each([true, false])('forgets errors of before when it is told to (scaled: %s)', (scaled) => {
    const bound = new UpperBound({ ...options, scaled });
    const noise = normals(9);
    for (let count = 0; count < 400; count++) {
      bound.update(step({ demand: 50 + 10 * noise(), level: 50, slot: count % 288 }), 50);
    }
    for (let count = 400; count < 472; count++) {
      bound.update(step({ demand: 1 + 0.1 * noise(), level: 1, slot: count % 288 }), 1);
    }
    expect(bound.at(0.98) - 1).toBeGreaterThan(3);
    bound.forget(60);
    expect(bound.residuals).toBe(60);
    bound.update(step({ demand: 1, level: 1, slot: 184 }), 1);
    expect(bound.at(0.98) - 1).toBeLessThan(scaled ? 1.5 : 0.4);
  });

  it.each([true, false])('says the same of a level as of its probability (scaled: %s)', (scaled) => {
    const bound = new UpperBound({ ...options, poolSize: 30, scaled });
    const noise = normals(4);
    for (let count = 0; count < 80; count++) {
      bound.update(step({ demand: 10 + noise() }), 10 + noise());
      for (const [index, level] of levels.entries()) expect(bound.atLevel(index)).toBe(bound.at(level));
    }
  });
});
