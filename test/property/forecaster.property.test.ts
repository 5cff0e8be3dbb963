import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide } from '../../worker/engine/decide.ts';
import type { EngineForecast, EngineInput, EnginePolicy, EngineSample } from '../../worker/engine/types.ts';
import { restore, save } from '../../worker/forecaster/checkpoint.ts';
import { DemandForecaster } from '../../worker/forecaster/demand-forecaster.ts';
import { type Metric, ResourceForecaster, shapeOf } from '../../worker/forecaster/resource-forecaster.ts';
import { minutes, now, policy } from '../support/engine-input.ts';
import { forAll } from '../support/for-all.ts';
import { bytesOf, coarsePolicy, engineForecast, metricForecast } from '../support/forecast-input.ts';

const runs = 200;
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
  it('is made of finite numbers from 0 on, and of distributions that rise', () =>
    forAll(runs, [cases], (given) => {
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
    }));

  it('rests on nothing but what a checkpoint holds: restored anywhere, it goes on bit for bit', () =>
    forAll(runs, [cases, fc.nat()], (given, seed) => {
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
    }));

  it('grows with the demand: twice as much work, twice the forecast', () => {
    // Far from the floors of scales, which are in instances; steady enough for weights not to hang on rounding.
    const shapes = fc.record({
      level: fc.double({ min: 5, max: 50, noNaN: true }),
      swing: fc.double({ min: 0.1, max: 0.5, noNaN: true }),
      noise: fc.array(fc.double({ min: -0.1, max: 0.1, noNaN: true }), { minLength: 7, maxLength: 31 }),
      factor: fc.constantFrom(0.5, 2, 3, 10, 100),
    });
    forAll(runs, [shapes], ({ level, swing, noise, factor }) => {
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
    });
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
  it('does not depend on how its samples were handed over', () =>
    forAll(60, [sampleLists, policies, metricSets, fc.nat()], (samples, limits, metrics, seed) => {
      const cut = seed % (samples.length + 1);
      const once = new ResourceForecaster(shapeOf(limits), metrics);
      const twice = new ResourceForecaster(shapeOf(limits), metrics);
      const taken = once.advance(samples, limits);
      const first = twice.advance(samples.slice(0, cut), limits);
      // What overlaps is not taken in again.
      const second = twice.advance(samples.slice(Math.max(0, cut - 5)), limits);
      expect(first + second).toBe(taken);
      expect(bytesOf(twice)).toBe(bytesOf(once));
    }));

  it('is plausible, and not changed by asking for it', () =>
    forAll(60, [sampleLists, policies, metricSets], (samples, limits, metrics) => {
      const forecaster = new ResourceForecaster(shapeOf(limits), metrics);
      forecaster.advance(samples, limits);
      const before = bytesOf(forecaster);
      const forecast = forecaster.forecast(limits);
      expect(forecast?.metrics.map(({ metric }) => metric)).toEqual(metrics);
      for (const each of forecast?.metrics ?? []) {
        const { windowHighest: window, hourHighest: hour } = each;
        const numbers = [each.demand, each.expected, each.upper, ...Object.values(hour)];
        expect(numbers.every((value) => Number.isFinite(value) && value >= 0)).toBe(true);
        expect(window.upper).toBeGreaterThanOrEqual(each.upper);
        expect(window.expected).toBeGreaterThanOrEqual(each.expected);
        expect(hour.upper).toBeGreaterThanOrEqual(each.upper);
        expect(each.distrust === null).toBe(each.trusted);
      }
      expect(forecaster.forecast(limits)).toEqual(forecast);
      expect(bytesOf(forecaster)).toBe(before);
      expect(JSON.parse(JSON.stringify(forecast))).toEqual(forecast);
    }));
});

const pair = fc.record({
  upper: fc.double({ min: 0, max: 60, noNaN: true }),
  expected: fc.double({ min: 0, max: 60, noNaN: true }),
});
/** Plans as a forecaster makes them: the window's highest is at least the plan, an hour's at least the window's. */
const metricForecasts = fc
  .record({
    plan: pair,
    window: pair,
    hour: pair,
    capped: fc.boolean(),
    trusted: fc.constantFrom(true, true, true, true, false),
    residuals: fc.constantFrom(19, 20, 60, 500, 2_016),
    points: fc.array(fc.tuple(fc.double({ min: 0.001, max: 0.999, noNaN: true }), fc.nat(60)), {
      minLength: 1,
      maxLength: 28,
    }),
    predictionWeight: fc.constantFrom(null, 0, 0.5),
  })
  .map(({ plan, window, hour, points, ...values }) => {
    const windowHighest = highest(plan, window);
    const probabilities = points.map(([probability]) => probability).sort((a, b) => a - b);
    const demands = points.map(([, each]) => each).sort((a, b) => a - b);
    return metricForecast({
      ...values,
      ...plan,
      windowHighest,
      hourHighest: highest(windowHighest, hour),
      distribution: probabilities.map(
        (probability, index) => [probability, demands[index] as number] as const,
      ),
    });
  });
type Pair = { readonly upper: number; readonly expected: number };
const highest = (one: Pair, other: Pair): Pair => ({
  upper: Math.max(one.upper, other.upper),
  expected: Math.max(one.expected, other.expected),
});

const forecasts: fc.Arbitrary<EngineForecast> = fc
  .record({
    cpu: metricForecasts,
    memory: fc.option(metricForecasts, { nil: null }),
    ageMs: fc.constantFrom(0, 60_000, 900_000),
    observedMs: fc.constantFrom(3_600_000, 86_400_000),
  })
  .map(({ cpu, memory, ageMs, observedMs }) =>
    engineForecast(memory === null ? [cpu] : [cpu, { ...memory, metric: 'memory' }], {
      madeAtMs: now - ageMs,
      observedMs,
    }),
  );

const measuredRatio = fc.oneof(
  fc.double({ min: 0, max: 1.5, noNaN: true }),
  fc.constantFrom(0, 0.63, 0.7, 0.9, 0.98, 1),
);
/** One a minute; now and then some are missing, old or incomplete. */
const measured: fc.Arbitrary<EngineSample[]> = fc
  .record({
    values: fc.array(fc.tuple(measuredRatio, measuredRatio, fc.integer({ min: 1, max: 60 })), {
      minLength: 1,
      maxLength: 15,
    }),
    memory: fc.constantFrom('all', 'none', 'old'),
    ageMs: fc.constantFrom(0, 0, 0, 0, 200_000, 1_000_000),
    spoilt: fc.constantFrom(false, false, false, true),
  })
  .map(({ values, memory, ageMs, spoilt }) =>
    minutes(values.length, (index) => {
      const [cpuRatio, memoryRatio, instances] = values[index] as [number, number, number];
      const newest = index === values.length - 1;
      return {
        atMs: now - ageMs - (values.length - 1 - index) * 60_000,
        cpuRatio: spoilt && newest ? Number.NaN : cpuRatio,
        memoryRatio: memory === 'none' || (memory === 'old' && newest) ? null : memoryRatio,
        instances,
      };
    }),
  );
const limitsOfAll: fc.Arbitrary<EnginePolicy> = fc
  .record({
    planning: fc.constantFrom('risk' as const, 'target' as const),
    minInstances: fc.integer({ min: 0, max: 20 }),
    span: fc.integer({ min: 0, max: 60 }),
    maxScaleUpStep: fc.constantFrom(1, 5, 100),
    maxScaleDownStep: fc.constantFrom(1, 5, 100),
    targetCpuRatio: fc.double({ min: 0.2, max: 1, noNaN: true }),
    limitRatio: fc.double({ min: 0.3, max: 1, noNaN: true }),
    stabilizationWindowMs: fc.constantFrom(0, 300_000, 900_000),
  })
  .map(({ span, ...values }) => policy({ ...values, maxInstances: values.minInstances + span }));
const inputs: fc.Arbitrary<EngineInput> = fc
  .record({
    currentInstances: fc.integer({ min: 0, max: 80 }),
    policy: limitsOfAll,
    samples: measured,
    forecast: forecasts,
    prediction: fc.option(
      fc.record({
        forMs: fc.constant(now + 120_000),
        madeAtMs: fc.constant(now - 60_000),
        cpuRatio: measuredRatio,
        memoryRatio: fc.constant(null),
        instances: fc.integer({ min: 1, max: 60 }),
        confidence: fc.constant(null),
      }),
      { freq: 4, nil: null },
    ),
  })
  .map((values) => ({ ...values, usePrediction: true, recentActions: [], stopped: null, nowMs: now }));

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) frozen(member);
    Object.freeze(value);
  }
  return value;
}

describe('every decision with a forecast', () => {
  it('ends within bounds or nearer to them, no further than a step, and never the other way round', () => {
    let led = 0;
    forAll(1_000, [inputs], (given) => {
      const { minInstances: min, maxInstances: max, maxScaleUpStep, maxScaleDownStep } = given.policy;
      const decision = decide(given);
      const { targetInstances: target, currentInstances: current, explanation } = decision;
      if (explanation.forecast.used) led++;
      const outside = (size: number) => Math.max(0, min - size, size - max);
      if (outside(current) === 0) expect(outside(target)).toBe(0);
      else if (target !== current) expect(outside(target)).toBeLessThan(outside(current));
      expect(target - current).toBeLessThanOrEqual(maxScaleUpStep);
      expect(current - target).toBeLessThanOrEqual(maxScaleDownStep);
      if (target === current) return;
      const wanted = explanation.wanted ?? current;
      const way = current > max ? max - current : current < min ? min - current : wanted - current;
      expect(Math.sign(target - current)).toBe(Math.sign(way));
      if (outside(current) > 0) return;
      if (target > current) expect(target).toBeLessThanOrEqual(wanted);
      else expect(target).toBeGreaterThanOrEqual(wanted);
    });
    expect(led).toBeGreaterThan(300);
  });

  it('scales in on complete, fresh data only', () => {
    let scaledIn = 0;
    forAll(1_000, [inputs], (given) => {
      const { decisionType, explanation } = decide(given);
      if (decisionType !== 'scaledown') return;
      if (explanation.forecast.used) scaledIn++;
      expect(explanation.dataQuality.verdict).toBe('fresh');
    });
    expect(scaledIn).toBeGreaterThan(20);
  });

  it('asks for no less where a forecast is higher in anything', () => {
    const by = fc.oneof(
      fc.constant(1),
      fc.constantFrom(1.0001, 1.1, 2),
      fc.double({ min: 1, max: 3, noNaN: true }),
    );
    const factors = fc.record({ upper: by, expected: by, window: by, hour: by });
    forAll(1_000, [inputs, factors], (given, factor) => {
      const raise = ({ upper, expected }: Pair, more = 1): Pair => ({
        upper: upper * factor.upper * more,
        expected: expected * factor.expected * more,
      });
      const { forecast } = given;
      if (forecast === null || forecast === undefined) return;
      const metrics = forecast.metrics.map((metric) => ({
        ...metric,
        ...raise(metric),
        windowHighest: raise(metric.windowHighest, factor.window),
        hourHighest: raise(metric.hourHighest, factor.window * factor.hour),
      }));
      const less = decide(given);
      const more = decide({ ...given, forecast: { ...forecast, metrics } });
      expect(more.targetInstances).toBeGreaterThanOrEqual(less.targetInstances);
      expect(more.explanation.wanted ?? 0).toBeGreaterThanOrEqual(less.explanation.wanted ?? 0);
    });
  });

  it('is a function of its input alone, leaves it as it was, and is made of whole and finite numbers', () =>
    forAll(runs, [inputs], (given) => {
      const before = structuredClone(given);
      const decision = decide(frozen(given));
      expect(decide(structuredClone(given))).toEqual(decision);
      expect(given).toEqual(before);
      expect(Number.isSafeInteger(decision.targetInstances)).toBe(true);
      expect(decision.confidence).toBeGreaterThan(0);
      expect(decision.confidence).toBeLessThan(1);
      expect(JSON.parse(JSON.stringify(decision))).toEqual(decision);
      expect(decision.reason).toMatch(/^[A-Z][^\n]*[^.]\.$/);
      expect(decision.reason).not.toMatch(/NaN|undefined|Infinity|null/);
      if (decision.explanation.forecast.used) {
        expect(decision.reason).toMatch(/^Predicted CPU: \d+%(, Memory: \d+%)?( on|, but measured)/);
      }
      const { candidates } = decision.explanation;
      expect(candidates.filter(({ chosen }) => chosen)).toHaveLength(candidates.length === 0 ? 0 : 1);
    }));
});
