import { describe, expect, it } from 'vitest';
import { checkSamples, reportQuality } from '../../../worker/engine/data-quality.ts';
import type { EngineSample } from '../../../worker/engine/types.ts';
import { minutes, now, policy } from '../../support/engine-input.ts';

const sample = (values: Partial<EngineSample> = {}): EngineSample => ({
  atMs: now,
  cpuRatio: 0.5,
  memoryRatio: 0.4,
  instances: 4,
  ...values,
});
const ago = (ms: number, values: Partial<EngineSample> = {}) => sample({ atMs: now - ms, ...values });
const check = (samples: readonly EngineSample[], values = {}) => checkSamples(samples, policy(values), now);

describe('checkSamples', () => {
  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY, 1_001, 0.0009])(
    'takes no metric of instances that would be worth %d of today',
    (worth) => {
      const { samples, verdict } = check([ago(0, { cpuWorth: worth })]);
      expect(samples[0]).toMatchObject({ cpuRatio: null, memoryRatio: 0.4 });
      expect(verdict).toBe('partial');
      expect(check([ago(0, { memoryWorth: worth })]).samples[0]).toMatchObject({
        cpuRatio: 0.5,
        memoryRatio: null,
      });
      expect(check([ago(0, { cpuWorth: worth, memoryWorth: worth })]).verdict).toBe('none');
      expect(check([ago(0, { cpuWorth: 0.5, memoryWorth: 1_000 })]).verdict).toBe('fresh');
    },
  );

  it('sorts, and keeps the last given of a moment', () => {
    const { samples, dropped } = check([
      ago(0, { cpuRatio: 0.1 }),
      ago(120_000),
      ago(60_000, { cpuRatio: 0.2 }),
      ago(60_000, { cpuRatio: 0.3 }),
    ]);
    expect(samples.map(({ atMs, cpuRatio }) => [now - atMs, cpuRatio])).toEqual([
      [120_000, 0.5],
      [60_000, 0.3],
      [0, 0.1],
    ]);
    expect(dropped).toBe(1);
  });

  it.each<[string, Partial<EngineSample>]>([
    ['no time', { atMs: Number.NaN }],
    ['a time in the future', { atMs: now + 5_001 }],
    ['negative instances', { instances: -3 }],
    ['a fraction of an instance', { instances: 1.5 }],
    ['an absurd count', { instances: 1_000_001 }],
    ['an unknown count', { instances: Number.NaN }],
    ['neither CPU nor memory', { cpuRatio: null, memoryRatio: null }],
    ['only values that are no numbers', { cpuRatio: Number.NaN, memoryRatio: Number.POSITIVE_INFINITY }],
    ['a negative ratio alone', { cpuRatio: -0.01, memoryRatio: null }],
    ['an absurd ratio alone', { cpuRatio: 100.01, memoryRatio: null }],
  ])('drops a sample with %s', (_, values) => {
    expect(check([sample(values)])).toMatchObject({ verdict: 'none', samples: [], dropped: 1 });
  });

  it('accepts a clock that runs a little ahead', () => {
    expect(check([ago(-5_000)])).toMatchObject({ verdict: 'fresh', newestAgeMs: 0 });
  });

  it('keeps the plausible metric of a sample whose other one is not, and calls it partial', () => {
    const checked = check([ago(60_000), ago(0, { cpuRatio: Number.NaN, memoryRatio: 0.9 })]);
    expect(checked.samples[1]).toEqual(sample({ cpuRatio: null, memoryRatio: 0.9 }));
    expect(checked).toMatchObject({ verdict: 'partial', dropped: 0 });
  });

  it.each<[string, EngineSample[], string]>([
    ['complete and new', [ago(60_000), ago(0)], 'fresh'],
    [
      'without a metric that nobody collects',
      [ago(60_000, { memoryRatio: null }), ago(0, { memoryRatio: null })],
      'fresh',
    ],
    ['with a metric that has just begun', [ago(60_000, { memoryRatio: null }), ago(0)], 'fresh'],
    ['without CPU where CPU was', [ago(60_000), ago(0, { cpuRatio: null })], 'partial'],
    ['without memory where memory was, long ago', [ago(3_600_000), ago(0, { memoryRatio: null })], 'partial'],
    ['with an empty newest moment', [ago(60_000), ago(0, { cpuRatio: null, memoryRatio: null })], 'partial'],
    ['with nothing ready at the newest moment', [ago(60_000), ago(0, { instances: 0 })], 'partial'],
    ['with a broken value at the newest moment', [ago(60_000), ago(0, { cpuRatio: -1 })], 'partial'],
    ['with a broken duplicate of the newest', [ago(0), ago(0, { cpuRatio: -1 })], 'partial'],
    ['with a broken value in the past only', [ago(60_000, { cpuRatio: -1 }), ago(0)], 'fresh'],
    ['exactly three minutes old', [ago(180_000)], 'fresh'],
    ['older than three minutes', [ago(180_001)], 'stale'],
    ['empty', [], 'none'],
  ])('judges samples %s', (_, samples, verdict) => {
    expect(check(samples).verdict).toBe(verdict);
  });

  it('gives slow decisions three intervals before samples are stale', () => {
    expect(check([ago(900_000)], { decisionIntervalMs: 300_000 }).verdict).toBe('fresh');
    expect(check([ago(900_001)], { decisionIntervalMs: 300_000 }).verdict).toBe('stale');
    expect(check([ago(180_000)], { decisionIntervalMs: 5_000 }).verdict).toBe('fresh');
  });
});

describe('reportQuality', () => {
  it('holds only when there is nothing at all', () => {
    expect(reportQuality(check([]), 4)).toEqual({
      capacity: 4,
      code: 'no_data',
      detail: 'there are no usable samples',
    });
    expect(reportQuality(check([ago(600_000)]), 4)).toEqual({
      capacity: 4,
      detail: 'the newest sample is 600 s old',
    });
    expect(reportQuality(check(minutes(3, {})), 4)).toEqual({ capacity: 4 });
  });
});
