import { describe, expect, it } from 'vitest';
import { checkSamples } from '../../../worker/engine/data-quality.ts';
import { explainForecast, withoutStaleDemand } from '../../../worker/engine/recommend.ts';
import { tolerate } from '../../../worker/engine/tolerance.ts';
import type { EnginePrediction, EngineSample } from '../../../worker/engine/types.ts';
import { noForecast, now, policy, recommendationOf } from '../../support/engine-input.ts';

const sample = (
  cpuRatio: number | null,
  memoryRatio: number | null = null,
  instances = 10,
): EngineSample => ({ atMs: now, cpuRatio, memoryRatio, instances });
const prediction = (
  cpuRatio: number | null,
  memoryRatio: number | null,
  instances = 10,
): EnginePrediction => ({
  forMs: now + 60_000,
  madeAtMs: now,
  cpuRatio,
  memoryRatio,
  instances,
  confidence: null,
});

describe('recommend', () => {
  it.each([
    ['CPU asks for more', sample(0.9, 0.4), null, 'reactive', 'cpu', 13],
    ['memory asks for more', sample(0.4, 0.9), null, 'reactive', 'memory', 12],
    ['both ask for as many, CPU for a little more', sample(0.55, 0.6), null, 'reactive', 'cpu', 8],
    ['the prediction asks for more', sample(0.5), prediction(0.9, 0.2), 'prediction', 'cpu', 13],
    ['the predicted memory asks for more', sample(0.5), prediction(0.2, 0.9), 'prediction', 'memory', 12],
    ['the prediction asks for as many', sample(0.9), prediction(0.86, null), 'prediction', 'cpu', 13],
    ['what runs now needs more than predicted', sample(0.9), prediction(0.1, 0.1), 'reactive', 'cpu', 13],
    [
      'the prediction was made for another count',
      sample(0.5),
      prediction(0.9, null, 20),
      'prediction',
      'cpu',
      26,
    ],
  ])('when %s', (_, newest, ahead, source, metric, wanted) => {
    const recommendation = recommendationOf(newest, ahead, noForecast, policy(), 10);
    expect(recommendation.chosen).toMatchObject({ source, metric });
    expect(recommendation.wanted).toBe(wanted);
  });
});

describe('explainForecast', () => {
  it('tells what the prediction needs, and when that is not enough for now', () => {
    expect(
      explainForecast(
        recommendationOf(sample(0.5), prediction(0.9, null), noForecast, policy(), 10),
        'fresh',
      ),
    ).toEqual({
      capacity: 13,
      detail: 'the prediction needs 13',
    });
    expect(
      explainForecast(
        recommendationOf(sample(0.9), prediction(0.1, null), noForecast, policy(), 10),
        'fresh',
      ),
    ).toEqual({
      capacity: 13,
      detail: 'the prediction needs 2, less than the 13 needed now',
    });
    expect(
      explainForecast(recommendationOf(sample(0.5), null, noForecast, policy(), 10), 'not asked for'),
    ).toEqual({
      capacity: 8,
      detail: 'no prediction: not asked for',
    });
  });
});

describe('withoutStaleDemand', () => {
  const at = (ageMs: number, ahead: EnginePrediction | null = null) => {
    const newest = { ...sample(0.9), atMs: now - ageMs };
    return withoutStaleDemand(
      recommendationOf(newest, ahead, noForecast, policy(), 10),
      checkSamples([newest], policy(), now),
      10,
    );
  };

  it('still scales out on demand measured a quarter of an hour ago', () => {
    expect(at(900_000)).toEqual({ capacity: 13 });
  });

  it('wants nothing of what was measured before that', () => {
    expect(at(900_001)).toEqual({
      capacity: 10,
      code: 'stale_data',
      detail: 'the newest sample is 901 s old',
    });
  });

  it('then goes by a prediction alone, and only upwards', () => {
    expect(at(900_001, prediction(0.8, null))).toMatchObject({ capacity: 12, code: 'stale_data' });
    expect(at(900_001, prediction(1.2, null))).toEqual({ capacity: 18 });
    expect(at(900_001, prediction(0.1, null))).toMatchObject({ capacity: 10, code: 'stale_data' });
  });
});

describe('tolerate', () => {
  const given = (cpuRatio: number, current: number, values = {}, instances = 10) => {
    const recommendation = recommendationOf(
      sample(cpuRatio, null, instances),
      null,
      noForecast,
      policy(values),
      instances,
    );
    return tolerate(recommendation.wanted, current, recommendation, policy(values));
  };

  it.each([
    [0.7, { capacity: 10 }],
    [0.71, { capacity: 10, code: 'within_tolerance' }],
    [0.77, { capacity: 10, code: 'within_tolerance' }],
    [0.771, { capacity: 12 }],
    [0.63, { capacity: 10, code: 'within_tolerance' }],
    [0.62, { capacity: 9 }],
  ])('at %d of a target of 0.7, ten instances', (ratio, expected) => {
    expect(given(ratio, 10)).toMatchObject(expected);
    if (!('code' in expected)) expect(given(ratio, 10)).not.toHaveProperty('code');
  });

  it('looks at utilisation, not at whole instances: 4 that run at 71 % stay 4', () => {
    expect(given(0.71, 4, {}, 4)).toEqual({
      capacity: 4,
      code: 'within_tolerance',
      detail: 'the difference of 1% is within the tolerance of 10%',
    });
  });

  it('is off at zero tolerance, from zero, and outside the bounds', () => {
    expect(given(0.71, 10, { tolerance: 0 })).toEqual({ capacity: 11 });
    expect(given(0.71, 0)).toEqual({ capacity: 11 });
    expect(given(0.71, 10, { minInstances: 11 })).toEqual({ capacity: 11 });
    expect(given(0.71, 10, { maxInstances: 9 })).toEqual({ capacity: 11 });
  });

  it('does not hold back what is saturated', () => {
    // 4 report 98 % of a target of 0.97: twice 4 is within 10 % of the 7.5 that would be.
    expect(given(0.98, 15, { targetCpuRatio: 0.97, maxInstances: 99 }, 8)).toEqual({ capacity: 16 });
    expect(given(0.97, 15, { targetCpuRatio: 0.62, maxInstances: 99 }, 10)).toMatchObject({ capacity: 15 });
  });
});
