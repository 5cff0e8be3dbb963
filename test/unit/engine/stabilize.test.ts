import { describe, expect, it } from 'vitest';
import { checkSamples } from '../../../worker/engine/data-quality.ts';
import { stabilize } from '../../../worker/engine/stabilize.ts';
import type { EngineInput, EngineSample } from '../../../worker/engine/types.ts';
import { input, minutes, noForecast, now, policy, recommendationOf } from '../../support/engine-input.ts';

function run(wanted: number, samples: readonly EngineSample[], values: Partial<EngineInput> = {}) {
  const given = input({ currentInstances: 10, samples, ...values });
  const data = checkSamples(given.samples, given.policy, given.nowMs);
  const newest = data.samples.at(-1);
  if (newest === undefined) throw new Error('the case needs a sample');
  return stabilize(wanted, given, data, recommendationOf(newest, null, noForecast, given.policy, 10));
}
/** One sample a minute on 10 instances, oldest first, by ratio. */
const cpu = (...ratios: number[]) =>
  minutes(ratios.length, (index) => ({ cpuRatio: ratios[index] as number, instances: 10 }));

describe('stabilize', () => {
  it('never holds back scaling out', () => {
    expect(run(12, cpu(0.1, 0.1, 0.1, 0.1, 0.8))).toEqual({ capacity: 12 });
    expect(run(10, cpu(0.1))).toEqual({ capacity: 10 });
  });

  it('lets scaling in pass when the whole window agrees', () => {
    expect(run(2, cpu(0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1))).toEqual({ capacity: 2 });
  });

  it('goes no lower than the window was high', () => {
    expect(run(2, cpu(0.1, 0.1, 0.1, 0.5, 0.1, 0.1))).toEqual({
      capacity: 8,
      code: 'stabilized',
      detail: '8 were needed 120 s ago, within the stabilization window of 300 s',
    });
  });

  it('holds while the window needed what runs, and says until when', () => {
    expect(run(2, cpu(0.1, 0.9, 0.1, 0.69, 0.1))).toEqual({
      capacity: 10,
      code: 'stabilized',
      detail: '13 were needed 180 s ago, within the stabilization window of 300 s',
      untilMs: now - 60_000 + 300_000,
    });
  });

  it('leaves out what is exactly as old as the window', () => {
    expect(run(2, cpu(0.9, 0.1, 0.1, 0.1, 0.1, 0.1))).toEqual({ capacity: 2 });
  });

  it.each([
    [1, true],
    [2, true],
    [3, false],
  ])('with %d of 5 intervals in the window, holds: %s', (count, held) => {
    const result = run(2, cpu(...Array.from({ length: count }, () => 0.1)));
    expect(result.capacity).toBe(held ? 10 : 2);
    expect(result.code).toBe(held ? 'partial_data' : undefined);
  });

  it('takes many samples of one minute for one minute', () => {
    const dense = Array.from({ length: 20 }, (_, index) => ({
      atMs: now - 57_000 + index * 3_000,
      cpuRatio: 0.1,
      memoryRatio: null,
      instances: 10,
    }));
    expect(run(2, dense)).toEqual({
      capacity: 10,
      code: 'partial_data',
      detail: 'the stabilization window of 300 s has complete samples in 1 of its 5 intervals',
    });
  });

  it('takes a sample less complete than the newest for none', () => {
    const halves = minutes(5, (index) => ({
      cpuRatio: 0.1,
      memoryRatio: index < 3 ? null : 0.1,
      instances: 10,
    }));
    expect(run(2, halves)).toMatchObject({ capacity: 10, code: 'partial_data' });
  });

  it('has nothing to wait for without a window, or with one shorter than the interval', () => {
    expect(run(2, cpu(0.1), { policy: policy({ stabilizationWindowMs: 0 }) })).toEqual({ capacity: 2 });
    expect(run(2, cpu(0.1), { policy: policy({ stabilizationWindowMs: 30_000 }) })).toEqual({ capacity: 2 });
  });

  it('never lets stale or partial data scale in, nor a saturated metric', () => {
    const old = cpu(0.1, 0.1, 0.1, 0.1, 0.1).map((sample) => ({ ...sample, atMs: sample.atMs - 200_000 }));
    expect(run(2, old)).toMatchObject({ capacity: 10, code: 'stale_data' });
    const lost = minutes(5, (index) => ({ memoryRatio: index === 4 ? null : 0.1, instances: 10 }));
    expect(run(2, lost)).toEqual({
      capacity: 10,
      code: 'partial_data',
      detail: 'the newest sample lacks memory',
    });
    const pinned = minutes(5, { cpuRatio: 1, instances: 2 });
    expect(run(4, pinned)).toEqual({
      capacity: 10,
      code: 'saturated',
      detail: 'CPU at 100% hides how much is needed',
    });
  });
});
