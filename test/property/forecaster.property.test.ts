import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EnginePolicy, EngineSample } from '../../shared/domain/scaling-decision.ts';
import { restore, save } from '../../worker/forecaster/checkpoint.ts';
import { DemandForecaster } from '../../worker/forecaster/demand-forecaster.ts';
import { type Metric, ResourceForecaster, shapeOf } from '../../worker/forecaster/resource-forecaster.ts';
import { bytesOf, coarsePolicy } from '../support/forecast-input.ts';

const runs = { numRuns: 200 };
/** A day of eight steps, so that a short series has weeks. */
const shape = { stepMs: 10_800_000, horizonSteps: 2 };

/** Anything that may be measured, and nothing at all. */
const demand = fc.oneof(
  { weight: 6, arbitrary: fc.double({ min: 0, max: 100, noNaN: true }) },
  { weight: 2, arbitrary: fc.double({ min: 0, max: 1e6, noNaN: true }) },
  { weight: 2, arbitrary: fc.constantFrom(0, 1e-9, 7, 1e6) },
  { weight: 1, arbitrary: fc.constant(null) },
);
/** Short ones, and ones that repeat, as the forecaster likes to learn them. */
const series = fc.oneof(
  fc.array(demand, { minLength: 1, maxLength: 80 }),
  fc
    .tuple(fc.array(demand, { minLength: 1, maxLength: 16 }), fc.integer({ min: 2, max: 20 }))
    .map(([part, times]) => Array.from({ length: times }, () => part).flat()),
);
const predictions = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.constant(Number.NaN) },
    { weight: 2, arbitrary: fc.double({ min: 0, max: 1e6, noNaN: true }) },
  ),
  { minLength: 1, maxLength: 20 },
);
const risk = fc.constantFrom(0.001, 0.02, 0.1, 0.5);
const firstStep = fc.constantFrom(0, 7, 163_001);
const cases = fc.record({ demands: series, predicted: predictions, risk, from: firstStep });

type Case = typeof cases extends fc.Arbitrary<infer T> ? T : never;

function run(forecaster: DemandForecaster, given: Case, from: number, to: number, each = () => {}): void {
  for (let at = from; at < to; at++) {
    const value = given.demands[at] as number | null;
    const breached = value === null ? null : at % 5 === 0;
    const predicted = given.predicted[at % given.predicted.length] as number;
    forecaster.update(given.from + at, { demand: value, breached, predicted }, given.risk);
    each();
  }
}

describe('every forecast', () => {
  it('is made of finite numbers from 0 on, and of distributions that rise', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const forecaster = new DemandForecaster(shape);
        let sound = true;
        const isFine = (value: number) => Number.isFinite(value) && value >= 0;
        run(forecaster, given, 0, given.demands.length, () => {
          const { expected, planned, distribution, accuracy, weights, lastDemand } = forecaster;
          const total = Object.values(weights).reduce((sum, weight) => sum + weight, 0);
          sound &&=
            [expected, planned.upper, lastDemand, accuracy.meanAbsoluteError, forecaster.breachedShare].every(
              isFine,
            ) &&
            Object.values(weights).every(isFine) &&
            Math.abs(total - 1) < 1e-9 &&
            planned.risk > 0 &&
            planned.risk <= 2 * given.risk &&
            distribution.every(
              ([probability, value], index) =>
                probability > 0 &&
                probability < 1 &&
                isFine(value) &&
                probability >= (distribution[index - 1]?.[0] ?? 0) &&
                value >= (distribution[index - 1]?.[1] ?? 0),
            );
        });
        expect(sound).toBe(true);
      }),
      runs,
    );
  });

  it('rests on nothing but what a checkpoint holds: restored anywhere, it goes on bit for bit', () => {
    fc.assert(
      fc.property(cases, fc.nat(), (given, seed) => {
        const { length } = given.demands;
        const cut = seed % (length + 1);
        const first = new DemandForecaster(shape);
        run(first, given, 0, cut);
        const second = new DemandForecaster(shape);
        restore(second, save(first));
        run(first, given, cut, length);
        run(second, given, cut, length);
        expect(bytesOf(second)).toBe(bytesOf(first));
        expect(second.distribution).toEqual(first.distribution);
      }),
      runs,
    );
  });

  it('grows with the demand: twice as much work, twice the forecast', () => {
    // Far from the floors of scales, which are in instances; steady enough for weights not to hang on rounding.
    const shapes = fc.record({
      level: fc.double({ min: 5, max: 50, noNaN: true }),
      swing: fc.double({ min: 0.1, max: 0.5, noNaN: true }),
      noise: fc.array(fc.double({ min: -0.1, max: 0.1, noNaN: true }), { minLength: 7, maxLength: 31 }),
      factor: fc.constantFrom(0.5, 2, 3, 10, 100),
    });
    fc.assert(
      fc.property(shapes, ({ level, swing, noise, factor }) => {
        const plain = new DemandForecaster(shape);
        const scaled = new DemandForecaster(shape);
        let worst = 0;
        for (let at = 0; at < 120; at++) {
          const jitter = noise[(at * 5) % noise.length] as number;
          const value = level * (1 + swing * Math.sin((2 * Math.PI * at) / 8) + jitter);
          const rest = { breached: false, predicted: Number.NaN };
          plain.update(at, { demand: value, ...rest }, 0.02);
          scaled.update(at, { demand: value * factor, ...rest }, 0.02);
          if (at < 40) continue;
          worst = Math.max(
            worst,
            Math.abs(scaled.expected / (factor * plain.expected) - 1),
            Math.abs(scaled.upper(0.98) / (factor * plain.upper(0.98)) - 1),
            Math.abs(scaled.upper(0.3) / (factor * plain.upper(0.3)) - 1),
          );
        }
        expect(worst).toBeLessThan(1e-3);
      }),
      runs,
    );
  });
});

const ratio = fc.oneof(
  { weight: 8, arbitrary: fc.double({ min: 0, max: 1.2, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(0, 0.9, 0.98, 1, 100) },
  { weight: 1, arbitrary: fc.constant(null) },
);
/** Oldest first, one a step at most, with gaps of some steps; now and then one of weeks. */
const sampleLists: fc.Arbitrary<EngineSample[]> = fc
  .array(
    fc.record({
      after: fc.oneof(
        { weight: 12, arbitrary: fc.integer({ min: 1, max: 3 }) },
        { weight: 1, arbitrary: fc.constantFrom(40, 2_016, 2_017, 5_000) },
      ),
      cpuRatio: ratio,
      memoryRatio: ratio,
      instances: fc.integer({ min: 1, max: 50 }),
      requests: fc.option(fc.double({ min: 0, max: 1e5, noNaN: true }), { nil: null }),
    }),
    { minLength: 1, maxLength: 60 },
  )
  .map((rows) => {
    let step = 1_000;
    return rows.map(({ after, ...values }, index) => {
      step += after;
      // Anywhere within the step.
      return { atMs: step * 300_000 + ((index * 77_777) % 300_000), ...values };
    });
  });
const policies: fc.Arbitrary<EnginePolicy> = fc
  .record({
    toleratedRisk: risk,
    limitRatio: fc.constantFrom(0.5, 0.9, 1),
    stabilizationWindowMs: fc.constantFrom(0, 300_000, 3_600_000),
    provisioningDelayMs: fc.constantFrom(0, 300_000, 3_600_000),
  })
  .map(coarsePolicy);
const metricSets = fc.constantFrom<readonly Metric[]>(['cpu'], ['memory'], ['cpu', 'memory']);

describe('every forecast of a resource', () => {
  it('does not depend on how its samples were handed over', () => {
    fc.assert(
      fc.property(sampleLists, policies, metricSets, fc.nat(), (samples, limits, metrics, seed) => {
        const cut = seed % (samples.length + 1);
        const once = new ResourceForecaster(shapeOf(limits), metrics);
        const twice = new ResourceForecaster(shapeOf(limits), metrics);
        const taken = once.advance(samples, limits);
        const first = twice.advance(samples.slice(0, cut), limits);
        // What overlaps is not taken in again.
        const second = twice.advance(samples.slice(Math.max(0, cut - 5)), limits);
        expect(first + second).toBe(taken);
        expect(bytesOf(twice)).toBe(bytesOf(once));
      }),
      { numRuns: 60 },
    );
  });

  it('is plausible, and not changed by asking for it', () => {
    fc.assert(
      fc.property(sampleLists, policies, metricSets, (samples, limits, metrics) => {
        const forecaster = new ResourceForecaster(shapeOf(limits), metrics);
        forecaster.advance(samples, limits);
        const before = bytesOf(forecaster);
        const forecast = forecaster.forecast(limits);
        expect(forecast?.metrics.map(({ metric }) => metric)).toEqual(metrics);
        for (const each of forecast?.metrics ?? []) {
          const { windowHighest: window, halfHourHighest: halfHour } = each;
          const numbers = [each.demand, each.expected, each.upper, ...Object.values(halfHour)];
          expect(numbers.every((value) => Number.isFinite(value) && value >= 0)).toBe(true);
          expect(window.upper).toBeGreaterThanOrEqual(each.upper);
          expect(window.expected).toBeGreaterThanOrEqual(each.expected);
          expect(halfHour.upper).toBeGreaterThanOrEqual(each.upper);
          expect(each.distrust === null).toBe(each.trusted);
        }
        expect(forecaster.forecast(limits)).toEqual(forecast);
        expect(bytesOf(forecaster)).toBe(before);
        expect(JSON.parse(JSON.stringify(forecast))).toEqual(forecast);
      }),
      { numRuns: 60 },
    );
  });
});
