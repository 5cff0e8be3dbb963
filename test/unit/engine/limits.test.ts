import { describe, expect, it } from 'vitest';
import { bound } from '../../../worker/engine/bound.ts';
import { checkSamples } from '../../../worker/engine/data-quality.ts';
import { DecidingView, hold } from '../../../worker/engine/holds.ts';
import { limitStep } from '../../../worker/engine/limit-step.ts';
import type { EngineInput, EnginePolicy } from '../../../worker/engine/types.ts';
import { input, now, policy } from '../../support/engine-input.ts';

const coolDown = (asked: number, of: EngineInput) => hold('cooldown', new DecidingView(asked, of), asked);
const limitRate = (asked: number, going: number, of: EngineInput) =>
  hold('rate_limit', new DecidingView(asked, of), going);
const pause = (asked: number, going: number, of: EngineInput) =>
  hold('pause', new DecidingView(asked, of), going);

describe('limitStep', () => {
  it.each([
    [10, { capacity: 10 }],
    [13, { capacity: 13 }],
    [14, { capacity: 13, code: 'scale_up_step', detail: 'at most 3 may be added at once' }],
    [8, { capacity: 8 }],
    [7, { capacity: 8, code: 'scale_down_step', detail: 'at most 2 may be removed at once' }],
    [0, { capacity: 8, code: 'scale_down_step', detail: 'at most 2 may be removed at once' }],
  ])('from 10, wanting %d', (wanted, expected) => {
    expect(limitStep(wanted, 10, policy())).toEqual(expected);
  });
});

describe('bound', () => {
  const run = (
    stepped: number,
    current: number,
    values: Partial<EnginePolicy>,
    given: Partial<EngineInput> = {},
  ) => {
    const all = input({ currentInstances: current, policy: policy(values), ...given });
    return bound(stepped, all, checkSamples(all.samples, all.policy, now), null);
  };
  const limits = { minInstances: 3, maxInstances: 12 };
  const above = (capacity: number, current: number) => ({
    capacity,
    code: 'above_maximum',
    detail: `${current} is above the maximum of 12`,
  });
  const below = (capacity: number, current: number) => ({
    capacity,
    code: 'below_minimum',
    detail: `${current} is below the minimum of 3`,
  });

  it.each([
    ['inside', 8, 10, { capacity: 8 }],
    ['at the maximum', 13, 11, { capacity: 12, code: 'at_maximum', detail: 'the maximum is 12' }],
    ['at the minimum', 2, 4, { capacity: 3, code: 'at_minimum', detail: 'the minimum is 3' }],
    ['above, wanting to stay', 20, 20, above(18, 20)],
    ['above, wanting more', 23, 20, above(18, 20)],
    ['just above', 13, 13, above(12, 13)],
    ['above, going down a whole step already', 18, 20, { capacity: 18 }],
    ['above, going lower than the maximum', 11, 13, { capacity: 11 }],
    ['below, wanting less', 0, 0, below(3, 0)],
    ['below, wanting to stay', 2, 2, below(3, 2)],
    ['below, going past the minimum', 4, 2, { capacity: 4 }],
  ])('%s', (_, stepped, current, expected) => {
    expect(run(stepped, current, limits)).toEqual(expected);
  });

  it('leads up no faster than the step', () => {
    expect(run(0, 0, { minInstances: 9 })).toMatchObject({ capacity: 3, code: 'below_minimum' });
  });

  it('does not lead down on data that is not fresh, but does lead up', () => {
    const stale = { samples: [{ atMs: now - 400_000, cpuRatio: 0.1, memoryRatio: null, instances: 10 }] };
    expect(run(20, 20, limits, stale)).toMatchObject({ capacity: 20, code: 'stale_data' });
    expect(run(2, 2, limits, stale)).toMatchObject({ capacity: 3, code: 'below_minimum' });
  });

  it('keeps what runs when minimum and maximum contradict each other', () => {
    expect(run(7, 5, { minInstances: 8, maxInstances: 3 })).toEqual({
      capacity: 5,
      code: 'direction_kept',
      detail: 'the minimum of 8 is above the maximum of 3',
    });
  });
});

const action = (agoMs: number) => ({ atMs: now - agoMs, action: 'ScaleUp' as const });

describe('coolDown', () => {
  const run = (asked: number, ...agoMs: number[]) =>
    coolDown(
      asked,
      input({
        policy: policy({ scaleUpCooldownMs: 60_000, scaleDownCooldownMs: 600_000 }),
        recentActions: agoMs.map(action),
      }),
    );

  it('counts from the last action, by the direction asked for', () => {
    expect(run(6, 59_000)).toEqual({
      capacity: 4,
      code: 'cooldown',
      detail: '1 s of the cooldown of 60 s are left',
      untilMs: now + 1_000,
    });
    expect(run(6, 60_000)).toEqual({ capacity: 6 });
    expect(run(2, 60_000)).toMatchObject({ capacity: 4, code: 'cooldown', untilMs: now + 540_000 });
    expect(run(2, 600_000)).toEqual({ capacity: 2 });
  });

  it('takes the newest, in whatever order they come, and an unknown time for now', () => {
    expect(run(6, 10_000, 500_000)).toMatchObject({ untilMs: now + 50_000 });
    expect(run(6, 500_000, 10_000)).toMatchObject({ untilMs: now + 50_000 });
    expect(run(6, Number.NaN)).toMatchObject({ code: 'cooldown', untilMs: now + 60_000 });
    expect(run(6, -30_000)).toMatchObject({ code: 'cooldown', untilMs: now + 90_000 });
  });

  it('holds nothing when nothing is asked, or nothing was done', () => {
    expect(run(4, 1)).toEqual({ capacity: 4 });
    expect(run(6)).toEqual({ capacity: 6 });
  });
});

describe('limitRate', () => {
  const run = (asked: number, limit: number, ...agoMs: number[]) =>
    limitRate(
      asked,
      asked,
      input({ policy: policy({ maxActionsPerHour: limit }), recentActions: agoMs.map(action) }),
    );

  it('counts the last hour, and says when there is room again', () => {
    expect(run(6, 2, 3_600_000, 100_000)).toEqual({ capacity: 6 });
    expect(run(6, 2, 3_599_000, 100_000)).toEqual({
      capacity: 4,
      code: 'rate_limited',
      detail: '2 of at most 2 changes were made in the last hour',
      untilMs: now + 1_000,
    });
    expect(run(6, 1, 100_000, 3_599_000)).toMatchObject({ untilMs: now + 3_500_000 });
    expect(run(4, 1, 100_000)).toEqual({ capacity: 4 });
  });

  it('never ends by itself at a limit of nothing', () => {
    expect(run(6, 0)).toEqual({
      capacity: 4,
      code: 'rate_limited',
      detail: '0 of at most 0 changes were made in the last hour',
    });
  });

  it('passes on what an earlier stage held', () => {
    expect(limitRate(6, 4, input())).toEqual({ capacity: 4 });
  });
});

describe('pause', () => {
  const paused = (values: Partial<EnginePolicy>) => input({ policy: policy(values) });

  it('holds its own direction, until it ends', () => {
    expect(pause(6, 6, paused({ scaleUpPausedUntilMs: now + 90_000 }))).toEqual({
      capacity: 4,
      code: 'paused',
      detail: 'scaling up is paused for 90 s more',
      untilMs: now + 90_000,
    });
    expect(pause(2, 2, paused({ scaleDownPausedUntilMs: Number.POSITIVE_INFINITY }))).toMatchObject({
      code: 'paused',
      detail: 'scaling down is paused',
    });
    expect(pause(2, 2, paused({ scaleUpPausedUntilMs: now + 90_000 }))).toEqual({ capacity: 2 });
    expect(pause(6, 6, paused({ scaleUpPausedUntilMs: now }))).toEqual({ capacity: 6 });
  });

  it('stops both directions, whatever else is paused', () => {
    const stopped = input({ stopped: { scope: 'global', reason: 'drill' } });
    for (const asked of [2, 6]) {
      expect(pause(asked, asked, stopped)).toEqual({
        capacity: 4,
        code: 'stopped',
        detail: 'scaling is stopped for global (drill)',
      });
    }
    expect(pause(4, 4, stopped)).toEqual({ capacity: 4 });
  });
});
