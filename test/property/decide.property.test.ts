import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decide } from '../../worker/engine/decide.ts';
import type { EngineInput, EnginePolicy, EngineSample } from '../../worker/engine/types.ts';
import { input, minutes, now, policy } from '../support/engine-input.ts';
import { forAll } from '../support/for-all.ts';

const runs = 1_000;
const count = fc.integer({ min: 1, max: 60 });
/** Half of them in the range where stages change their minds. */
const ratio = fc.oneof(
  fc.double({ min: 0, max: 1.5, noNaN: true }),
  fc.constantFrom(0, 0.07, 0.63, 0.7, 0.77, 0.97, 0.98, 1, 1.01),
);
const broken = fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0.5, 101);
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { freq: 4, nil: null });

/** What the database lets pass. */
const policies: fc.Arbitrary<EnginePolicy> = fc
  .record({
    minInstances: fc.integer({ min: 0, max: 20 }),
    span: fc.integer({ min: 0, max: 40 }),
    maxScaleUpStep: fc.integer({ min: 1, max: 10 }),
    maxScaleDownStep: fc.integer({ min: 1, max: 10 }),
    maxActionsPerHour: fc.integer({ min: 1, max: 12 }),
    scaleUpCooldownMs: fc.constantFrom(0, 60_000, 900_000),
    scaleDownCooldownMs: fc.constantFrom(0, 60_000, 900_000),
    tolerance: fc.double({ min: 0, max: 0.3, noNaN: true }),
    stabilizationWindowMs: fc.constantFrom(0, 60_000, 300_000, 900_000),
    decisionIntervalMs: fc.constantFrom(5_000, 60_000, 300_000),
    targetCpuRatio: fc.double({ min: 0.2, max: 1, noNaN: true }),
    targetMemoryRatio: fc.double({ min: 0.2, max: 1, noNaN: true }),
    scaleUpPausedUntilMs: maybe(fc.constantFrom(now - 1, now + 1)).map((until) => until),
    scaleDownPausedUntilMs: maybe(fc.constantFrom(now - 1, now + 1)),
  })
  .map(({ span, ...values }) => policy({ ...values, maxInstances: values.minInstances + span }));

/** Anything a collector could send, and some that it could not. */
const wildSample = fc.record({
  atMs: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: now - 1_200_000, max: now + 60_000 }) },
    { weight: 1, arbitrary: fc.constantFrom(Number.NaN, now + 86_400_000, 0) },
  ),
  cpuRatio: maybe(fc.oneof({ weight: 5, arbitrary: ratio }, { weight: 1, arbitrary: broken })),
  memoryRatio: maybe(fc.oneof({ weight: 9, arbitrary: ratio }, { weight: 1, arbitrary: broken })),
  instances: fc.oneof(
    { weight: 9, arbitrary: count },
    { weight: 1, arbitrary: fc.constantFrom(0, -1, 1.5, Number.NaN, 1e9) },
  ),
});
const wildSamples = fc.array(wildSample, { maxLength: 40 });
/** One a minute, complete and new. */
const goodSamples: fc.Arbitrary<EngineSample[]> = fc
  .record({
    values: fc.array(fc.tuple(ratio, ratio, count), { minLength: 1, maxLength: 20 }),
    memory: fc.boolean(),
  })
  .map(({ values, memory }) =>
    minutes(values.length, (index) => {
      const [cpuRatio, memoryRatio, instances] = values[index] as [number, number, number];
      return { cpuRatio, memoryRatio: memory ? memoryRatio : null, instances };
    }),
  );

const predictions = maybe(
  fc.record({
    forMs: fc.integer({ min: now - 120_000, max: now + 400_000 }),
    madeAtMs: fc.constantFrom(now - 60_000, now - 90_000_000),
    cpuRatio: maybe(ratio),
    memoryRatio: maybe(ratio),
    instances: count,
    confidence: fc.constant(null),
  }),
);
const actions = fc.array(
  fc.record({
    atMs: fc.integer({ min: now - 4_000_000, max: now }),
    action: fc.constantFrom('ScaleUp' as const, 'ScaleDown' as const),
  }),
  { maxLength: 4 },
);
const inputsWith = (samples: fc.Arbitrary<EngineSample[]>): fc.Arbitrary<EngineInput> =>
  fc.record({
    currentInstances: fc.integer({ min: 0, max: 60 }),
    policy: policies,
    samples,
    usePrediction: fc.boolean(),
    prediction: predictions,
    recentActions: fc.oneof(fc.constant([]), actions),
    stopped: fc.option(fc.constant({ scope: 'global', reason: 'drill' }), { freq: 9 }).map((stop) => stop),
    nowMs: fc.constant(now),
  });
/** Without holds, so that most of them act. */
const free = (given: EngineInput): EngineInput => ({
  ...given,
  recentActions: [],
  stopped: null,
  policy: { ...given.policy, scaleUpPausedUntilMs: null, scaleDownPausedUntilMs: null },
});
const anyInput = inputsWith(fc.oneof(wildSamples, goodSamples));
const actingInput = inputsWith(fc.oneof(wildSamples, goodSamples)).map(free);

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
}

describe('every decision', () => {
  it('ends within bounds, or nearer to them than it began', () =>
    forAll(runs, [actingInput], (given) => {
      const { targetInstances: target, currentInstances: current } = decide(given);
      const { minInstances: min, maxInstances: max } = given.policy;
      const outside = (size: number) => Math.max(0, min - size, size - max);
      if (outside(current) === 0) expect(outside(target)).toBe(0);
      else if (target !== current) expect(outside(target)).toBeLessThan(outside(current));
      // Towards the bounds, never across to the other side of them.
      if (current > max) expect(target).toBeGreaterThanOrEqual(min);
      if (current < min) expect(target).toBeLessThanOrEqual(max);
    }));

  it('goes no further than a step', () =>
    forAll(runs, [actingInput], (given) => {
      const change = decide(given).targetInstances - given.currentInstances;
      expect(change).toBeLessThanOrEqual(given.policy.maxScaleUpStep);
      expect(-change).toBeLessThanOrEqual(given.policy.maxScaleDownStep);
    }));

  // Holds for raising any ratios, measured or predicted, at any moments, while they stay plausible (at most 100) and the
  // sample's instances, its time and everything else stay the same. It does not hold, and need not, for making a missing
  // value present: that may turn data from complete to partial.
  it('asks for no less when demand is higher', () => {
    const factor = fc.oneof(
      fc.constant(1),
      fc.double({ min: 1, max: 3, noNaN: true }),
      fc.constantFrom(1.0001, 1.1, 1.43),
    );
    const raised = (value: number | null, by: number) => (value === null ? null : Math.min(100, value * by));
    forAll(3_000, [anyInput, fc.array(factor, { minLength: 1, maxLength: 40 })], (given, factors) => {
      const by = (index: number) => factors[index % factors.length] as number;
      const more: EngineInput = {
        ...given,
        // Values that cannot be true stay as they are.
        samples: given.samples.map((sample, index) => ({
          ...sample,
          cpuRatio: plausible(sample.cpuRatio) ? raised(sample.cpuRatio, by(index)) : sample.cpuRatio,
          memoryRatio: plausible(sample.memoryRatio)
            ? raised(sample.memoryRatio, by(index + 1))
            : sample.memoryRatio,
        })),
        prediction:
          given.prediction === null
            ? null
            : { ...given.prediction, cpuRatio: raised(given.prediction.cpuRatio, by(0)) },
      };
      expect(decide(more).targetInstances).toBeGreaterThanOrEqual(decide(given).targetInstances);
      expect(decide(more).explanation.wanted ?? 0).toBeGreaterThanOrEqual(
        decide(given).explanation.wanted ?? 0,
      );
    });
  });

  it('asks for no less when the same utilisation was measured on more instances', () =>
    forAll(runs, [actingInput, fc.integer({ min: 1, max: 5 })], (given, more) => {
      const samples = given.samples.map((sample) =>
        Number.isSafeInteger(sample.instances) && sample.instances >= 1 && sample.instances <= 1_000
          ? { ...sample, instances: sample.instances * more }
          : sample,
      );
      expect(decide({ ...given, samples }).targetInstances).toBeGreaterThanOrEqual(
        decide(given).targetInstances,
      );
    }));

  it('is never turned round by a constraint', () =>
    forAll(runs, [actingInput], (given) => {
      const { minInstances: min, maxInstances: max } = given.policy;
      const decision = decide(given);
      const { currentInstances: current, targetInstances: target } = decision;
      const wanted = decision.explanation.wanted ?? current;
      if (target === current) return;
      // Outside the bounds, the bounds say which way.
      const way = current > max ? max - current : current < min ? min - current : wanted - current;
      expect(Math.sign(target - current)).toBe(Math.sign(way));
    }));

  it('never goes beyond what the numbers want, except back into bounds', () =>
    forAll(runs, [actingInput], (given) => {
      const { minInstances: min, maxInstances: max } = given.policy;
      const { currentInstances: current, targetInstances: target, explanation } = decide(given);
      fc.pre(current >= min && current <= max && explanation.wanted !== null);
      if (target > current) expect(target).toBeLessThanOrEqual(explanation.wanted as number);
      if (target < current) expect(target).toBeGreaterThanOrEqual(explanation.wanted as number);
    }));

  it('never goes below what the newest sample shows to be needed now', () =>
    forAll(runs, [inputsWith(goodSamples).map(free)], (given) => {
      const { currentInstances: current, targetInstances: target, explanation } = decide(given);
      fc.pre(current <= given.policy.maxInstances && target < current);
      for (const candidate of explanation.candidates) {
        expect(target).toBeGreaterThanOrEqual(candidate.required);
      }
    }));

  it('does nothing while stopped, cooling down, at the hourly limit or paused, and says so', () => {
    const held = fc.constantFrom<[string, (given: EngineInput) => EngineInput]>(
      ['stopped', (given) => ({ ...given, stopped: { scope: 'global', reason: 'drill' } })],
      [
        'paused',
        (given) => ({
          ...given,
          policy: { ...given.policy, scaleUpPausedUntilMs: now + 1, scaleDownPausedUntilMs: now + 1 },
        }),
      ],
      [
        'cooldown',
        (given) => ({
          ...given,
          policy: { ...given.policy, scaleUpCooldownMs: 2, scaleDownCooldownMs: 2, maxActionsPerHour: 2 },
          recentActions: [{ atMs: now - 1, action: 'ScaleUp' }],
        }),
      ],
      [
        'rate_limited',
        (given) => ({
          ...given,
          policy: { ...given.policy, scaleUpCooldownMs: 0, scaleDownCooldownMs: 0, maxActionsPerHour: 1 },
          recentActions: [{ atMs: now - 1, action: 'ScaleDown' }],
        }),
      ],
    );
    forAll(runs, [actingInput, held], (given, [code, hold]) => {
      // From 0 no cooldown counts.
      fc.pre(given.currentInstances > 0);
      const would = decide(given);
      const decision = decide(hold(given));
      expect(decision.decisionType).toBe('noaction');
      expect(decision.targetInstances).toBe(given.currentInstances);
      expect(decision.explanation.wanted).toBe(would.explanation.wanted);
      expect(decision.reasonCode).toBe(would.decisionType === 'noaction' ? would.reasonCode : code);
    });
  });
});

describe('scaling in', () => {
  const expectNoScaleIn = (given: EngineInput) =>
    expect(decide(given).targetInstances).toBeGreaterThanOrEqual(given.currentInstances);

  it('never happens unless the data is fresh', () =>
    forAll(runs, [actingInput], (given) => {
      const { decisionType, explanation } = decide(given);
      if (decisionType === 'scaledown') expect(explanation.dataQuality.verdict).toBe('fresh');
    }));

  it('never happens without samples: nothing does', () =>
    forAll(runs, [inputsWith(fc.constant([]))], (given) => {
      // What is predicted wakes a resource from 0 all the same.
      fc.pre(given.currentInstances > 0 || given.policy.minInstances > 0);
      const decision = decide(given);
      expect(decision).toMatchObject({
        decisionType: 'noaction',
        reasonCode: 'no_data',
        targetInstances: given.currentInstances,
      });
      expect(decision.explanation.wanted).toBeNull();
    }));

  it('never happens when the newest moment is broken, whatever came before', () => {
    const spoil = fc.constantFrom<(sample: EngineSample) => Partial<EngineSample>>(
      () => ({ cpuRatio: Number.NaN }),
      () => ({ cpuRatio: Number.POSITIVE_INFINITY }),
      () => ({ cpuRatio: -1 }),
      () => ({ cpuRatio: 101 }),
      () => ({ cpuRatio: null }),
      () => ({ cpuRatio: null, memoryRatio: null }),
      () => ({ memoryRatio: Number.NaN }),
      () => ({ instances: 0 }),
      () => ({ instances: Number.NaN }),
      () => ({ instances: 2.5 }),
    );
    forAll(runs, [inputsWith(goodSamples).map(free), spoil], (given, spoiled) => {
      fc.pre(given.samples.length > 1);
      const newest = given.samples.at(-1) as EngineSample;
      expectNoScaleIn({
        ...given,
        samples: [...given.samples.slice(0, -1), { ...newest, ...spoiled(newest) }],
      });
    });
  });

  it('never happens on samples that are old, or all of the future', () => {
    const shift = fc.oneof(
      fc.integer({ min: -7_200_000, max: -900_001 }),
      fc.integer({ min: 20 * 60_000 + 5_001, max: 7_200_000 }),
    );
    forAll(runs, [inputsWith(goodSamples).map(free), shift], (given, byMs) => {
      expectNoScaleIn({
        ...given,
        samples: given.samples.map((sample) => ({ ...sample, atMs: sample.atMs + byMs })),
      });
    });
  });

  it('is not moved by samples of the future beside good ones', () =>
    forAll(runs, [inputsWith(goodSamples), ratio], (given, cpuRatio) => {
      const future = { atMs: now + 60_000, cpuRatio, memoryRatio: null, instances: 1 };
      expect(decide({ ...given, samples: [...given.samples, future] }).targetInstances).toBe(
        decide(given).targetInstances,
      );
    }));
});

describe('a decision', () => {
  /** JSON knows neither NaN nor infinity. */
  const json = (value: unknown): boolean => JSON.stringify(value) === JSON.stringify(value, exact);
  function exact(_key: string, value: unknown): unknown {
    return typeof value === 'number' && !Number.isFinite(value) ? 'lost' : value;
  }

  it('is a function of its input alone, survives JSON, and leaves the input as it was', () =>
    forAll(runs, [anyInput], (given) => {
      const sound = { ...given, samples: given.samples.filter(json) };
      const first = decide(deepFreeze(sound));
      expect(decide(sound)).toEqual(first);
      expect(decide(JSON.parse(JSON.stringify(sound)))).toEqual(first);
      expect(JSON.parse(JSON.stringify(first))).toEqual(first);
    }));

  it('does not depend on the order of samples of different moments', () =>
    forAll(runs, [inputsWith(goodSamples), fc.nat()], (given, seed) => {
      const shuffled = given.samples
        .map((sample, index) => ({ sample, key: ((index + 1) * 7_919 * (seed + 1)) % 1_009 }))
        .sort((a, b) => a.key - b.key)
        .map(({ sample }) => sample);
      expect(decide({ ...given, samples: shuffled })).toEqual(decide(given));
    }));

  it('is made of whole, finite numbers, and a sentence', () =>
    forAll(runs, [anyInput], (given) => {
      const decision = decide(given);
      expect(Number.isSafeInteger(decision.targetInstances)).toBe(true);
      expect(decision.targetInstances).toBeGreaterThanOrEqual(0);
      expect(decision.confidence).toBeGreaterThan(0);
      expect(decision.confidence).toBeLessThan(1);
      expect(decision.reason).toMatch(/^[A-Z][^\n]*[^.]\.$/);
      expect(decision.reason).not.toMatch(/NaN|undefined|Infinity|null/);
      if (decision.explanation.prediction.used)
        expect(decision.reason).toMatch(/^Predicted (CPU|Memory): \d+%/);
      else expect(decision.reason).not.toMatch(/^Predicted/);
      expect(json(decision)).toBe(true);
      const { candidates } = decision.explanation;
      expect(candidates.filter((candidate) => candidate.chosen)).toHaveLength(
        candidates.length === 0 ? 0 : 1,
      );
    }));
});

describe('a steady load', () => {
  /** The loop as it runs: what is decided serves after the provisioning delay, what is measured stays in the history. */
  function sizes(demand: number, start: number, limits: EnginePolicy, steps: number): number[] {
    const sizesSeen: number[] = [];
    const samples: EngineSample[] = [];
    const recentActions: { atMs: number; action: 'ScaleUp' | 'ScaleDown' }[] = [];
    let current = start;
    let ready = start;
    let readyAtMs = now;
    for (let step = 0; step < steps; step++) {
      const nowMs = now + step * limits.decisionIntervalMs;
      if (nowMs >= readyAtMs || current < ready) ready = current;
      samples.push({
        atMs: nowMs,
        cpuRatio: Math.min(1, demand / ready),
        memoryRatio: null,
        instances: ready,
      });
      const decision = decide(
        input({
          currentInstances: current,
          policy: limits,
          samples: samples.slice(-120),
          recentActions,
          nowMs,
        }),
      );
      if (decision.decisionType !== 'noaction') {
        const action = decision.decisionType === 'scaleup' ? 'ScaleUp' : 'ScaleDown';
        recentActions.push({ atMs: nowMs, action });
        readyAtMs = nowMs + limits.provisioningDelayMs;
        current = decision.targetInstances;
      }
      sizesSeen.push(current);
    }
    return sizesSeen;
  }

  it('settles, stays, and is served: whatever the target, the tolerance and the delay', () => {
    const given = fc.record({
      demand: fc.double({ min: 0.05, max: 30, noNaN: true }),
      start: fc.integer({ min: 1, max: 40 }),
      targetCpuRatio: fc.oneof(fc.double({ min: 0.3, max: 1, noNaN: true }), fc.constantFrom(0.97, 0.98, 1)),
      tolerance: fc.constantFrom(0, 0.05, 0.1),
      provisioningDelayMs: fc.constantFrom(0, 120_000, 300_000),
      stabilizationWindowMs: fc.constantFrom(0, 300_000),
      maxInstances: fc.constantFrom(20, 200),
    });
    forAll(150, [given], ({ demand, start, ...values }) => {
      const limits = policy({
        ...values,
        scaleUpCooldownMs: 60_000,
        scaleDownCooldownMs: 120_000,
        maxActionsPerHour: 60,
        maxScaleUpStep: 10,
        maxScaleDownStep: 10,
      });
      const seen = sizes(demand, start, limits, 150);
      const settled = seen.at(-1) as number;
      expect(new Set(seen.slice(-60))).toEqual(new Set([settled]));
      if (settled < limits.maxInstances) {
        const most = Math.max(limits.targetCpuRatio * (1 + limits.tolerance) + 1e-6, 0);
        expect(demand / settled).toBeLessThanOrEqual(Math.min(0.98, most));
      }
    });
  });
});

const plausible = (value: number | null) => value !== null && value >= 0 && value <= 100;
