import { describe, expect, it } from 'vitest';
import {
  activeFreezes,
  type FreezeWindow,
  freezeOf,
  frozenUntil,
  isTimeZone,
  nextFreeze,
  scheduleMistake,
} from '../../shared/domain/freeze-window.ts';

const at = (text: string) => Date.parse(text);
const iso = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString().slice(0, 16));
const weekdays: FreezeWindow = {
  id: 'f',
  scope: 'global',
  direction: 'down',
  schedule: '0 9 * * MON-FRI',
  time_zone: 'America/New_York',
  duration_minutes: 480,
  starts_at_ms: null,
  ends_at_ms: null,
  reason: 'business hours',
};
const nightly = (values: Partial<FreezeWindow> = {}): FreezeWindow => ({
  ...weekdays,
  schedule: '30 2 * * *',
  time_zone: 'Europe/Berlin',
  duration_minutes: 60,
  ...values,
});

describe('a freeze on a schedule', () => {
  it.each([
    ['2026-11-25T13:59:59Z', null],
    ['2026-11-25T14:00:00Z', '2026-11-25T22:00'],
    ['2026-11-25T21:59:59Z', '2026-11-25T22:00'],
    ['2026-11-25T22:00:00Z', null],
    ['2026-11-28T15:00:00Z', null], // a Saturday
    ['2026-07-01T13:30:00Z', '2026-07-01T21:00'], // summer time
  ])('at %s freezes until %s', (now, until) => {
    expect(iso(frozenUntil(weekdays, at(now)))).toBe(until);
  });

  it.each([
    // The clocks jump from 02:00 to 03:00 at 01:00Z: 02:30 never comes, and the window begins when it would have.
    ['spring, before', '2026-03-29T01:29:00Z', null],
    ['spring, within', '2026-03-29T01:31:00Z', '2026-03-29T02:30'],
    ['spring, after', '2026-03-29T02:30:00Z', null],
    // From 03:00 back to 02:00 at 01:00Z: 02:30 comes at 00:30Z and at 01:30Z.
    ['autumn, before', '2026-10-25T00:29:00Z', null],
    ['autumn, the first time', '2026-10-25T00:45:00Z', '2026-10-25T01:30'],
    ['autumn, the second time', '2026-10-25T01:45:00Z', '2026-10-25T02:30'],
    ['autumn, after', '2026-10-25T02:31:00Z', null],
  ])('across a change of the clocks: %s', (_, now, until) => {
    expect(iso(frozenUntil(nightly(), at(now)))).toBe(until);
  });

  it('that begins again before it has ended freezes on', () => {
    const always = nightly({ schedule: '*/10 * * * *', duration_minutes: 15 });
    for (let minute = 0; minute < 60; minute++) {
      expect(frozenUntil(always, at('2026-06-01T12:00:00Z') + minute * 60_000)).not.toBeNull();
    }
  });

  it('that cannot be read freezes: holding is the safe failure', () => {
    expect(frozenUntil(nightly({ time_zone: 'Nowhere/Land' }), at('2026-06-01T12:00:00Z'))).toBe(Infinity);
    expect(frozenUntil(nightly({ schedule: 'nonsense' }), at('2026-06-01T12:00:00Z'))).toBe(Infinity);
  });

  it('tells when it begins next', () => {
    expect(iso(nextFreeze(weekdays, at('2026-11-27T23:00:00Z')))).toBe('2026-11-30T14:00');
  });
});

describe('a freeze from one moment to another', () => {
  const once = nightly({
    schedule: null,
    duration_minutes: null,
    starts_at_ms: at('2026-11-27T00:00:00Z'),
    ends_at_ms: at('2026-11-30T00:00:00Z'),
  });
  it.each([
    ['2026-11-26T23:59:59Z', null],
    ['2026-11-27T00:00:00Z', '2026-11-30T00:00'],
    ['2026-11-29T23:59:59Z', '2026-11-30T00:00'],
    ['2026-11-30T00:00:00Z', null],
  ])('at %s freezes until %s', (now, until) => {
    expect(iso(frozenUntil(once, at(now)))).toBe(until);
  });
  it('begins next only while it has not', () => {
    expect(iso(nextFreeze(once, at('2026-11-01T00:00:00Z')))).toBe('2026-11-27T00:00');
    expect(nextFreeze(once, at('2026-12-01T00:00:00Z'))).toBeNull();
  });
});

describe('several freezes', () => {
  const now = at('2026-11-25T15:00:00Z');
  const active = activeFreezes(
    [
      weekdays,
      { ...weekdays, id: 'longer', duration_minutes: 600, scope: 'provider:aws' },
      { ...weekdays, id: 'up', direction: 'up', scope: 'resource:r' },
    ],
    now,
  );
  const scopes = ['global', 'provider:aws', 'scope:aws:us-east-1', 'resource:r'];
  it('the one that ends last counts', () => {
    expect(freezeOf(active, scopes, 'down')?.window.id).toBe('longer');
  });
  it('only those of the direction and of the scopes count', () => {
    expect(freezeOf(active, scopes, 'up')?.window.id).toBe('up');
    expect(freezeOf(active, ['global', 'provider:kubernetes'], 'down')?.window.id).toBe('f');
    expect(freezeOf(active, ['global'], 'up')).toBeNull();
  });
});

describe('what is accepted as a schedule', () => {
  it.each(['0 9 * * 1-5', '*/15 8-18 * * *', '30 2 L * *', '0 0 1 JAN *', '0 9 * * 1#1'])(
    '%s',
    (schedule) => {
      expect(scheduleMistake(schedule)).toBeNull();
    },
  );
  it.each([
    '',
    '* * * *',
    '0 0 9 * * 1-5',
    '@daily',
    'H * * * *',
    '61 * * * *',
    '0 0 30 2 *',
    '0 9 * * FUN',
    "0 9 * * 1'",
  ])('not %j', (schedule) => {
    expect(scheduleMistake(schedule)).not.toBeNull();
  });
  it('and as a time zone', () => {
    expect(isTimeZone('Europe/Berlin')).toBe(true);
    expect(isTimeZone('Mars/Base')).toBe(false);
    expect(isTimeZone('')).toBe(false);
  });
});
