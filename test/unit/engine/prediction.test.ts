import { describe, expect, it } from 'vitest';
import { checkPrediction } from '../../../worker/engine/prediction.ts';
import type { EnginePrediction } from '../../../worker/engine/types.ts';
import { input, now } from '../../support/engine-input.ts';

const given: EnginePrediction = {
  forMs: now + 180_000,
  madeAtMs: now - 60_000,
  cpuRatio: 0.85,
  memoryRatio: 0.7,
  instances: 4,
  confidence: 0.9,
};
const check = (values: Partial<EnginePrediction>, usePrediction = true) =>
  checkPrediction(input({ usePrediction, prediction: { ...given, ...values } }));

describe('checkPrediction', () => {
  it.each<[string, Partial<EnginePrediction>]>([
    ['in the horizon', {}],
    ['for this very moment', { forMs: now }],
    ['for the minute that is passing', { forMs: now - 60_000 }],
    ['for the grid point after the horizon', { forMs: now + 240_000 }],
    ['made a day ago', { madeAtMs: now - 86_400_000 }],
    ['made by a clock a little ahead', { madeAtMs: now + 5_000 }],
    ['of CPU alone', { memoryRatio: null }],
    ['of memory alone', { cpuRatio: null }],
    ['of more than 100 %', { cpuRatio: 1.7 }],
    ['of instances half as large', { cpuWorth: 0.5, memoryWorth: 0.5 }],
  ])('uses one %s', (_, values) => {
    expect(check(values)).toEqual({ usable: { ...given, ...values }, proven: true, why: 'fresh' });
  });

  it.each<[string, Partial<EnginePrediction>, string]>([
    ['of the past', { forMs: now - 60_001 }, 'it is for a time outside the horizon'],
    ['beyond the horizon', { forMs: now + 240_001 }, 'it is for a time outside the horizon'],
    ['for no time', { forMs: Number.NaN }, 'it is for a time outside the horizon'],
    ['made later than now', { madeAtMs: now + 5_001 }, 'it says it was made in the future'],
    ['made at no time', { madeAtMs: Number.NaN }, 'it says it was made in the future'],
    ['made long ago', { madeAtMs: now - 86_400_001 }, 'it was made more than a day ago'],
    ['of nothing', { cpuRatio: null, memoryRatio: null }, 'it has neither CPU nor memory'],
    ['of NaN', { cpuRatio: Number.NaN }, 'its values are not plausible'],
    ['of a negative ratio', { memoryRatio: -0.1 }, 'its values are not plausible'],
    ['of an absurd ratio', { memoryRatio: 101 }, 'its values are not plausible'],
    ['of instances worth nothing', { cpuWorth: 0 }, 'its values are not plausible'],
    ['of instances of unknown worth', { memoryWorth: Number.NaN }, 'its values are not plausible'],
    ['for no instances', { instances: 0 }, 'the instance count it was made for is not known'],
    ['for an unknown count', { instances: Number.NaN }, 'the instance count it was made for is not known'],
  ])('refuses one %s', (_, values, why) => {
    expect(check(values)).toEqual({ usable: null, proven: false, why });
  });

  it('says when none was asked for, and when there is none', () => {
    expect(check({}, false)).toEqual({ usable: null, proven: false, why: 'not asked for' });
    expect(checkPrediction(input({ usePrediction: true }))).toEqual({
      usable: null,
      proven: false,
      why: 'none was written for the time ahead',
    });
  });
});
