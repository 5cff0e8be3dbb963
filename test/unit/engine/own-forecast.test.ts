import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { forecastConfidence } from '../../../worker/engine/confidence.ts';
import { decide } from '../../../worker/engine/decide.ts';
import type {
  EngineForecast,
  EngineInput,
  EnginePolicy,
  EnginePrediction,
  EngineSample,
  MetricForecast,
} from '../../../worker/engine/types.ts';
import { aged, input, minutes, now, policy, recommendationOf } from '../../support/engine-input.ts';
import { forAll } from '../../support/for-all.ts';
import { engineForecast, metricForecast } from '../../support/forecast-input.ts';

/** Four instances at a half: demand 2, of which a target of 0.7 makes 3, and a limit of 0.9 makes 3, too. */
function given(
  forecast: EngineForecast | null,
  values: Partial<EngineInput> = {},
  limits: Partial<EnginePolicy> = {},
): EngineInput {
  return input({ usePrediction: true, forecast, policy: policy({ planning: 'risk', ...limits }), ...values });
}
const cpu = (values: Partial<MetricForecast> = {}) => engineForecast([metricForecast(values)]);
const both = (ofCpu: Partial<MetricForecast>, ofMemory: Partial<MetricForecast>) =>
  engineForecast([metricForecast(ofCpu), metricForecast({ metric: 'memory', ...ofMemory })]);
const plan = (upper: number, expected = 0) => ({ upper, expected });
/** A plan that has been the same for an hour. */
const steady = (upper: number, expected = 0) => cpu(plan(upper, expected));
const running = (instances: number, cpuRatio = 0.3): Partial<EngineInput> => ({
  currentInstances: instances,
  samples: minutes(15, { cpuRatio, instances }),
});

describe('a forecast', () => {
  it('leads when it is asked for, of now, has outcomes to rest on and is trusted', () => {
    const decision = decide(given(steady(5.4, 4)));
    expect(decision).toMatchObject({ decisionType: 'scaleup', targetInstances: 6 });
    expect(decision.explanation.forecast).toEqual({ used: true, why: 'trusted' });
    expect(decision.explanation.candidates).toEqual([
      { source: 'reactive', metric: 'cpu', demand: 2, required: 3, chosen: false },
      { source: 'forecast', metric: 'cpu', demand: 5.4, required: 6, chosen: true },
    ]);
  });

  it.each<[string, Partial<EngineInput>, string]>([
    ['is not asked for', { usePrediction: false }, 'not asked for'],
    ['is not there', { forecast: null }, 'there is none'],
    [
      'is not there for a reason',
      { forecast: null, noForecast: 'it is being rebuilt' },
      'it is being rebuilt',
    ],
    [
      'was made more than a quarter of an hour ago',
      { forecast: engineForecast(undefined, { madeAtMs: now - 900_001 }) },
      'it was made too long ago',
    ],
    [
      'was made at an unknown time',
      { forecast: engineForecast(undefined, { madeAtMs: Number.NaN }) },
      'it was made too long ago',
    ],
    [
      'rests on too few outcomes',
      { forecast: cpu({ residuals: 19 }) },
      'it is learning: 19 of 20 outcomes seen',
    ],
    [
      'rests on too few outcomes of one metric',
      { forecast: both({ residuals: 20 }, { residuals: 3 }) },
      'it is learning: 3 of 20 outcomes seen',
    ],
    [
      'has lost trust',
      { forecast: both({}, { trusted: false, distrust: 'it missed' }) },
      'it has lost trust: it missed',
    ],
    [
      'has lost trust for no reason given',
      { forecast: cpu({ trusted: false }) },
      'it has lost trust: its record is bad',
    ],
    ['has no metrics', { forecast: engineForecast([]) }, 'its values are not plausible'],
    ['has nothing to be checked against', { samples: [] }, 'there are no samples to check it against'],
  ])('does not lead when it %s', (_, values, why) => {
    const decision = decide(given(steady(9), values));
    expect(decision.explanation.forecast).toEqual({ used: false, why });
    expect(decision.reason).not.toMatch(/^Predicted/);
    expect(decision.explanation.candidates.some(({ source }) => source === 'forecast')).toBe(false);
    // What is measured decides by its target: 2 / 0.7.
    if (values.samples === undefined) expect(decision.targetInstances).toBe(3);
  });

  it('leads for a quarter of an hour, and with twenty outcomes', () => {
    const forecast = engineForecast([metricForecast({ residuals: 20 })], { madeAtMs: now - 900_000 });
    expect(decide(given(forecast)).explanation.forecast.used).toBe(true);
  });

  it('leads for two decision intervals where those are longer: a step may be as old as it is long', () => {
    const hourly = (ageMs: number) =>
      decide(
        given(
          engineForecast(undefined, { madeAtMs: now - ageMs }),
          { samples: [{ atMs: now - 60_000, cpuRatio: 0.5, memoryRatio: null, instances: 4 }] },
          { decisionIntervalMs: 3_600_000 },
        ),
      ).explanation.forecast;
    expect(hourly(3_000_000)).toEqual({ used: true, why: 'trusted' });
    expect(hourly(7_200_000).used).toBe(true);
    expect(hourly(7_200_001)).toEqual({ used: false, why: 'it was made too long ago' });
  });

  describe('with a value that cannot be true does not lead', () => {
    const fields: readonly (readonly [string, (value: number) => Partial<MetricForecast>])[] = [
      ['demand', (demand) => ({ demand })],
      ['expected', (expected) => ({ expected })],
      ['upper', (upper) => ({ upper })],
      ['highest upper of the window', (upper) => ({ windowHighest: plan(upper, 1) })],
      ['highest expectation of the window', (expected) => ({ windowHighest: plan(1, expected) })],
      ['highest upper of an hour', (upper) => ({ hourHighest: plan(upper, 1) })],
      ['highest expectation of an hour', (expected) => ({ hourHighest: plan(1, expected) })],
      ['risk', (risk) => ({ risk })],
      ['count of outcomes', (residuals) => ({ residuals })],
      ['demand in its distribution', (demand) => ({ distribution: [[0.5, demand]] })],
      ['probability in its distribution', (probability) => ({ distribution: [[probability, 4]] })],
    ];
    const broken = [Number.NaN, Number.POSITIVE_INFINITY, -1];
    it.each(fields.flatMap(([field, of]) => broken.map((value) => [field, value, of] as const)))(
      'in its %s: %d',
      (_, value, of) => {
        // The metrics that are sound do not lead without it either.
        const forecast = both({}, of(value));
        const decision = decide(given(forecast));
        expect(decision.explanation.forecast).toEqual({ used: false, why: 'its values are not plausible' });
        expect(decision.reason).not.toMatch(/NaN|Infinity/);
      },
    );

    it('nor without a distribution', () => {
      expect(decide(given(cpu({ distribution: [] }))).explanation.forecast.used).toBe(false);
    });
  });

  it('keeps targets, too, while it has observed less than two hours', () => {
    // Measured: 4 × 0.8 = 3.2, which a target of 0.7 makes 5 and a limit of 0.9 makes 4.
    const decideAfter = (observedMs: number) => {
      const forecast = engineForecast([metricForecast(plan(2.7, 2))], { observedMs });
      return decide(given(forecast, running(4, 0.8)));
    };
    const early = decideAfter(7_199_999);
    expect(early.targetInstances).toBe(5);
    expect(early.explanation.forecast).toEqual({
      used: true,
      why: 'it is learning, so targets are kept, too',
    });
    expect(early.reason).toBe(
      'Predicted CPU: 50%, but measured CPU: 80% on 4 instances: scaling up from 4 to 5 for a CPU target of 70%.',
    );
    const later = decideAfter(7_200_000);
    expect(later.targetInstances).toBe(4);
    expect(later.explanation.forecast.why).toBe('trusted');
  });
});

describe('what a forecast asks for', () => {
  it.each<[string, EngineForecast, Partial<EnginePolicy>, number]>([
    // upper / 0.9, rounded up.
    ['risk: the upper bound within the limit', steady(4.5, 4.5), {}, 5],
    ['risk: a whisker more is one more', steady(4.51, 4.5), {}, 6],
    ['risk: whatever the target', steady(4.5, 4.5), { targetCpuRatio: 0.2 }, 5],
    // max(upper / 0.9, expected / 0.7).
    ['target: the expectation within the target', steady(4.5, 4.2), { planning: 'target' }, 6],
    ['target: the bound where that is more', steady(6.2, 4.2), { planning: 'target' }, 7],
    // Nothing runs hotter than 0.97.
    ['a limit that could not be seen to fail', steady(5.82), { limitRatio: 1 }, 6],
    [
      'a target that could not be seen to fail',
      steady(0, 5.83),
      { planning: 'target', targetCpuRatio: 1, limitRatio: 1 },
      7,
    ],
    ['the metric that needs more', both(plan(4.5), plan(6.3)), {}, 7],
    [
      'the target of each metric',
      both(plan(0, 4.2), plan(0, 4.2)),
      { planning: 'target', targetMemoryRatio: 0.6 },
      7,
    ],
  ])('%s', (_, forecast, limits, wanted) => {
    expect(decide(given(forecast, {}, limits)).targetInstances).toBe(wanted);
  });

  it('has what is measured as its floor, by the limit', () => {
    const decision = decide(given(steady(1, 1), running(4, 0.95)));
    expect(decision.targetInstances).toBe(5);
    expect(decision.reason).toBe(
      'Predicted CPU: 25%, but measured CPU: 95% on 4 instances: scaling up from 4 to 5 for a CPU limit of 90%.',
    );
    expect(decision.explanation.stages.find(({ stage }) => stage === 'forecast')).toMatchObject({
      after: 5,
      detail: 'the forecast needs 2, less than the 5 needed now',
    });
  });

  it('still goes by steps and bounds', () => {
    const stepped = decide(given(steady(18, 9)));
    expect(stepped).toMatchObject({ targetInstances: 7, reasonCode: 'scale_up_step' });
    expect(stepped.reason).toBe(
      'Predicted CPU: 225% on 4 instances: scaling up from 4 to 7 because at most 3 may be added at once, where 20 would meet a CPU limit of 90% at a tolerated risk of 2%.',
    );
    expect(decide(given(steady(18), {}, { maxInstances: 5 }))).toMatchObject({
      targetInstances: 5,
      reasonCode: 'at_maximum',
    });
  });
});

describe('tolerance, with a forecast', () => {
  it('never holds scaling out: one instance short is a breach more', () => {
    // 4.11 of 4 is within 10 %, which what is measured would let pass.
    expect(decide(given(steady(3.7), running(4))).targetInstances).toBe(5);
    expect(decide(given(null, running(4, 0.72))).reasonCode).toBe('within_tolerance');
  });

  const hour = (upper: number) => ({ ...plan(8.1, 4), hourHighest: plan(upper) });
  it('holds giving back a little until an hour has needed less', () => {
    // 9 of 10.
    const held = decide(given(cpu(hour(9)), running(10)));
    expect(held).toMatchObject({ targetInstances: 10, reasonCode: 'within_tolerance' });
    expect(held.reason).toBe(
      'Predicted CPU: 40% on 10 instances: 9 instances would meet a CPU limit of 90% at a tolerated risk of 2%, but the count stays at 10 because giving back 10% waits until an hour has needed less.',
    );
    expect(decide(given(cpu(hour(8.1)), running(10))).targetInstances).toBe(9);
  });

  it.each([
    // 14 of 20 are 30 % less, 15 are 25 %.
    [12.6, 14],
    [12.61, 20],
    [13.5, 20],
  ])('a plan of %d on 20 instances, with an hour that needed all: %i', (upper, target) => {
    const forecast = cpu({ ...plan(upper), hourHighest: plan(18) });
    expect(decide(given(forecast, running(20), { maxScaleDownStep: 9 })).targetInstances).toBe(target);
  });

  it('counts what the window will leave of it', () => {
    // 6 would do, but the window still needs 9 of 10.
    const forecast = (hourUpper: number) =>
      cpu({ ...plan(5.4), windowHighest: plan(8.1), hourHighest: plan(hourUpper) });
    expect(decide(given(forecast(9), running(10)))).toMatchObject({
      targetInstances: 10,
      reasonCode: 'within_tolerance',
    });
    expect(decide(given(forecast(8.1), running(10)))).toMatchObject({
      targetInstances: 9,
      reasonCode: 'stabilized',
    });
  });

  it('does not hold what is outside the bounds', () => {
    const decision = decide(given(cpu(hour(9)), running(10), { maxInstances: 9 }));
    expect(decision.targetInstances).toBe(9);
  });
});

describe('stabilization, with a forecast', () => {
  it('does not give back what a forecast of the window ordered', () => {
    const forecast = cpu({ ...plan(4.5, 4), windowHighest: plan(7.2), hourHighest: plan(7.2) });
    const decision = decide(given(forecast, running(10), { maxScaleDownStep: 9 }));
    expect(decision).toMatchObject({ targetInstances: 8, reasonCode: 'stabilized' });
    expect(decision.reason).toBe(
      'Predicted CPU: 40% on 10 instances: scaling down from 10 to 8 because a forecast of the last 300 s still needs 8, where 5 would meet a CPU limit of 90% at a tolerated risk of 2%.',
    );
  });

  it('looks at forecasts, not at what was measured in the window', () => {
    const samples = minutes(15, (index) => ({ cpuRatio: index === 12 ? 0.95 : 0.3, instances: 10 }));
    const decision = decide(given(steady(5.4), { currentInstances: 10, samples }, { maxScaleDownStep: 9 }));
    expect(decision.targetInstances).toBe(6);
    expect(decide(given(null, { currentInstances: 10, samples })).targetInstances).toBe(10);
  });

  it.each<[string, readonly EngineSample[], string]>([
    ['stale', aged(minutes(15, { cpuRatio: 0.3, instances: 10 }), 200_000), 'stale_data'],
    [
      'partial',
      minutes(15, (index) => ({ cpuRatio: 0.3, memoryRatio: index < 14 ? 0.3 : null, instances: 10 })),
      'partial_data',
    ],
    ['missing from the window', minutes(1, { cpuRatio: 0.3, instances: 10 }), 'partial_data'],
  ])('holds on data that is %s', (_, samples, code) => {
    const decision = decide(given(steady(2.7), { currentInstances: 10, samples }));
    expect(decision).toMatchObject({ targetInstances: 10, reasonCode: code });
  });

  it('scales out on stale data, and on a silence of more than a quarter of an hour by the forecast alone', () => {
    const silent = (ageMs: number, upper: number, cpuRatio = 0.3) =>
      decide(given(steady(upper), { samples: aged(minutes(15, { cpuRatio }), ageMs) }));
    expect(silent(900_000, 5.4).targetInstances).toBe(6);
    expect(silent(900_000, 2.7, 0.95).targetInstances).toBe(5);
    expect(silent(900_001, 2.7, 0.95)).toMatchObject({ targetInstances: 4, reasonCode: 'stale_data' });
    expect(silent(900_001, 5.4).targetInstances).toBe(6);
  });
});

describe('saturation, with a forecast', () => {
  const wanted = (cpuRatio: number, serving: number, current: number, capped: boolean) =>
    recommendationOf(
      { atMs: now, cpuRatio, memoryRatio: null, instances: serving },
      null,
      { usable: cpu({ ...plan(3), capped }), learning: false, why: 'trusted' },
      policy({ planning: 'risk' }),
      current,
    );

  it.each([
    // Twice what serves, then one more than what is on its way, up to four times what serves.
    [4, 8],
    [7, 8],
    [8, 9],
    [14, 15],
    [15, 16],
    [16, 16],
    [40, 16],
  ])('of a metric with a ceiling, four serving and %i on their way, %i are wanted', (current, most) => {
    const recommendation = wanted(1, 4, current, true);
    expect(recommendation.wanted).toBe(most);
    expect(recommendation.saturated).toBeDefined();
  });

  it('is none for a metric that has been well above 1: it shows its demand', () => {
    const recommendation = wanted(1.5, 4, 10, false);
    // 6 / 0.9.
    expect(recommendation.wanted).toBe(7);
    expect(recommendation.saturated).toBeUndefined();
  });

  it('is assumed for a metric that is not forecast', () => {
    const recommendation = recommendationOf(
      { atMs: now, cpuRatio: null, memoryRatio: 1, instances: 4 },
      null,
      { usable: cpu({ capped: false }), learning: false, why: 'trusted' },
      policy({ planning: 'risk' }),
      10,
    );
    expect(recommendation.wanted).toBe(11);
  });

  it('never scales in', () => {
    expect(
      decide(given(steady(3), { currentInstances: 20, samples: minutes(15, { cpuRatio: 1 }) })),
    ).toMatchObject({ targetInstances: 20, reasonCode: 'saturated' });
  });
});

describe('confidence, with a forecast', () => {
  const of = (instances: number, forecast = cpu(), limits: Partial<EnginePolicy> = {}) =>
    forecastConfidence(instances, forecast, policy(limits));

  it.each([
    // 0.9 × instances within [0.1, 3] [0.5, 4] [0.9, 5] [0.98, 5.4]; beyond the ends half of what is left.
    [0, 0.05],
    [3, 0.05],
    [4, 0.1 + 0.4 * 0.6],
    [5, 0.7],
    [6, 0.99],
    [60, 0.99],
  ])('that %i are enough is %d', (instances, value) => {
    expect(of(instances).value).toBeCloseTo(value, 12);
  });

  it('at a point is that of the point, the last where several are alike', () => {
    const forecast = cpu({
      upper: 9.1,
      distribution: [
        [0.1, 3],
        [0.2, 4.5],
        [0.6, 4.5],
        [0.9, 9],
      ],
    });
    expect(of(5, forecast).value).toBe(0.6);
    expect(of(10, forecast).value).toBe(0.95);
  });

  it('is no less than the planned bound was made for, from that bound on', () => {
    // By its own errors 0.9 × 5 is enough with 0.7, 0.9 × 6 with 0.99.
    const planned = (upper: number, risk: number) => (instances: number) =>
      of(instances, cpu({ upper, risk })).value;
    expect(planned(4.5, 0.03)(5)).toBe(0.97);
    expect(planned(4.5 + 1e-7, 0.03)(5)).toBe(0.97);
    expect(planned(4.51, 0.03)(5)).toBeCloseTo(0.7, 12);
    // Where its own errors are surer, they count.
    expect(planned(4.5, 0.5)(5)).toBeCloseTo(0.7, 12);
    expect(planned(4.5, 0.03)(6)).toBeCloseTo(0.99, 12);
    // Under the bound it says nothing.
    expect(planned(4.5, 0.03)(4)).toBeCloseTo(0.34, 12);
  });

  it('is that of each metric by its own bound', () => {
    const forecast = both({ upper: 4.5, risk: 0.03 }, { upper: 5.4, risk: 0.01 });
    expect(of(5, forecast).value).toBeCloseTo(0.7, 12);
    expect(of(5, both({ upper: 4.5, risk: 0.03 }, { upper: 4.4, risk: 0.01 })).value).toBe(0.97);
  });

  it('never falls when instances are added', () =>
    forAll(
      100,
      [fc.double({ min: 0, max: 12, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true })],
      (upper, risk) => {
        const values = Array.from({ length: 12 }, (_, count) => of(count, cpu({ upper, risk })).value);
        expect(values).toEqual(values.toSorted((a, b) => a - b));
        for (const value of values) expect(value).toBeLessThanOrEqual(1);
      },
    ));

  it('is that of the metric it is least for, on the fewest outcomes', () => {
    const forecast = both({ residuals: 30 }, { residuals: 90, distribution: [[0.5, 6]], upper: 6 });
    expect(of(6, forecast)).toEqual({
      value: 0.25,
      basis: 'forecast',
      withinRatio: 0.9,
      n: 30,
      learning: false,
    });
  });

  it('is of the limit, not the target, and of nothing hotter than can be seen', () => {
    expect(of(5, cpu(), { targetCpuRatio: 0.1, limitRatio: 0.8 })).toMatchObject({
      withinRatio: 0.8,
      value: 0.5,
    });
    expect(of(5, cpu(), { limitRatio: 1 }).withinRatio).toBe(0.97);
  });

  it('is of what is decided, not of what was wanted', () => {
    expect(decide(given(steady(5.4, 4)))).toMatchObject({ targetInstances: 6, confidence: 0.99 });
    const held = decide(given(steady(5.4, 4), {}, { maxInstances: 5 }));
    expect(held.targetInstances).toBe(5);
    expect(held.confidence).toBeCloseTo(0.7, 12);
    expect(held.explanation.confidence).toMatchObject({ basis: 'forecast', n: 500 });
  });

  it('rests on measured changes where no forecast leads', () => {
    expect(decide(given(cpu({ trusted: false }))).explanation.confidence.basis).toBe('residuals');
  });
});

describe('the sentence, with a forecast', () => {
  it.each<[string, EngineForecast, Partial<EngineInput>, string]>([
    [
      'one metric',
      steady(3.6, 3),
      {},
      'Predicted CPU: 75% on 4 instances: 4 instances will do for a CPU limit of 90% at a tolerated risk of 2%.',
    ],
    [
      'both',
      both(plan(3.6, 3), plan(3.2, 2)),
      {},
      'Predicted CPU: 75%, Memory: 50% on 4 instances: 4 instances will do for a CPU limit of 90% at a tolerated risk of 2%.',
    ],
    [
      'memory alone, of a finer risk',
      engineForecast([metricForecast({ metric: 'memory', ...plan(5.4, 3), risk: 0.00512 })]),
      {},
      'Predicted Memory: 75% on 4 instances: scaling up from 4 to 6 for a memory limit of 90% at a tolerated risk of 2%.',
    ],
  ])('of %s', (_, forecast, values, reason) => {
    expect(decide(given(forecast, values)).reason).toBe(reason);
  });

  it('of a resource without instances is of one', () => {
    const decision = decide(given(steady(1.8, 1.5), { ...running(4, 0.2), currentInstances: 0 }));
    expect(decision.reason).toMatch(/^Predicted CPU: 150% on 0 instances: scaling up from 0 to 2 /);
  });

  it('names the target where that asks for more', () => {
    expect(decide(given(steady(3, 3.5), {}, { planning: 'target' })).reason).toBe(
      'Predicted CPU: 88% on 4 instances: scaling up from 4 to 5 for a CPU target of 70%.',
    );
  });
});

describe('a prediction beside a forecast', () => {
  const prediction: EnginePrediction = {
    forMs: now + 120_000,
    madeAtMs: now - 60_000,
    cpuRatio: 1.2,
    memoryRatio: null,
    instances: 4,
    confidence: null,
  };

  it('speaks through the forecast once its worth is known', () => {
    const forecast = both(
      { ...plan(3.6, 3), predictionWeight: 0.305 },
      { ...plan(3, 3), predictionWeight: 0.1 },
    );
    const { targetInstances, explanation } = decide(given(forecast, { prediction }));
    expect(targetInstances).toBe(4);
    expect(explanation.prediction).toEqual({
      requested: true,
      used: false,
      why: 'it is weighed in the forecast, with a weight of 31%',
    });
    expect(explanation.candidates.some(({ source }) => source === 'prediction')).toBe(false);
  });

  it('speaks for itself until then, for any metric', () => {
    const forecast = both(
      { ...plan(3.6, 3), predictionWeight: 0.3 },
      { ...plan(3, 3), predictionWeight: null },
    );
    const { targetInstances, reason, explanation } = decide(given(forecast, { prediction }));
    // 4 × 1.2 / 0.7.
    expect(targetInstances).toBe(7);
    expect(explanation.prediction.used).toBe(true);
    expect(reason).toMatch(/^Predicted CPU: /);
  });

  it('speaks for itself where the forecast does not lead', () => {
    const forecast = cpu({ predictionWeight: 0.3, trusted: false });
    expect(decide(given(forecast, { prediction })).targetInstances).toBe(7);
  });
});
