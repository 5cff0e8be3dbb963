import { describe, expect, it } from 'vitest';
import type { EngineInput, EnginePrediction } from '../../../shared/domain/scaling-decision.ts';
import { decide } from '../../../worker/engine/decide.ts';
import { input, minutes, now, policy } from '../../support/engine-input.ts';

const prediction = (values: Partial<EnginePrediction> = {}): EnginePrediction => ({
  forMs: now + 120_000,
  madeAtMs: now - 60_000,
  cpuRatio: 0.85,
  memoryRatio: 0.7,
  instances: 4,
  confidence: 0.9,
  ...values,
});

interface Case {
  readonly name: string;
  readonly given: Partial<EngineInput>;
  readonly target: number;
  readonly code: string;
  readonly wanted?: number | null;
}

const cases: Case[] = [
  {
    name: 'keeps what fits',
    given: { samples: minutes(15, { cpuRatio: 0.68 }) },
    target: 4,
    code: 'demand_matches_capacity',
  },
  {
    name: 'scales up for CPU',
    given: { samples: minutes(15, { cpuRatio: 0.9 }) },
    target: 6,
    code: 'demand_above_capacity',
  },
  {
    name: 'takes the larger need of CPU and memory',
    given: { samples: minutes(15, { cpuRatio: 0.3, memoryRatio: 0.95 }) },
    target: 5,
    code: 'demand_above_capacity',
  },
  {
    name: 'takes 7.0000000001 for 7',
    given: { currentInstances: 7, samples: minutes(15, { cpuRatio: 0.7, instances: 7 }) },
    target: 7,
    code: 'demand_matches_capacity',
  },
  {
    name: 'goes up by at most the step',
    given: { samples: minutes(15, { cpuRatio: 0.97, instances: 8 }) },
    target: 7,
    code: 'scale_up_step',
    wanted: 12,
  },
  {
    name: 'goes down by at most the step',
    given: { currentInstances: 10, samples: minutes(15, { cpuRatio: 0.1, instances: 10 }) },
    target: 8,
    code: 'scale_down_step',
    wanted: 2,
  },
  {
    name: 'grows past saturation',
    given: {
      currentInstances: 10,
      policy: policy({ maxScaleUpStep: 100, maxInstances: 99, targetCpuRatio: 0.9 }),
      samples: minutes(15, { cpuRatio: 1, instances: 10 }),
    },
    target: 15,
    code: 'saturated',
  },
  {
    name: 'ignores a difference within tolerance',
    given: { currentInstances: 10, samples: minutes(15, { cpuRatio: 0.75, instances: 10 }) },
    target: 10,
    code: 'within_tolerance',
    wanted: 11,
  },
  {
    name: 'stops at the maximum',
    given: { currentInstances: 19, samples: minutes(15, { cpuRatio: 0.97, instances: 19 }) },
    target: 20,
    code: 'at_maximum',
    wanted: 27,
  },
  {
    name: 'stops at the minimum',
    given: { policy: policy({ minInstances: 3 }), samples: minutes(15, { cpuRatio: 0.05 }) },
    target: 3,
    code: 'at_minimum',
    wanted: 1,
  },
  {
    name: 'leads back what is above the maximum',
    given: { currentInstances: 25, samples: minutes(15, { cpuRatio: 0.7, instances: 25 }) },
    target: 23,
    code: 'scale_down_step',
  },
  {
    name: 'waits for the whole window before scaling in',
    given: {
      currentInstances: 10,
      samples: minutes(15, (index) => ({ cpuRatio: index === 12 ? 0.63 : 0.1, instances: 10 })),
    },
    target: 9,
    code: 'stabilized',
  },
  {
    name: 'never scales in on a window full of holes',
    given: { currentInstances: 10, samples: minutes(1, { cpuRatio: 0.1, instances: 10 }) },
    target: 10,
    code: 'partial_data',
  },
  { name: 'holds without samples', given: { samples: [] }, target: 4, code: 'no_data', wanted: null },
  {
    name: 'holds on stale samples',
    given: {
      samples: minutes(15, { cpuRatio: 0.1 }).map((sample) => ({ ...sample, atMs: sample.atMs - 600_000 })),
    },
    target: 4,
    code: 'demand_matches_capacity',
  },
  {
    name: 'does not scale in when a metric went missing',
    given: { samples: minutes(15, (index) => ({ cpuRatio: 0.1, memoryRatio: index === 14 ? null : 0.8 })) },
    target: 4,
    code: 'partial_data',
  },
  {
    name: 'holds in cooldown and says what it would want',
    given: {
      samples: minutes(15, { cpuRatio: 0.9 }),
      recentActions: [{ atMs: now - 100_000, action: 'ScaleUp' }],
    },
    target: 4,
    code: 'cooldown',
    wanted: 6,
  },
  {
    name: 'holds at the hourly limit',
    given: {
      samples: minutes(15, { cpuRatio: 0.9 }),
      policy: policy({ maxActionsPerHour: 1, scaleUpCooldownMs: 0 }),
      recentActions: [{ atMs: now - 100_000, action: 'ScaleUp' }],
    },
    target: 4,
    code: 'rate_limited',
    wanted: 6,
  },
  {
    name: 'holds while paused',
    given: { samples: minutes(15, { cpuRatio: 0.9 }), policy: policy({ scaleUpPausedUntilMs: now + 1 }) },
    target: 4,
    code: 'paused',
    wanted: 6,
  },
  {
    name: 'holds while stopped',
    given: { samples: minutes(15, { cpuRatio: 0.9 }), stopped: { scope: 'global', reason: 'drill' } },
    target: 4,
    code: 'stopped',
    wanted: 6,
  },
  {
    name: 'follows a prediction',
    given: { usePrediction: true, prediction: prediction() },
    target: 5,
    code: 'demand_above_capacity',
  },
  {
    name: 'reads a prediction by the count it was made for',
    given: {
      currentInstances: 5,
      samples: minutes(15, { instances: 5 }),
      usePrediction: true,
      prediction: prediction({ instances: 10, cpuRatio: 0.5, memoryRatio: null }),
    },
    target: 8,
    code: 'demand_above_capacity',
  },
  {
    name: 'keeps what is needed now when the prediction is lower',
    given: {
      samples: minutes(15, { cpuRatio: 0.9 }),
      usePrediction: true,
      prediction: prediction({ cpuRatio: 0.1, memoryRatio: 0.1 }),
    },
    target: 6,
    code: 'demand_above_capacity',
  },
  {
    name: 'ignores a prediction for another time',
    given: {
      samples: minutes(15, { cpuRatio: 0.68 }),
      usePrediction: true,
      prediction: prediction({ forMs: now + 3_600_000 }),
    },
    target: 4,
    code: 'demand_matches_capacity',
  },
];

describe('decide', () => {
  it.each(cases)('$name', ({ given, target, code, wanted }) => {
    const decision = decide(input(given));
    expect({ target: decision.targetInstances, code: decision.reasonCode }).toEqual({ target, code });
    if (wanted !== undefined) expect(decision.explanation.wanted).toBe(wanted);
    expect(decision.decisionType).toBe(
      target > decision.currentInstances
        ? 'scaleup'
        : target < decision.currentInstances
          ? 'scaledown'
          : 'noaction',
    );
    expect(decision.reason).toMatch(/^[A-Z].*\.$/);
  });

  it('begins with the prediction when one was used', () => {
    const decision = decide(input({ usePrediction: true, prediction: prediction() }));
    expect(decision.reason).toMatch(/^Predicted CPU: 85%, Memory: 70%/);
    expect(decision.explanation.prediction).toEqual({ requested: true, used: true, why: 'fresh' });
  });

  it('says when the next change is possible', () => {
    const held = decide(
      input({
        samples: minutes(15, { cpuRatio: 0.9 }),
        recentActions: [{ atMs: now - 100_000, action: 'ScaleUp' }],
      }),
    );
    expect(held.explanation.earliestNextChangeMs).toBe(now + 200_000);
    expect(held.reason).toBe(
      'Measured CPU: 90% on 4: 6 wanted, kept at 4 as 200 s of the cooldown are left.',
    );
  });

  it('is more confident with more capacity, and knows nothing without history', () => {
    const noisy = minutes(60, (index) => ({ cpuRatio: 0.4 + (0.3 * ((index * 7) % 10)) / 10 }));
    const at = (instances: number) =>
      decide(
        input({
          currentInstances: instances,
          samples: noisy,
          policy: policy({ minInstances: instances, maxInstances: instances }),
        }),
      ).confidence;
    expect(at(2)).toBeLessThan(at(4));
    expect(at(4)).toBeLessThanOrEqual(at(8));
    expect(at(1)).toBeLessThan(0.1);
    expect(decide(input({ samples: minutes(1, {}) })).explanation.confidence).toEqual({
      value: 0.5,
      basis: 'none',
      n: 0,
      learning: true,
    });
  });
});
