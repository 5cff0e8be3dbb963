import { describe, expect, it } from 'vitest';
import type { EngineSample } from '../../../worker/engine/types.ts';
import { ResourceForecaster, shapeOf } from '../../../worker/forecaster/resource-forecaster.ts';
import { policy } from '../../support/engine-input.ts';
import { bytesOf, coarsePolicy, normals, sampleAt } from '../../support/forecast-input.ts';

const limits = coarsePolicy();
const shape = shapeOf(limits);
const cpuOnly = () => new ResourceForecaster(shape, ['cpu']);
const day = 288;

/** One sample a step, of demand on ten instances. */
const steps = (count: number, demandAt: (step: number) => number, from = 0): EngineSample[] =>
  Array.from({ length: count }, (_, index) => ({
    atMs: (from + index + 0.5) * shape.stepMs,
    cpuRatio: demandAt(from + index) / 10,
    memoryRatio: null,
    instances: 10,
  }));
/** Takes in `count` such samples from a step on. @returns how many steps it has advanced by. */
const advance = (
  forecaster: ResourceForecaster,
  from: number,
  count: number,
  demandAt: (step: number) => number,
) => forecaster.advance(steps(count, demandAt, from), limits);
const only = (forecaster: ResourceForecaster, given = limits) => {
  const forecast = forecaster.forecast(given);
  if (forecast === null) throw new Error('no forecast');
  const [metric] = forecast.metrics;
  if (metric === undefined) throw new Error('no metric');
  return { ...forecast, metric };
};

describe('shapeOf', () => {
  it.each([
    // Never under 15 s.
    [5, 15],
    [15, 15],
    [20, 20],
    // 1,964 steps of 44 s do not divide a day of seconds: 1,920 do, of 45 s.
    [44, 45],
    [60, 60],
    [90, 90],
    [300, 300],
    [420, 432],
    [3_600, 3_600],
  ])('of decisions every %i s has steps of %i s', (interval, stepSeconds) => {
    const { stepMs } = shapeOf(policy({ decisionIntervalMs: interval * 1_000 }));
    expect(stepMs).toBe(stepSeconds * 1_000);
  });

  it.each([
    [60, null, 60],
    [60, 65, 60],
    [60, 90, 60],
    [60, 290, 300],
    [60, 300, 300],
    [60, 340, 300],
    [300, 60, 300],
    [300, 900, 900],
    [5, 3_600, 3_600],
  ])('of decisions every %i s and samples every %s s has steps of %i s', (interval, samples, stepSeconds) => {
    const shaped = shapeOf(
      policy({ decisionIntervalMs: interval * 1_000 }),
      samples === null ? null : samples * 1_000,
    );
    expect(shaped.stepMs).toBe(stepSeconds * 1_000);
  });

  it('divides a day into whole seconds, for every interval there may be', () => {
    for (let interval = 5; interval <= 3_600; interval++) {
      const { stepMs } = shapeOf(policy({ decisionIntervalMs: interval * 1_000 }));
      expect(86_400_000 % stepMs).toBe(0);
      expect(stepMs % 1_000).toBe(0);
      // Rounding to a count of steps may shorten a step by a few percent; never by a tenth.
      expect(stepMs).toBeGreaterThan(interval * 900);
      expect(stepMs).toBeLessThan(Math.max(15, interval) * 1_500);
    }
  });

  it.each([
    [0, 1],
    [1, 2],
    [60, 2],
    [120, 3],
    [121, 4],
    [3_600, 61],
  ])('looks ahead of a provisioning delay of %i s by %i steps of a minute', (delay, horizon) => {
    expect(shapeOf(policy({ provisioningDelayMs: delay * 1_000 })).horizonSteps).toBe(horizon);
  });
});

describe('ResourceForecaster', () => {
  it('knows nothing before the first sample', () => {
    expect(cpuOnly().forecast(limits)).toBeNull();
    expect(cpuOnly().newestMs).toBeNull();
    expect(cpuOnly().advance([], limits)).toBe(0);
  });

  it('names the times it is of and for', () => {
    const forecaster = cpuOnly();
    expect(advance(forecaster, 100, 3, () => 5)).toBe(3);
    expect(only(forecaster)).toMatchObject({
      madeAtMs: 102 * 300_000,
      forMs: 104 * 300_000,
      observedMs: 3 * 300_000,
      metric: {
        metric: 'cpu',
        demand: 5,
        capped: true,
        trusted: true,
        distrust: null,
        predictionWeight: null,
      },
    });
  });

  it('takes the mean of a step, in instances worth of work', () => {
    const forecaster = cpuOnly();
    const at = (offsetMs: number, cpuRatio: number, instances: number) =>
      ({ atMs: 300_000 + offsetMs, cpuRatio, memoryRatio: null, instances }) as const;
    expect(forecaster.advance([at(0, 0.5, 4), at(60_000, 1, 6), at(299_999, 0.25, 4)], limits)).toBe(1);
    expect(only(forecaster).metric.demand).toBe((2 + 6 + 1) / 3);
  });

  it('passes over samples without the metric within a step', () => {
    const forecaster = cpuOnly();
    const [first, second] = [sampleAt(forecaster, 1), sampleAt(forecaster, 1, { cpuRatio: null })];
    forecaster.advance([first, { ...second, atMs: second.atMs + 1, memoryRatio: 0.9 }], limits);
    expect(only(forecaster).metric.demand).toBe(2);
  });

  it('takes no step in twice: samples that come late, or again, change nothing', () => {
    const forecaster = cpuOnly();
    const samples = steps(50, (step) => 5 + (step % 3));
    forecaster.advance(samples, limits);
    const before = bytesOf(forecaster);
    expect(forecaster.advance(samples, limits)).toBe(0);
    expect(forecaster.advance([sampleAt(forecaster, 49, { cpuRatio: 0.99 })], limits)).toBe(0);
    expect(forecaster.advance([sampleAt(forecaster, 3, { cpuRatio: 0.99 })], limits)).toBe(0);
    expect(bytesOf(forecaster)).toBe(before);
  });

  it('lets a gap pass, and counts its steps but not its errors', () => {
    const forecaster = cpuOnly();
    advance(forecaster, 0, 40, () => 5);
    const { residuals } = only(forecaster).metric;
    expect(advance(forecaster, 50, 1, () => 5)).toBe(11);
    expect(forecaster.newestMs).toBe(50 * 300_000);
    expect(only(forecaster).observedMs).toBe(41 * 300_000);
    expect(only(forecaster).metric.residuals).toBe(residuals + 1);
  });

  it('starts again after more than a week of silence', () => {
    const week = 7 * day;
    const before = steps(400, () => 5);
    const patient = cpuOnly();
    patient.advance(before, limits);
    advance(patient, 399 + week, 1, () => 50);
    expect(only(patient).observedMs).toBe(401 * 300_000);
    const fresh = cpuOnly();
    advance(fresh, 400 + week, 1, () => 50);
    const again = cpuOnly();
    again.advance(before, limits);
    expect(advance(again, 400 + week, 1, () => 50)).toBe(1);
    expect(bytesOf(again)).toBe(bytesOf(fresh));
  });

  it('forecasts CPU and memory each on its own', () => {
    const both = new ResourceForecaster(shape, ['cpu', 'memory']);
    const cpu = cpuOnly();
    const memory = new ResourceForecaster(shape, ['memory']);
    const noise = normals(1);
    for (let step = 0; step < 300; step++) {
      const sample = sampleAt(both, step, {
        cpuRatio: 0.5 + noise() / 20,
        memoryRatio: 0.3 + (step % 10) / 50,
        instances: 4,
      });
      for (const forecaster of [both, cpu, memory]) forecaster.advance([sample], limits);
    }
    expect(both.metrics).toEqual(['cpu', 'memory']);
    expect(both.forecast(limits)?.metrics).toEqual([
      cpu.forecast(limits)?.metrics[0],
      memory.forecast(limits)?.metrics[0],
    ]);
  });

  it('counts a step above the limit as a breach', () => {
    const forecaster = cpuOnly();
    forecaster.advance(
      Array.from({ length: 100 }, (_, step) =>
        sampleAt(forecaster, step, { cpuRatio: step % 10 === 0 ? 0.91 : 0.9 }),
      ),
      limits,
    );
    expect(forecaster.detail('cpu')?.breachedShare).toBeCloseTo(0.1, 12);
    expect(forecaster.detail('memory')).toBeUndefined();
  });

  it('sees from requests what a saturated ratio hides, once it has seen twenty of both', () => {
    const learn = (forecaster: ResourceForecaster, count: number) => {
      // A hundred requests a second are one instance's worth.
      const samples = Array.from({ length: count }, (_, step) =>
        sampleAt(forecaster, step, { cpuRatio: 0.5, instances: 4, requests: 200 }),
      );
      forecaster.advance(samples, limits);
      const pinned = { cpuRatio: 1, instances: 4, requests: 900 };
      forecaster.advance([sampleAt(forecaster, count, pinned)], limits);
      return only(forecaster).metric.demand;
    };
    expect(learn(cpuOnly(), 20)).toBeCloseTo(9, 12);
    expect(learn(cpuOnly(), 19)).toBe(4);
  });

  it('learns nothing of requests while saturated, and never takes demand for less than is seen', () => {
    const forecaster = cpuOnly();
    const feedOne = (step: number, cpuRatio: number, requests: number | null) =>
      forecaster.advance([sampleAt(forecaster, step, { cpuRatio, instances: 4, requests })], limits);
    for (let step = 0; step < 20; step++) feedOne(step, 0.5, 200);
    for (let step = 20; step < 60; step++) feedOne(step, 0.98, 9_000);
    feedOne(60, 1, 100);
    expect(only(forecaster).metric.demand).toBe(4);
    feedOne(61, 1, null);
    expect(only(forecaster).metric.demand).toBe(4);
    feedOne(62, 1, 800);
    expect(only(forecaster).metric.demand).toBeCloseTo(8, 12);
  });

  it('knows a metric without a ceiling by a ratio well above 1', () => {
    const forecaster = cpuOnly();
    forecaster.advance([sampleAt(forecaster, 1, { cpuRatio: 1.05 })], limits);
    expect(only(forecaster).metric.capped).toBe(true);
    forecaster.advance([sampleAt(forecaster, 2, { cpuRatio: 1.06 })], limits);
    forecaster.advance([sampleAt(forecaster, 3, { cpuRatio: 0.2 })], limits);
    expect(only(forecaster).metric.capped).toBe(false);
  });

  it('remembers the highest plan of the window and of an hour', () => {
    const forecaster = cpuOnly();
    const plans: { upper: number; expected: number }[] = [];
    const noise = normals(4);
    for (let step = 0; step < 200; step++) {
      advance(forecaster, step, 1, () => Math.max(1, 5 + noise()));
      const { upper, expected } = only(forecaster).metric;
      plans.push({ upper, expected });
    }
    const most = (count: number) => ({
      upper: Math.max(...plans.slice(-count).map((plan) => plan.upper)),
      expected: Math.max(...plans.slice(-count).map((plan) => plan.expected)),
    });
    const highest = (stabilizationWindowMs: number) =>
      only(forecaster, coarsePolicy({ stabilizationWindowMs })).metric;
    // The window and the step that begins it, and never less than the horizon of two steps.
    expect(highest(600_000).windowHighest).toEqual(most(3));
    expect(highest(0).windowHighest).toEqual(most(2));
    expect(highest(600_000).hourHighest).toEqual(most(12));
    // As long as a window may be: an hour.
    expect(highest(3_600_000).windowHighest).toEqual(most(13));
    expect(highest(3_600_000).hourHighest).toEqual(most(12));
  });

  it('counts demand in instances of today', () => {
    const [asNow, then] = [cpuOnly(), cpuOnly()];
    const noise = normals(6);
    for (let step = 0; step < 400; step++) {
      const cpuRatio = Math.max(0.1, 0.5 + noise() / 20);
      asNow.advance([sampleAt(asNow, step, { cpuRatio, instances: 4 })], limits);
      // Twice as many of half the size, at the same utilisation.
      then.advance([sampleAt(then, step, { cpuRatio, instances: 8, cpuWorth: 0.5 })], limits);
    }
    expect(then.forecast(limits)).toEqual(asNow.forecast(limits));
  });

  it('remembers plans for the whole horizon, however long steps and provisioning are', () => {
    const slow = coarsePolicy({ decisionIntervalMs: 1_800_000, provisioningDelayMs: 3_600_000 });
    const forecaster = new ResourceForecaster(shapeOf(slow), ['cpu']);
    expect(forecaster.shape).toEqual({ stepMs: 1_800_000, horizonSteps: 3 });
    const uppers: number[] = [];
    for (const cpuRatio of [0.9, 0.2, 0.1]) {
      forecaster.advance([sampleAt(forecaster, uppers.length, { cpuRatio })], slow);
      uppers.push(only(forecaster, slow).metric.upper);
    }
    expect(only(forecaster, slow).metric.windowHighest.upper).toBe(Math.max(...uppers));
  });

  it('is not changed by being asked', () => {
    const forecaster = cpuOnly();
    advance(forecaster, 0, 300, (step) => 5 + (step % 7));
    const before = bytesOf(forecaster);
    const first = forecaster.forecast(limits);
    expect(forecaster.forecast(limits)).toEqual(first);
    forecaster.forecast(policy({ stabilizationWindowMs: 3_600_000 }));
    expect(bytesOf(forecaster)).toBe(before);
  });

  it('gives a prediction to the newest step only, and says what predictions are worth after twenty', () => {
    const forecaster = cpuOnly();
    const noise = normals(5);
    const demands = Array.from({ length: 60 }, () => 5 + noise());
    const take = (step: number) => {
      const [sample] = steps(1, () => demands[step] as number, step) as [EngineSample];
      forecaster.advance([sample], limits, { cpu: demands[step + 2] as number });
    };
    for (let step = 0; step < 21; step++) take(step);
    // The prediction of step 18 was the last whose time has come.
    expect(only(forecaster).metric.predictionWeight).toBeNull();
    take(21);
    expect(only(forecaster).metric.predictionWeight).toBeGreaterThan(0.9);
    expect(only(forecaster).metric.expected).toBeCloseTo(demands[23] as number, 1);
  });

  it('says why it is not trusted', () => {
    const forecaster = cpuOnly();
    // Spikes twice the usual, in a fifth of the steps, at random: more than any bound made for 2 % could cover.
    const risky = coarsePolicy({ toleratedRisk: 0.4 });
    const noise = normals(6);
    forecaster.advance(
      steps(900, () => (noise() > 0.85 ? 9 : 1)),
      risky,
    );
    const { trusted, distrust } = only(forecaster, risky).metric;
    if (trusted) expect(distrust).toBeNull();
    else expect(distrust).toMatch(/^over the last day \d+% of outcomes were above its bound/);
  });
});
