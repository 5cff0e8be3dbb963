import { describe, expect, it } from 'vitest';
import { decide, engineVersion } from '../../../worker/engine/decide.ts';
import type { EngineInput, EnginePrediction } from '../../../worker/engine/types.ts';
import { aged, input, minutes, now, policy } from '../../support/engine-input.ts';

const prediction = (values: Partial<EnginePrediction> = {}): EnginePrediction => ({
  forMs: now + 120_000,
  madeAtMs: now - 60_000,
  cpuRatio: 0.85,
  memoryRatio: 0.7,
  instances: 4,
  confidence: 0.9,
  ...values,
});
/** A quarter of an hour at these values, on as many instances as run. */
const steady = (instances: number, cpuRatio: number | null, memoryRatio: number | null = null) => ({
  currentInstances: instances,
  samples: minutes(15, { cpuRatio, memoryRatio, instances }),
});
const old = (given: Partial<EngineInput>, ms: number): Partial<EngineInput> => ({
  ...given,
  samples: aged(given.samples ?? [], ms),
});
const busy = steady(4, 0.9);
const idle = steady(10, 0.1);
const justNow = (action: 'ScaleUp' | 'ScaleDown' = 'ScaleUp') => ({
  recentActions: [{ atMs: now - 100_000, action }],
});

/** What is given, then the target, the count wanted before limits, the reason's code, and the reason. */
type Case = [string, Partial<EngineInput>, [number, number | null, string], string];

const cases: Case[] = [
  [
    'keeps what fits',
    steady(4, 0.68),
    [4, 4, 'demand_matches_capacity'],
    'Measured CPU: 68% on 4 instances: 4 instances will do for a CPU target of 70%.',
  ],
  [
    'scales out for CPU',
    busy,
    [6, 6, 'demand_above_capacity'],
    'Measured CPU: 90% on 4 instances: scaling up from 4 to 6 for a CPU target of 70%.',
  ],
  [
    'scales out for memory when that needs more',
    steady(4, 0.3, 0.95),
    [5, 5, 'demand_above_capacity'],
    'Measured CPU: 30%, Memory: 95% on 4 instances: scaling up from 4 to 5 for a memory target of 80%.',
  ],
  [
    'scales in by what the whole window allows',
    steady(10, 0.58),
    [9, 9, 'demand_below_capacity'],
    'Measured CPU: 58% on 10 instances: scaling down from 10 to 9 for a CPU target of 70%.',
  ],
  [
    'takes 7.000000001 for 7',
    steady(7, 0.7),
    [7, 7, 'demand_matches_capacity'],
    'Measured CPU: 70% on 7 instances: 7 instances will do for a CPU target of 70%.',
  ],
  [
    'goes up by at most the step',
    steady(8, 0.97),
    [11, 12, 'scale_up_step'],
    'Measured CPU: 97% on 8 instances: scaling up from 8 to 11 because at most 3 may be added at once, where 12 would meet a CPU target of 70%.',
  ],
  [
    'goes down by at most the step',
    idle,
    [8, 2, 'scale_down_step'],
    'Measured CPU: 10% on 10 instances: scaling down from 10 to 8 because at most 2 may be removed at once, where 2 would meet a CPU target of 70%.',
  ],
  [
    'grows past saturation',
    { ...steady(10, 1), policy: policy({ maxScaleUpStep: 100, maxInstances: 99 }) },
    [20, 20, 'saturated'],
    'Measured CPU: 100% on 10 instances: scaling up from 10 to 20 because CPU at 100% hides how much more is needed.',
  ],
  [
    'ignores a difference within the tolerance',
    steady(10, 0.75),
    [10, 11, 'within_tolerance'],
    'Measured CPU: 75% on 10 instances: 11 instances would meet a CPU target of 70%, but the count stays at 10 because the difference of 7% is within the tolerance of 10%.',
  ],
  [
    'stops at the maximum',
    steady(19, 0.97),
    [20, 27, 'at_maximum'],
    'Measured CPU: 97% on 19 instances: scaling up from 19 to 20 because the maximum is 20, where 27 would meet a CPU target of 70%.',
  ],
  [
    'stays at the maximum',
    steady(20, 0.97),
    [20, 28, 'at_maximum'],
    'Measured CPU: 97% on 20 instances: 28 instances would meet a CPU target of 70%, but the count stays at 20 because the maximum is 20.',
  ],
  [
    'stops at the minimum',
    { ...steady(4, 0.05), policy: policy({ minInstances: 3 }) },
    [3, 1, 'at_minimum'],
    'Measured CPU: 5% on 4 instances: scaling down from 4 to 3 because the minimum is 3, where 1 would meet a CPU target of 70%.',
  ],
  [
    'leads back what is above the maximum, a step at a time, though the load is high',
    steady(25, 0.97),
    [23, 35, 'above_maximum'],
    'Measured CPU: 97% on 25 instances: scaling down from 25 to 23 because 25 is above the maximum of 20, where 35 would meet a CPU target of 70%.',
  ],
  [
    'leads up what is below the minimum, a step at a time, though the load is low',
    { ...steady(2, 0.1), policy: policy({ minInstances: 8 }) },
    [5, 1, 'below_minimum'],
    'Measured CPU: 10% on 2 instances: scaling up from 2 to 5 because 2 is below the minimum of 8, where 1 would meet a CPU target of 70%.',
  ],
  [
    'does nothing on contradictory bounds',
    { ...busy, policy: policy({ minInstances: 9, maxInstances: 3 }) },
    [4, 6, 'direction_kept'],
    'Measured CPU: 90% on 4 instances: 6 instances would meet a CPU target of 70%, but the count stays at 4 because the minimum of 9 is above the maximum of 3.',
  ],
  [
    'scales in only as far as the window was low',
    {
      currentInstances: 10,
      samples: minutes(15, (index) => ({ cpuRatio: index === 12 ? 0.63 : 0.1, instances: 10 })),
    },
    [9, 2, 'stabilized'],
    'Measured CPU: 10% on 10 instances: scaling down from 10 to 9 because 9 were needed 120 s ago, within the stabilization window of 300 s, where 2 would meet a CPU target of 70%.',
  ],
  [
    'does not scale in on a window full of holes',
    { currentInstances: 10, samples: minutes(2, { cpuRatio: 0.1, instances: 10 }) },
    [10, 2, 'partial_data'],
    'Measured CPU: 10% on 10 instances: 2 instances would meet a CPU target of 70%, but the count stays at 10 because the stabilization window of 300 s has complete samples in 2 of its 5 intervals.',
  ],
  [
    'does nothing without samples',
    { samples: [] },
    [4, null, 'no_data'],
    'The count stays at 4 because there are no usable samples: post metrics for this resource.',
  ],
  [
    'does nothing without samples even with a prediction, and even below the minimum',
    { samples: [], usePrediction: true, prediction: prediction(), policy: policy({ minInstances: 9 }) },
    [4, null, 'no_data'],
    'The count stays at 4 because there are no usable samples: post metrics for this resource.',
  ],
  [
    'does nothing when no sample can be true',
    { samples: minutes(15, { cpuRatio: Number.NaN }) },
    [4, null, 'no_data'],
    'The count stays at 4 because there are no usable samples (15 given, none plausible): post metrics for this resource.',
  ],
  [
    'does not scale in on stale samples',
    old(idle, 600_000),
    [10, 2, 'stale_data'],
    'Measured CPU: 10% on 10 instances 600 s ago: 2 instances would meet a CPU target of 70%, but the count stays at 10 because the newest sample is 600 s old.',
  ],
  [
    'does scale out on samples that are stale, for a while',
    old(busy, 600_000),
    [6, 6, 'demand_above_capacity'],
    'Measured CPU: 90% on 4 instances 600 s ago: scaling up from 4 to 6 for a CPU target of 70%.',
  ],
  [
    'does nothing on samples that are too old for that, too',
    old(busy, 1_000_000),
    [4, 6, 'stale_data'],
    'Measured CPU: 90% on 4 instances 1000 s ago: 6 instances would meet a CPU target of 70%, but the count stays at 4 because the newest sample is 1000 s old.',
  ],
  [
    'does not lead down to the maximum on stale samples',
    old(steady(25, 0.1), 600_000),
    [25, 4, 'stale_data'],
    'Measured CPU: 10% on 25 instances 600 s ago: 4 instances would meet a CPU target of 70%, but the count stays at 25 because the newest sample is 600 s old.',
  ],
  [
    'does not scale in when a metric went missing',
    {
      currentInstances: 10,
      samples: minutes(15, (index) => ({
        cpuRatio: 0.1,
        memoryRatio: index === 14 ? null : 0.1,
        instances: 10,
      })),
    },
    [10, 2, 'partial_data'],
    'Measured CPU: 10% on 10 instances: 2 instances would meet a CPU target of 70%, but the count stays at 10 because the newest sample lacks memory.',
  ],
  [
    'does not scale in while a metric is saturated',
    { currentInstances: 10, samples: minutes(15, { cpuRatio: 1, instances: 3 }) },
    [10, 6, 'saturated'],
    'Measured CPU: 100% on 3 instances: 6 instances would meet a CPU target of 70%, but the count stays at 10 because CPU at 100% hides how much is needed.',
  ],
  [
    'holds in cooldown and says what it would want',
    { ...busy, ...justNow() },
    [4, 6, 'cooldown'],
    'Measured CPU: 90% on 4 instances: 6 instances would meet a CPU target of 70%, but the count stays at 4 because 200 s of the cooldown of 300 s are left.',
  ],
  [
    'holds at the hourly limit',
    { ...busy, ...justNow(), policy: policy({ maxActionsPerHour: 1, scaleUpCooldownMs: 0 }) },
    [4, 6, 'rate_limited'],
    'Measured CPU: 90% on 4 instances: 6 instances would meet a CPU target of 70%, but the count stays at 4 because 1 of at most 1 changes were made in the last hour.',
  ],
  [
    'holds while its direction is paused',
    { ...busy, policy: policy({ scaleUpPausedUntilMs: now + 60_000 }) },
    [4, 6, 'paused'],
    'Measured CPU: 90% on 4 instances: 6 instances would meet a CPU target of 70%, but the count stays at 4 because scaling up is paused for 60 s more.',
  ],
  [
    'goes on while the other direction is paused',
    { ...busy, policy: policy({ scaleDownPausedUntilMs: now + 60_000 }) },
    [6, 6, 'demand_above_capacity'],
    'Measured CPU: 90% on 4 instances: scaling up from 4 to 6 for a CPU target of 70%.',
  ],
  [
    'holds while stopped',
    { ...busy, stopped: { scope: 'global', reason: 'drill' } },
    [4, 6, 'stopped'],
    'Measured CPU: 90% on 4 instances: 6 instances would meet a CPU target of 70%, but the count stays at 4 because scaling is stopped for global (drill).',
  ],
  [
    'follows a prediction',
    { usePrediction: true, prediction: prediction() },
    [5, 5, 'demand_above_capacity'],
    'Predicted CPU: 85%, Memory: 70% on 4 instances: scaling up from 4 to 5 for a CPU target of 70%.',
  ],
  [
    'reads a prediction by the count it was made for',
    {
      ...steady(5, 0.5),
      usePrediction: true,
      prediction: prediction({ instances: 10, cpuRatio: 0.5, memoryRatio: null }),
    },
    [8, 8, 'demand_above_capacity'],
    'Predicted CPU: 50% on 10 instances: scaling up from 5 to 8 for a CPU target of 70%.',
  ],
  [
    'follows a prediction of memory alone',
    { usePrediction: true, prediction: prediction({ cpuRatio: null, memoryRatio: 1.1 }) },
    [6, 6, 'demand_above_capacity'],
    'Predicted Memory: 110% on 4 instances: scaling up from 4 to 6 for a memory target of 80%.',
  ],
  [
    'keeps what is needed now when the prediction is lower',
    { ...busy, usePrediction: true, prediction: prediction({ cpuRatio: 0.1, memoryRatio: 0.2 }) },
    [6, 6, 'demand_above_capacity'],
    'Predicted CPU: 10%, Memory: 20%, but measured CPU: 90% on 4 instances: scaling up from 4 to 6 for a CPU target of 70%.',
  ],
  [
    'does not scale in below a prediction',
    { ...idle, usePrediction: true, prediction: prediction({ instances: 10, cpuRatio: 0.6 }) },
    [9, 9, 'demand_below_capacity'],
    'Predicted CPU: 60%, Memory: 70% on 10 instances: scaling down from 10 to 9 for a memory target of 80%.',
  ],
  [
    'scales out on a prediction alone when the samples are long out of date',
    { ...old(idle, 1_000_000), usePrediction: true, prediction: prediction({ instances: 10 }) },
    [13, 13, 'demand_above_capacity'],
    'Predicted CPU: 85%, Memory: 70% on 10 instances: scaling up from 10 to 13 for a CPU target of 70%.',
  ],
  [
    'ignores a prediction for another time',
    { ...steady(4, 0.68), usePrediction: true, prediction: prediction({ forMs: now + 3_600_000 }) },
    [4, 4, 'demand_matches_capacity'],
    'Measured CPU: 68% on 4 instances: 4 instances will do for a CPU target of 70%.',
  ],
];

describe('decide', () => {
  it.each(cases)('%s', (_, given, [target, wanted, code], reason) => {
    const decision = decide(input(given));
    const { currentInstances: current, explanation } = decision;
    expect([decision.targetInstances, explanation.wanted, decision.reasonCode]).toEqual([
      target,
      wanted,
      code,
    ]);
    expect(decision.reason).toBe(reason);
    expect(decision.decisionType).toBe(
      target > current ? 'scaleup' : target < current ? 'scaledown' : 'noaction',
    );
    expect(decision.confidence).toBe(explanation.confidence.value);
  });

  it('records every stage, in order, each beginning where the last ended', () => {
    for (const [, given] of cases) {
      const { explanation, currentInstances, targetInstances, reasonCode } = decide(input(given));
      expect(explanation.stages.map((record) => record.stage)).toEqual([
        'data_quality',
        'demand',
        'forecast',
        'recommendation',
        'tolerance',
        'stabilization',
        'step_limit',
        'bounds',
        'cooldown',
        'rate_limit',
        'pause',
        'protection',
      ]);
      let at = currentInstances;
      for (const record of explanation.stages) {
        expect(record.before).toBe(at);
        at = record.after;
      }
      expect(at).toBe(targetInstances);
      const codes = explanation.stages.flatMap((record) => record.code ?? []);
      expect(explanation.binding).toBe(codes.at(-1) ?? null);
      if (explanation.binding !== null) expect(reasonCode).toBe(explanation.binding);
    }
  });

  it('lists what each source and metric asks for, and which of them decided', () => {
    const given = { ...steady(4, 0.5, 0.6), usePrediction: true, prediction: prediction() };
    expect(decide(input(given)).explanation.candidates).toEqual([
      { source: 'reactive', metric: 'cpu', demand: 2, required: 3, chosen: false },
      { source: 'reactive', metric: 'memory', demand: 2.4, required: 3, chosen: false },
      { source: 'prediction', metric: 'cpu', demand: 3.4, required: 5, chosen: true },
      { source: 'prediction', metric: 'memory', demand: 2.8, required: 4, chosen: false },
    ]);
  });

  it('says what it made of the prediction', () => {
    const told = (given: Partial<EngineInput>) => {
      const { requested, used, why } = decide(input(given)).explanation.prediction;
      return [requested, used, why];
    };
    const asked = { usePrediction: true, prediction: prediction() };
    expect(told(asked)).toEqual([true, true, 'fresh']);
    expect(told({ prediction: prediction() })).toEqual([false, false, 'not asked for']);
    expect(told({ usePrediction: true })).toEqual([true, false, 'none was written for the time ahead']);
    const unchecked = 'there are no samples to check it against';
    expect(told({ ...asked, samples: [] })).toEqual([true, false, unchecked]);
    const floor = 'what is measured needs more than it, and that is the floor';
    const low = { ...asked, prediction: prediction({ cpuRatio: 0.1 }) };
    expect(told({ ...busy, ...low })).toEqual([true, true, floor]);
  });

  it('tells every hold, answers with the last, and counts to the latest end', () => {
    const { explanation, reasonCode } = decide(
      input({
        ...busy,
        ...justNow(),
        policy: policy({ maxActionsPerHour: 1, scaleUpPausedUntilMs: now + 60_000 }),
        protections: [
          { code: 'frozen', direction: 'up', allowed: 0, detail: 'sale', untilMs: now + 3_600_000 },
        ],
      }),
    );
    expect(explanation.stages.slice(-4).map(({ before, after, code }) => ({ before, after, code }))).toEqual([
      { before: 6, after: 4, code: 'cooldown' },
      { before: 4, after: 4, code: 'rate_limited' },
      { before: 4, after: 4, code: 'paused' },
      { before: 4, after: 4, code: 'frozen' },
    ]);
    expect(reasonCode).toBe('frozen');
    expect(explanation.earliestNextChangeMs).toBe(now + 3_600_000);
  });

  it.each<[string, Partial<EngineInput>, number | null]>([
    ['the end of the cooldown', { ...busy, ...justNow() }, now + 200_000],
    ['the end of a pause', { ...busy, policy: policy({ scaleUpPausedUntilMs: now + 5 }) }, now + 5],
    [
      'nothing for a pause without end',
      { ...busy, policy: policy({ scaleUpPausedUntilMs: Infinity }) },
      null,
    ],
    ['nothing for a stop', { ...busy, stopped: { scope: 'global', reason: 'drill' } }, null],
    [
      'the last high sample leaving the window',
      { ...idle, samples: minutes(15, (i) => ({ cpuRatio: i === 12 ? 0.7 : 0.1, instances: 10 })) },
      now + 180_000,
    ],
    ['nothing when it acts', busy, null],
    ['nothing when nothing is wanted', { ...steady(4, 0.68), ...justNow() }, null],
  ])('names as the earliest next change %s', (_, given, expected) => {
    expect(decide(input(given)).explanation.earliestNextChangeMs).toBe(expected);
  });

  it('waits by the cooldown of the direction it wants', () => {
    const limits = policy({ scaleUpCooldownMs: 0, scaleDownCooldownMs: 300_000 });
    expect(decide(input({ ...busy, ...justNow(), policy: limits })).decisionType).toBe('scaleup');
    expect(decide(input({ ...idle, ...justNow(), policy: limits })).reasonCode).toBe('cooldown');
  });

  it('is more confident with more capacity', () => {
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
    expect(at(8)).toBeGreaterThan(0.95);
  });

  it('reports what the samples were worth, and by whose rules it decided', () => {
    const samples = [...minutes(15, {}), ...minutes(1, { instances: 0 })].map((sample) => ({
      ...sample,
      atMs: sample.atMs - 30_000,
    }));
    const { explanation } = decide(input({ samples, policy: policy({ version: 7 }) }));
    expect(explanation.dataQuality).toEqual({
      verdict: 'partial',
      samplesUsed: 15,
      samplesDropped: 0,
      newestSampleAgeMs: 30_000,
    });
    expect(explanation).toMatchObject({ engineVersion, policyVersion: 7 });
  });
});
