import { describe, expect, it } from 'vitest';
import { OverloadGuard } from '../../../api/middleware/overload-guard.ts';

function guardAt(start = 1_000_000) {
  let now = start;
  const guard = new OverloadGuard(
    () => now,
    () => 0.5,
  );
  const hold = (count: number) => Array.from({ length: count }, () => guard.enter('decide', false));
  return { guard, hold, pass: (ms: number) => (now += ms) };
}
const refused = { code: 'overloaded', httpStatus: 503 };

describe('the overload guard', () => {
  it('lets a burst of any size in: it may be worked off in no time', () => {
    const { hold } = guardAt();
    expect(hold(5_000)).toHaveLength(5_000);
  });

  it('refuses when the oldest is over a second and more are held than were answered in a second', () => {
    const { guard, hold, pass } = guardAt();
    const leaves = hold(200);
    pass(500);
    for (const leave of leaves.splice(100, 50)) leave(true);
    // Refusals are quick, and tell nothing.
    for (let n = 0; n < 1_000; n++) guard.enter('execute', false)(false);
    pass(501);
    // 150 are held and 50 were answered within the last second: three seconds' worth.
    expect(() => guard.enter('decide', false)).toThrow(
      expect.objectContaining({ ...refused, retryAfterMs: 3_000 }),
    );
    expect(() => guard.enter('decide', true)).toThrow(expect.objectContaining(refused));
  });

  it('lets executions in for longer', () => {
    const { guard, hold, pass } = guardAt();
    hold(100);
    pass(1_500);
    expect(() => guard.enter('decide', false)).toThrow(expect.objectContaining(refused));
    guard.enter('execute', false)(true);
    pass(1_600);
    expect(() => guard.enter('execute', false)).toThrow(expect.objectContaining(refused));
  });

  it('takes a slow request among quick ones for what it is', () => {
    const { guard, hold, pass } = guardAt();
    hold(1);
    for (let ms = 0; ms < 3_000; ms += 10) {
      pass(10);
      guard.enter('decide', false)(true);
    }
    expect(() => guard.enter('decide', false)).not.toThrow();
    // Forty slow ones, while 100 a second are answered, are no queue either.
    hold(40);
    for (let ms = 0; ms < 3_000; ms += 10) {
      pass(10);
      guard.enter('decide', false)(true);
    }
  });

  it('counts no client that asked to wait', () => {
    const { guard, pass } = guardAt();
    for (let n = 0; n < 1_000; n++) guard.enter('decide', true);
    pass(10_000);
    expect(() => guard.enter('decide', false)).not.toThrow();
  });

  it('opens again when the queue is worked off', () => {
    const { guard, hold, pass } = guardAt();
    const leaves = hold(100);
    pass(2_000);
    expect(() => guard.enter('decide', false)).toThrow(expect.objectContaining(refused));
    for (const leave of leaves) leave(true);
    expect(() => guard.enter('decide', false)).not.toThrow();
  });
});
