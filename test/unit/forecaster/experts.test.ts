import { describe, expect, it } from 'vitest';
import { HoltWintersExpert } from '../../../worker/forecaster/holt-winters-expert.ts';
import { PredictedExpert } from '../../../worker/forecaster/predicted-expert.ts';
import { ProfileExpert } from '../../../worker/forecaster/profile-expert.ts';
import { RegressionExpert } from '../../../worker/forecaster/regression-expert.ts';
import { SmoothingExpert } from '../../../worker/forecaster/smoothing-expert.ts';
import { moment, normals, randoms } from '../../support/forecast-input.ts';

describe('SmoothingExpert', () => {
  it('carries the level forward', () => {
    const expert = new SmoothingExpert(0.3);
    expect(expert.forecast(moment({ demand: 10 }))).toBe(10);
    expect(expert.forecast(moment({ demand: 20 }))).toBe(13);
    expect(expert.forecast(moment({ demand: 3 }))).toBe(10);
    expect(expert.name).toBe('ses_0.3');
  });
});

describe('PredictedExpert', () => {
  it('says what it is told, and has no opinion otherwise', () => {
    expect(new PredictedExpert().forecast(moment({ demand: 3, predicted: 7 }))).toBe(7);
    expect(new PredictedExpert().forecast(moment({ demand: 3 }))).toBeNaN();
  });
});

describe('ProfileExpert', () => {
  const known = { knowsDay: true, profileNow: 10, profileAhead: 14 };

  it('is the level until a day is known', () => {
    const expert = new ProfileExpert(2);
    expect(expert.forecast(moment({ demand: 10 }))).toBe(10);
    expect(expert.forecast(moment({ demand: 20 }))).toBeCloseTo(17, 12);
  });

  it('adds to the usual what is left of the deviation', () => {
    // 14 + 0.995² × (12 - 10).
    expect(new ProfileExpert(2).forecast(moment({ demand: 12, ...known }))).toBeCloseTo(15.98005, 12);
  });

  it('never goes below nothing', () => {
    const falling = { knowsDay: true, profileNow: 10, profileAhead: 1 };
    expect(new ProfileExpert(1).forecast(moment({ demand: 2, ...falling }))).toBe(0);
  });
});

/**
 * The damped additive method as it stands in Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd
 * ed., 8.3 and 8.4: in component form, with the season learnt from y - l_t as their note there gives it. The first day
 * starts it: the season is that day less its mean, the level an exponential mean of the day less the last season.
 */
function holtWinters(values: readonly number[], slots: number, ahead: number): number[] {
  const [alpha, beta, gamma, phi] = [0.4, 0.01, 0.2, 0.98];
  const firstDay = values.slice(0, slots);
  const mean = firstDay.reduce((sum, value) => sum + value, 0) / slots;
  const season = firstDay.map((value) => value - mean);
  const raw = firstDay.reduce((level, value) => alpha * value + (1 - alpha) * level);
  let level = raw - (season.at(-1) as number);
  let trend = 0;
  const damped = Array.from({ length: ahead }, (_, index) => phi ** (index + 1)).reduce((a, b) => a + b, 0);
  const forecastAt = (at: number) =>
    Math.max(0, level + damped * trend + (season[(at + ahead) % slots] as number));
  const forecasts = [forecastAt(slots - 1)];
  for (let at = slots; at < values.length; at++) {
    const value = values[at] as number;
    const usual = season[at % slots] as number;
    const before = level;
    level = alpha * (value - usual) + (1 - alpha) * (before + phi * trend);
    trend = beta * (level - before) + (1 - beta) * phi * trend;
    season[at % slots] = gamma * (value - level) + (1 - gamma) * usual;
    forecasts.push(forecastAt(at));
  }
  return forecasts;
}

describe('HoltWintersExpert', () => {
  const slots = 24;
  const run = (expert: HoltWintersExpert, values: readonly number[], ahead: number) =>
    values.map((demand, at) =>
      expert.forecast(moment({ demand, slot: at % slots, slotAhead: (at + ahead) % slots })),
    );

  it.each([1, 3, 30])('agrees with the textbook, %i steps ahead', (ahead) => {
    const noise = normals(ahead);
    const values = Array.from({ length: 6 * slots }, (_, at) =>
      Math.max(0, 10 + 6 * Math.sin((2 * Math.PI * at) / slots) + at / 50 + noise()),
    );
    const said = run(new HoltWintersExpert(ahead, slots), values, ahead).slice(slots - 1);
    const expected = holtWinters(values, slots, ahead);
    expect(said).toHaveLength(expected.length);
    // The season is kept in single precision.
    for (const [index, value] of said.entries()) expect(value).toBeCloseTo(expected[index] as number, 4);
  });

  it('is the level on the first day', () => {
    const said = run(new HoltWintersExpert(1, slots), [10, 20, 5], 1);
    expect(said).toEqual([10, 14, 14 + 0.4 * (5 - 14)]);
  });

  it('never goes below nothing', () => {
    const drop = [...Array.from({ length: slots }, (_, at) => (at === 3 ? 0 : 10)), 0, 0, 0];
    expect(run(new HoltWintersExpert(1, slots), drop, 1).every((value) => value >= 0)).toBe(true);
  });
});

describe('RegressionExpert', () => {
  it('says the level before it has learnt anything', () => {
    const expert = new RegressionExpert(2);
    expect(expert.forecast(moment({ demand: 10 }))).toBe(10);
    // SES 0.6, at a half on the second step: max(0.6, 1/2).
    expect(expert.forecast(moment({ demand: 20 }))).toBe(16);
  });

  it('expects half of what the day profile does, to begin with', () => {
    const rising = { knowsDay: true, profileNow: 10, profileAhead: 10.004 };
    // The scale is a thousandth of the level: 0.01. 10 + 0.5 × 0.004.
    expect(new RegressionExpert(1).forecast(moment({ demand: 10, ...rising }))).toBeCloseTo(10.002, 9);
  });

  it('learns a linear relation: what comes is the profile change, and it says so', () => {
    // Demand is a walk whose next step the day profile announces: y(t+1) - y(t) = P(t+1) - P(t).
    const random = randoms(7);
    const expert = new RegressionExpert(1);
    let demand = 100;
    let before = 0;
    let errors = 0;
    let changes = 0;
    for (let step = 0; step < 4_000; step++) {
      if (step >= 3_000) {
        errors += Math.abs(demand - before);
        changes += 1;
      }
      const change = random() * 4 - 2;
      before = expert.forecast(
        moment({ demand, knowsDay: true, profileNow: demand, profileAhead: demand + change }),
      );
      demand += change;
    }
    // The mean change is 1: an expert that only carried the value forward would err by that.
    expect(errors / changes).toBeLessThan(0.02);
  });

  it('learns the opposite as well: a profile that is always wrong is turned round', () => {
    const random = randoms(8);
    const expert = new RegressionExpert(1);
    let demand = 100;
    let before = 0;
    let errors = 0;
    for (let step = 0; step < 4_000; step++) {
      if (step >= 3_000) errors += Math.abs(demand - before) / 1_000;
      const change = random() * 4 - 2;
      before = expert.forecast(
        moment({ demand, knowsDay: true, profileNow: demand, profileAhead: demand - change }),
      );
      demand += change;
    }
    expect(errors).toBeLessThan(0.02);
  });

  it('starts its covariance again where that winds up, and stays finite for months of nothing new', () => {
    const expert = new RegressionExpert(1);
    const [, covariance] = expert.state() as [Float64Array, Float64Array];
    const trace = () =>
      Array.from({ length: 9 }, (_, i) => covariance[i * 10] as number).reduce((a, b) => a + b);
    const noise = normals(3);
    let resets = 0;
    let last = trace();
    expect(last).toBe(9);
    let least = Number.POSITIVE_INFINITY;
    let most = 0;
    for (let step = 0; step < 40_000; step++) {
      // Only the bias and the level differences are excited: the other directions forget, and grow by 1 / 0.999 a step.
      least = Math.min(least, expert.forecast(moment({ demand: Math.max(0, 10 + noise()) })));
      const next = trace();
      most = Math.max(most, next, -next);
      if (next < last / 10) resets++;
      last = next;
    }
    expect(least).toBeGreaterThanOrEqual(0);
    expect(most).toBeLessThanOrEqual(1_000);
    // Five idle directions of 1 reach a trace of 1,000 after ln(200) / 0.001 = 5,300 steps: about seven times in 40,000.
    expect(resets).toBeGreaterThanOrEqual(5);
    expect(resets).toBeLessThanOrEqual(9);
  });

  it('is not carried away by one outlier, and forgets it', () => {
    const expert = new RegressionExpert(1);
    const noise = normals(5);
    const say = (demand: number) => expert.forecast(moment({ demand }));
    for (let step = 0; step < 500; step++) say(10 + noise() / 10);
    say(10_000);
    const errors = Array.from({ length: 1_000 }, () => Math.abs(say(10 + noise() / 10) - 10));
    // The slow levels take their time: what is left of it after 50 steps is under a hundredth.
    expect(Math.max(...errors.slice(50, 100))).toBeLessThan(100);
    expect(Math.max(...errors.slice(900))).toBeLessThan(0.5);
  });
});
