import { describe, expect, it } from 'vitest';
import { decide } from '../../../worker/engine/decide.ts';
import type { EnginePolicy, EngineSample } from '../../../worker/engine/types.ts';
import { input, minutes, now, policy } from '../../support/engine-input.ts';

/** Twenty instances that report as percent what may be ratios. */
const decideOn = (
  samples: (index: number) => Partial<EngineSample>,
  utilizationUnit: EnginePolicy['utilizationUnit'] = null,
) =>
  decide(
    input({
      currentInstances: 20,
      policy: policy({ utilizationUnit }),
      samples: minutes(15, (index) => ({ instances: 20, memoryRatio: null, ...samples(index) })),
    }),
  );

describe('utilisation in a unit that nobody declared', () => {
  it.each<[string, (index: number) => Partial<EngineSample>]>([
    ['ratios of both metrics', () => ({ cpuRatio: 0.0082, memoryRatio: 0.006 })],
    ['ratios of CPU alone', () => ({ cpuRatio: 0.0082 })],
    ['ratios of memory alone', () => ({ cpuRatio: null, memoryRatio: 0.009 })],
    ['ratios above 1', () => ({ cpuRatio: 0.015 })],
    ['ratios beside a metric that is 0', () => ({ cpuRatio: 0.0082, memoryRatio: 0 })],
    [
      'percentages that became ratios',
      (index) => ({ cpuRatio: index < 10 ? 0.8 : 0.0081, memoryRatio: 0.6 }),
    ],
    ['memory that became a ratio', (index) => ({ cpuRatio: 0.3, memoryRatio: index < 14 ? 0.6 : 0.0061 })],
  ])('%s are doubted, and nothing is scaled in', (_, samples) => {
    const decision = decideOn(samples);
    expect(decision).toMatchObject({ targetInstances: 20, reasonCode: 'suspect_unit' });
    expect(decision.explanation.dataQuality.verdict).toBe('suspect_unit');
    expect(decision.reason).toMatch(/set utilization_unit to ratio or to percent/);
    // Declared, they are what they say.
    expect(decideOn(samples, 'percent').targetInstances).toBe(18);
  });

  it.each<[string, (index: number) => Partial<EngineSample>]>([
    ['an idle service', () => ({ cpuRatio: 0.009, memoryRatio: 0.3 })],
    [
      'one that has just become idle, step by step',
      (index) => ({ cpuRatio: [0.8, 0.3, 0.05][index] ?? 0.008 }),
    ],
    ['one that stopped', (index) => ({ cpuRatio: index < 8 ? 0.6 : 0, memoryRatio: 0 })],
    ['one of which nothing is used', () => ({ cpuRatio: 0, memoryRatio: 0 })],
  ])('%s scales in', (_, samples) => {
    expect(decideOn(samples).targetInstances).toBeLessThan(20);
  });

  it('of a prediction is doubted, too', () => {
    const ahead = { forMs: now + 60_000, madeAtMs: now - 1_000, instances: 4, confidence: null };
    const decideWith = (cpuRatio: number, utilizationUnit: 'percent' | null) =>
      decide(
        input({
          policy: policy({ utilizationUnit }),
          usePrediction: true,
          prediction: { ...ahead, cpuRatio, memoryRatio: null },
        }),
      ).explanation.prediction;
    expect(decideWith(0.009, null)).toMatchObject({
      used: false,
      why: expect.stringMatching(/utilization_unit/),
    });
    expect(decideWith(0.009, 'percent').why).not.toMatch(/utilization_unit/);
    expect(decideWith(0.9, null).used).toBe(true);
  });
});
