import { describe, expect, it } from 'vitest';
import { decide } from '../../../worker/engine/decide.ts';
import type { Activity, EngineInput } from '../../../worker/engine/types.ts';
import { input, minutes, now, policy } from '../../support/engine-input.ts';

const minutesAgo = (count: number) => now - count * 60_000;
const heard = (values: Partial<Activity> = {}): Activity => ({
  firstMs: minutesAgo(20),
  newestMs: minutesAgo(0),
  lastActiveMs: null,
  longestGapMs: 60_000,
  ...values,
});
/** A resource that may go to 0: idle CPU, some memory. */
const given = (values: Partial<EngineInput>): EngineInput =>
  input({
    currentInstances: 1,
    policy: policy({ minInstances: 0 }),
    samples: minutes(20, { cpuRatio: 0, memoryRatio: 0.05, instances: 1 }),
    ...values,
  });
const atZero = (values: Partial<EngineInput>) =>
  given({
    currentInstances: 0,
    samples: minutes(5, { cpuRatio: null, instances: 0, requests: 50 }),
    ...values,
  });

describe('a minimum of 0', () => {
  it.each<[string, EngineInput, number, RegExp]>([
    [
      'goes to 0 after silence, whatever memory it keeps',
      given({ activity: { requests: heard(), predictions: null } }),
      0,
      /: 0%, Memory: 5% on 1 instance\. Scaling down from 1 to 0 because nothing was asked for in the last 900 s\.$/,
    ],
    [
      'goes there in steps',
      given({
        currentInstances: 4,
        samples: minutes(20, { cpuRatio: 0, memoryRatio: 0.6 }),
        activity: { requests: heard(), predictions: null },
      }),
      2,
      /at most 2 may be removed at once/,
    ],
    [
      'goes there by the silence that is configured',
      given({
        policy: policy({ minInstances: 0, scaleToZeroAfterMs: 60_000 }),
        activity: { requests: heard({ lastActiveMs: minutesAgo(2) }), predictions: null },
      }),
      0,
      /last 60 s/,
    ],
    [
      'keeps one without a signal',
      given({ activity: { requests: null, predictions: null } }),
      1,
      /the last instance stays: neither requests nor predictions/,
    ],
    [
      'keeps one while requests came lately',
      given({ activity: { requests: heard({ lastActiveMs: minutesAgo(14) }), predictions: null } }),
      1,
      /1 instance will do/,
    ],
    [
      'keeps one until the silence is long enough',
      given({ activity: { requests: heard({ firstMs: minutesAgo(14) }), predictions: null } }),
      1,
      /the last instance stays: nobody knows of 900 s of silence yet/,
    ],
    [
      'keeps one when the signal itself has stopped',
      given({ activity: { requests: heard({ newestMs: minutesAgo(4) }), predictions: null } }),
      1,
      /nobody knows/,
    ],
    [
      'keeps one when the signal itself was away for a while',
      given({ activity: { requests: heard({ longestGapMs: 600_000 }), predictions: null } }),
      1,
      /nobody knows/,
    ],
    [
      'keeps one where demand is predicted',
      given({
        usePrediction: true,
        activity: { requests: heard(), predictions: heard({ lastActiveMs: now + 60_000 }) },
      }),
      1,
      /1 instance will do/,
    ],
    [
      'does not ask predictions that are not used',
      given({ activity: { requests: null, predictions: heard() } }),
      1,
      /neither requests nor predictions/,
    ],
    [
      'goes to 0 on the silence of predictions alone',
      given({
        usePrediction: true,
        activity: { requests: null, predictions: heard({ newestMs: now + 600_000 }) },
      }),
      0,
      /nothing was asked for/,
    ],
    [
      'goes to 0 on the silence of requests that come every five minutes, without any utilisation',
      given({
        samples: Array.from({ length: 6 }, (_, index) => ({
          atMs: minutesAgo(29 - 5 * index),
          cpuRatio: null,
          memoryRatio: null,
          instances: 1,
          requests: 0,
        })),
        activity: {
          requests: heard({ firstMs: minutesAgo(29), newestMs: minutesAgo(4), longestGapMs: 300_000 }),
          predictions: null,
        },
      }),
      0,
      /nothing was asked for/,
    ],
  ])('%s', (_, engineInput, target, reason) => {
    const decision = decide({
      ...engineInput,
      samples: engineInput.samples.map((sample) => ({ ...sample })),
    });
    expect(decision.targetInstances).toBe(target);
    expect(decision.reason).toMatch(reason);
  });

  it.each<[string, EngineInput, number]>([
    ['requests', atZero({ activity: { requests: heard({ lastActiveMs: now }), predictions: null } }), 1],
    [
      'requests, during the cooldown of its going',
      atZero({
        activity: { requests: heard({ lastActiveMs: now }), predictions: null },
        recentActions: [{ atMs: now - 10_000, action: 'ScaleDown' }],
      }),
      1,
    ],
    [
      'a prediction of another count',
      atZero({
        usePrediction: true,
        samples: [],
        activity: { requests: null, predictions: heard({ lastActiveMs: now + 60_000 }) },
      }),
      1,
    ],
    ['silence', atZero({ activity: { requests: heard(), predictions: null } }), 0],
    ['nothing known', atZero({ samples: [] }), 0],
    [
      'old samples of the memory of its last instance',
      atZero({
        samples: minutes(5, { cpuRatio: 0, memoryRatio: 0.5, instances: 1 }),
        activity: { requests: heard(), predictions: null },
      }),
      0,
    ],
  ])('at 0, %s', (_, engineInput, target) => {
    const decision = decide(engineInput);
    expect(decision.targetInstances).toBe(target);
    if (target > 0) expect(decision.reasonCode).toBe('woken');
  });

  it('of 1 never comes down to 0', () => {
    const silent = { requests: heard(), predictions: null };
    expect(decide(given({ policy: policy(), activity: silent })).targetInstances).toBe(1);
  });
});
