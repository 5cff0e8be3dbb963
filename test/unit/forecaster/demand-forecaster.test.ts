import { afterEach, describe, expect, it, vi } from 'vitest';
import { DemandForecaster } from '../../../worker/forecaster/demand-forecaster.ts';
import type { Moment } from '../../../worker/forecaster/expert.ts';
import { RegressionExpert } from '../../../worker/forecaster/regression-expert.ts';
import { feed, normals } from '../../support/forecast-input.ts';

const fiveMinutes = { stepMs: 300_000, horizonSteps: 2 };
const day = 288;
const sine = (at: number) => 10 + 6 * Math.sin((2 * Math.PI * at) / day);
/** Takes `count` demands in from a step on; `of` counts from 0. */
const feedSteps = (
  forecaster: DemandForecaster,
  from: number,
  count: number,
  of: (at: number) => number | null,
) => feed(forecaster, fill(count, of), from);
const fill = <T>(length: number, of: (at: number) => T) => Array.from({ length }, (_, at) => of(at));

/** Mean absolute error at the horizon over each whole day. */
function dailyErrors(forecaster: DemandForecaster, demands: readonly number[]): number[] {
  const said: number[] = [];
  feed(forecaster, demands, 0, () => said.push(forecaster.expected));
  const errors = demands.map((demand, at) =>
    Math.abs(demand - (said[at - forecaster.horizonSteps] ?? demand)),
  );
  return fill(demands.length / day, (index) => {
    const ofDay = errors.slice(index * day, (index + 1) * day);
    return ofDay.reduce((sum, error) => sum + error, 0) / day;
  });
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('DemandForecaster', () => {
  it('begins with the first value', () => {
    const forecaster = new DemandForecaster(fiveMinutes);
    feed(forecaster, [7], 1_000);
    expect(forecaster).toMatchObject({
      step: 1_000,
      observedSteps: 1,
      lastDemand: 7,
      expected: 7,
      residuals: 0,
    });
    // A quarter of the risk: 7 + 3 × 0.35 × (2 × 0.995 - 1), as a breach is worth 3.75 steps of the mean load.
    expect(forecaster.planned.upper).toBeGreaterThan(7);
    expect(forecaster.trusted).toBe(true);
  });

  it('counts residuals from the horizon on, one in five minutes', () => {
    const forecaster = new DemandForecaster({ stepMs: 60_000, horizonSteps: 3 });
    feedSteps(forecaster, 0, 103, () => 5);
    // Steps 3 to 102 have an outcome; 5, 10, .. 100 are pooled.
    expect(forecaster.residuals).toBe(20);
  });

  it('follows a level that shifts within a few steps, and learns the new one', () => {
    const forecaster = new DemandForecaster(fiveMinutes);
    const noise = normals(1);
    feedSteps(forecaster, 0, 3 * day, () => 10 + noise() / 5);
    feedSteps(forecaster, 3 * day, 6, () => 30 + noise() / 5);
    expect(forecaster.planned.upper).toBeGreaterThan(25);
    feedSteps(forecaster, 3 * day + 6, 2 * day, () => 30 + noise() / 5);
    expect(Math.abs(forecaster.expected - 30)).toBeLessThan(1);
  });

  it('knows a day after a day: the error of a sine falls to a fifth', () => {
    const errors = dailyErrors(new DemandForecaster(fiveMinutes), fill(4 * day, sine));
    // Carrying the last value forward two steps would err by 6 × 2 × (2π / 288) × (2 / π) = 0.17 on average.
    expect(errors[0]).toBeLessThan(0.17);
    for (const error of errors.slice(1)) expect(error).toBeLessThan((errors[0] as number) / 5);
  });

  it('sees a scheduled peak coming once it has come', () => {
    const peak = (at: number) => (at % day >= 100 && at % day < 112 ? 20 : 5);
    const forecaster = new DemandForecaster(fiveMinutes);
    const said: number[] = [];
    feed(forecaster, fill(3 * day, peak), 0, () => said.push(forecaster.expected));
    // Two steps before the peak, on the first day and on the third.
    expect(said[98]).toBeLessThan(6);
    expect(said[2 * day + 98]).toBeGreaterThan(15);
    const errors = dailyErrors(new DemandForecaster(fiveMinutes), fill(3 * day, peak));
    expect(errors[2]).toBeLessThan((errors[0] as number) / 4);
  });

  it('looks ahead as far as it is told to', () => {
    const near = new DemandForecaster(fiveMinutes);
    const far = new DemandForecaster({ ...fiveMinutes, horizonSteps: 24 });
    // At midnight of the sixth day demand rises: 24 steps on, the sine is at 10 + 6 × sin(30°) = 13.
    for (const forecaster of [near, far]) feed(forecaster, fill(5 * day + 1, sine));
    expect(Math.abs(near.expected - sine(2))).toBeLessThan(0.2);
    expect(Math.abs(far.expected - sine(24))).toBeLessThan(0.4);
  });

  it('knows weekdays after a week: a quiet Sunday is not taken for another Monday', () => {
    const week = (at: number) =>
      (Math.floor(at / day) % 7 === 6 ? 5 : 10) + Math.sin((2 * Math.PI * at) / day);
    const forecaster = new DemandForecaster(fiveMinutes);
    const errors = dailyErrors(forecaster, fill(28 * day, week));
    expect(errors[27]).toBeLessThan(0.3);
    expect(forecaster.trusted).toBe(true);
  });

  it('learns no errors from gaps: they are neither residuals nor outcomes nor breaches', () => {
    const forecaster = new DemandForecaster(fiveMinutes);
    const noise = normals(2);
    feedSteps(forecaster, 0, 200, () => 10 + noise());
    const { residuals, accuracy, observedSteps, breachedShare, lastDemand } = forecaster;
    const distribution = forecaster.distribution.map(([probability]) => probability);
    feedSteps(forecaster, 200, 100, () => null);
    expect(forecaster).toMatchObject({
      residuals,
      accuracy,
      observedSteps,
      breachedShare,
      lastDemand,
      step: 299,
    });
    expect(forecaster.distribution.map(([probability]) => probability)).toEqual(distribution);
    expect(Math.abs(forecaster.expected - lastDemand)).toBeLessThan(3);
  });

  it('compares nothing with a yesterday that it has not seen', () => {
    const changes: number[] = [];
    const forecast = RegressionExpert.prototype.forecast;
    vi.spyOn(RegressionExpert.prototype, 'forecast').mockImplementation(function (
      this: RegressionExpert,
      moment: Moment,
    ) {
      changes.push(moment.yesterdayChange);
      return forecast.call(this, moment);
    });
    feedSteps(new DemandForecaster(fiveMinutes), 0, day + 5, (at) => 1_000 + at);
    // At step 288 the first comparison is possible: demand rose by 2 from step 0 to step 2.
    expect(changes).toEqual([...fill(day, () => 0), 2, 2, 2, 2, 2]);
  });

  it('plans for less than the tolerated risk where that costs little, and for more once a week went well', () => {
    const noise = normals(3);
    const forecaster = new DemandForecaster(fiveMinutes);
    feedSteps(forecaster, 0, 9 * day, () => 10 + noise());
    // No breach in a week: up to 2 × 0.02.
    expect(forecaster.planned.risk).toBeGreaterThan(0);
    expect(forecaster.planned.risk).toBeLessThanOrEqual(0.04 + 1e-12);
    expect(forecaster.planned.upper).toBe(forecaster.upper(1 - forecaster.planned.risk));
    expect(forecaster.breachedShare).toBe(0);
  });

  it('plans with more room after breaches', () => {
    const plan = (breached: (at: number) => boolean) => {
      const noise = normals(4);
      const forecaster = new DemandForecaster(fiveMinutes);
      for (let at = 0; at < 7 * day; at++) {
        const demand = 10 + noise();
        forecaster.update(at, { demand, breached: breached(at), predicted: Number.NaN }, 0.02);
      }
      return forecaster.planned;
    };
    const calm = plan(() => false);
    const troubled = plan((at) => at % 20 === 0);
    expect(troubled.upper).toBeGreaterThan(calm.upper);
    // A quarter of the risk, of which at least a quarter is planned for.
    expect(troubled.risk).toBeLessThanOrEqual(0.02 / 4 + 1e-12);
  });

  it('states a distribution that rises, wider the further from the middle', () => {
    const noise = normals(5);
    const forecaster = new DemandForecaster(fiveMinutes);
    feedSteps(forecaster, 0, 5 * day, () => 20 + 2 * noise());
    const points = forecaster.distribution;
    for (const [index, [probability, demand]] of points.entries()) {
      expect(probability).toBeGreaterThanOrEqual(points[index - 1]?.[0] ?? 0);
      expect(demand).toBeGreaterThanOrEqual(points[index - 1]?.[1] ?? 0);
    }
    const atMost = (share: number) => points.find(([probability]) => probability >= share)?.[1] as number;
    // Normal with a deviation of 2, and a forecast that follows the noise a little.
    expect(Math.abs(atMost(0.5) - 20)).toBeLessThan(1);
    expect(atMost(0.9) - atMost(0.5)).toBeGreaterThan(1.5);
    expect(atMost(0.9) - atMost(0.5)).toBeLessThan(4.5);
  });

  it('lets predictions of another service lead where they have been right', () => {
    const noise = normals(6);
    const forecaster = new DemandForecaster({ stepMs: 300_000, horizonSteps: 1 });
    let next = 10;
    for (let at = 0; at < 2 * day; at++) {
      const demand = next;
      next = 10 + 2 * noise();
      forecaster.update(at, { demand, breached: false, predicted: next }, 0.02);
    }
    expect(forecaster.predictionWeight).toBeGreaterThan(0.99);
    expect(forecaster.weights.prediction).toBe(forecaster.predictionWeight);
    expect(forecaster.expected).toBeCloseTo(next, 2);
    // And goes on without them.
    forecaster.update(2 * day, { demand: next, breached: false, predicted: Number.NaN }, 0.02);
    expect(Math.abs(forecaster.expected - 10)).toBeLessThan(5);
    expect(Number.isFinite(forecaster.planned.upper)).toBe(true);
  });
});
