import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EngineInput, EnginePolicy, EngineSample } from '../../shared/domain/scaling-decision.ts';
import { decide } from '../../worker/engine/decide.ts';
import { input, minutes, now, policy } from '../support/engine-input.ts';

const runs = { numRuns: 1_000 };
const count = fc.integer({ min: 1, max: 60 });
const ratio = fc.double({ min: 0, max: 1.5, noNaN: true });

const policies: fc.Arbitrary<EnginePolicy> = fc
  .record({
    minInstances: fc.integer({ min: 0, max: 20 }),
    span: fc.integer({ min: 0, max: 40 }),
    maxScaleUpStep: fc.integer({ min: 1, max: 10 }),
    maxScaleDownStep: fc.integer({ min: 1, max: 10 }),
    tolerance: fc.double({ min: 0, max: 0.3, noNaN: true }),
    stabilizationWindowMs: fc.constantFrom(0, 60_000, 300_000),
    targetCpuRatio: fc.double({ min: 0.2, max: 1, noNaN: true }),
    targetMemoryRatio: fc.double({ min: 0.2, max: 1, noNaN: true }),
  })
  .map(({ span, ...values }) => policy({ ...values, maxInstances: values.minInstances + span }));

const samples: fc.Arbitrary<EngineSample[]> = fc.array(
  fc.record({
    atMs: fc.integer({ min: now - 1_200_000, max: now + 60_000 }),
    cpuRatio: fc.option(fc.oneof(ratio, fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -1))),
    memoryRatio: fc.option(ratio),
    instances: fc.oneof(count, fc.constantFrom(0, -1, 1.5)),
  }),
  { maxLength: 40 },
);

const inputs: fc.Arbitrary<EngineInput> = fc.record({
  currentInstances: fc.integer({ min: 0, max: 60 }),
  policy: policies,
  samples,
  usePrediction: fc.boolean(),
  prediction: fc.option(
    fc.record({
      forMs: fc.integer({ min: now - 600_000, max: now + 600_000 }),
      madeAtMs: fc.constant(now),
      cpuRatio: fc.option(ratio),
      memoryRatio: fc.option(ratio),
      instances: count,
      confidence: fc.constant(null),
    }),
  ),
  recentActions: fc.array(
    fc.record({
      atMs: fc.integer({ min: now - 4_000_000, max: now }),
      action: fc.constantFrom('ScaleUp' as const, 'ScaleDown' as const),
    }),
    { maxLength: 14 },
  ),
  stopped: fc.constant(null),
  nowMs: fc.constant(now),
});

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member);
    Object.freeze(value);
  }
  return value;
}

describe('every decision', () => {
  it('stays within bounds, or moves towards them', () => {
    fc.assert(
      fc.property(inputs, (given) => {
        const { targetInstances: target, currentInstances: current } = decide(given);
        const { minInstances: min, maxInstances: max } = given.policy;
        if (target > current) expect(target).toBeLessThanOrEqual(max);
        if (target < current) expect(target).toBeGreaterThanOrEqual(min);
      }),
      runs,
    );
  });

  it('stays within the step limits', () => {
    fc.assert(
      fc.property(inputs, (given) => {
        const change = decide(given).targetInstances - given.currentInstances;
        expect(change).toBeLessThanOrEqual(given.policy.maxScaleUpStep);
        expect(-change).toBeLessThanOrEqual(given.policy.maxScaleDownStep);
      }),
      runs,
    );
  });

  it('never asks for less when demand is higher at every moment', () => {
    const fresh = fc.array(ratio, { minLength: 1, maxLength: 15 });
    fc.assert(
      fc.property(
        fresh,
        fc.double({ min: 1, max: 3, noNaN: true }),
        count,
        policies,
        (ratios, factor, current, limits) => {
          // Saturation is left out: a sample pinned at 100 % asks for more than one that shows 101 %.
          const series = (scale: number) =>
            minutes(ratios.length, (index) => ({
              cpuRatio: null,
              memoryRatio: (ratios[index] as number) * scale,
              instances: current,
            }));
          const at = (scale: number) =>
            decide(input({ currentInstances: current, policy: limits, samples: series(scale) }))
              .targetInstances;
          expect(at(factor)).toBeGreaterThanOrEqual(at(1));
        },
      ),
      runs,
    );
  });

  it('is never turned round by a constraint', () => {
    fc.assert(
      fc.property(inputs, (given) => {
        const { minInstances: min, maxInstances: max } = given.policy;
        fc.pre(given.currentInstances >= min && given.currentInstances <= max);
        const decision = decide(given);
        const wanted = decision.explanation.wanted ?? given.currentInstances;
        const direction = Math.sign(decision.targetInstances - given.currentInstances);
        if (direction !== 0) expect(direction).toBe(Math.sign(wanted - given.currentInstances));
      }),
      runs,
    );
  });

  it('never scales in within bounds on missing, stale or implausible data', () => {
    const bad = fc.constantFrom<EngineSample[]>(
      [],
      minutes(15, { cpuRatio: Number.NaN }),
      minutes(15, { cpuRatio: 0, instances: 0 }),
      minutes(15, { cpuRatio: 0.01 }).map((sample) => ({ ...sample, atMs: sample.atMs + 7_200_000 })),
      minutes(15, { cpuRatio: 0.01 }).map((sample) => ({ ...sample, atMs: sample.atMs - 1_200_000 })),
      minutes(15, (index) => ({ cpuRatio: 0.01, memoryRatio: index === 14 ? null : 0.01 })),
    );
    fc.assert(
      fc.property(bad, policies, fc.integer({ min: 0, max: 60 }), (given, limits, current) => {
        fc.pre(current <= limits.maxInstances);
        expect(
          decide(input({ samples: given, policy: limits, currentInstances: current })).targetInstances,
        ).toBeGreaterThanOrEqual(current);
      }),
      runs,
    );
  });

  it('is a function of its input alone, survives JSON, and leaves the input as it was', () => {
    fc.assert(
      fc.property(inputs, (given) => {
        const finite = {
          ...given,
          samples: given.samples.filter(
            (sample) => sample.cpuRatio === null || Number.isFinite(sample.cpuRatio),
          ),
        };
        const first = decide(deepFreeze(finite));
        expect(decide(JSON.parse(JSON.stringify(finite)))).toEqual(first);
        expect(first.confidence).toBeGreaterThanOrEqual(0);
        expect(first.confidence).toBeLessThanOrEqual(1);
      }),
      runs,
    );
  });

  it('settles under a steady load, and stays there', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 15, noNaN: true }),
        fc.integer({ min: 1, max: 20 }),
        (demand, start) => {
          let current = start;
          const sizes: number[] = [];
          for (let step = 0; step < 60; step++) {
            const shown = Math.min(1, demand / current);
            current = decide(
              input({
                currentInstances: current,
                samples: minutes(15, { cpuRatio: shown, instances: current }),
              }),
            ).targetInstances;
            sizes.push(current);
          }
          expect(new Set(sizes.slice(-20)).size).toBe(1);
          expect(demand / current).toBeLessThanOrEqual(0.98);
        },
      ),
      { numRuns: 300 },
    );
  });
});
