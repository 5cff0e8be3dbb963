import { describe, expect, it } from 'vitest';
import { OverloadGuard } from '../../../api/middleware/overload-guard.ts';
import type { Lane } from '../../../api/middleware/queue-gate.ts';

function guardAt(start = 1_000_000) {
  let now = start;
  let waiting = 0;
  const guard = new OverloadGuard(
    () => waiting,
    () => now,
    () => 0.5,
  );
  const enter = (lane: Lane, waits: boolean, agoMs = 0) => guard.enter(lane, waits, now - agoMs);
  const hold = (count: number) => Array.from({ length: count }, () => enter('decide', false));
  const line = (length: number) => (waiting = length);
  return { enter, hold, line, pass: (ms: number) => (now += ms) };
}
const refused = { code: 'overloaded', httpStatus: 503 };

describe('the overload guard', () => {
  it('lets a burst of any size in: it may be worked off in no time', () => {
    const { hold } = guardAt();
    expect(hold(5_000)).toHaveLength(5_000);
  });

  it('refuses when the oldest is over half a second and more are held than were answered in a second', () => {
    const { enter, hold, pass } = guardAt();
    const leaves = hold(200);
    pass(400);
    for (const leave of leaves.splice(100, 50)) leave(true);
    // Refusals are quick, and tell nothing.
    for (let n = 0; n < 1_000; n++) enter('execute', false)(false);
    pass(101);
    // 150 are held and 50 were answered within the last second: three seconds' worth.
    expect(() => enter('decide', false)).toThrow(
      expect.objectContaining({ ...refused, retryAfterMs: 3_000 }),
    );
    expect(() => enter('decide', true)).toThrow(expect.objectContaining(refused));
  });

  it('lets executions in for longer', () => {
    const { enter, hold, pass } = guardAt();
    hold(100);
    pass(900);
    expect(() => enter('decide', false)).toThrow(expect.objectContaining(refused));
    enter('execute', false)(true);
    pass(1_100);
    expect(() => enter('execute', false)).toThrow(expect.objectContaining(refused));
  });

  it('takes a slow request among quick ones for what it is', () => {
    const { enter, hold, pass } = guardAt();
    hold(1);
    for (let ms = 0; ms < 3_000; ms += 10) {
      pass(10);
      enter('decide', false)(true);
    }
    expect(() => enter('decide', false)).not.toThrow();
    // Forty slow ones, while 100 a second are answered, are no queue either.
    hold(40);
    for (let ms = 0; ms < 3_000; ms += 10) {
      pass(10);
      enter('decide', false)(true);
    }
  });

  it('counts no client that asked to wait', () => {
    const { enter, pass } = guardAt();
    for (let n = 0; n < 1_000; n++) enter('decide', true);
    pass(10_000);
    expect(() => enter('decide', false)).not.toThrow();
  });

  it('opens again when the queue is worked off', () => {
    const { enter, hold, pass } = guardAt();
    const leaves = hold(100);
    pass(2_000);
    expect(() => enter('decide', false)).toThrow(expect.objectContaining(refused));
    for (const leave of leaves) leave(true);
    expect(() => enter('decide', false)).not.toThrow();
  });

  it('counts those that have come and were not begun, and how long each waited for that', () => {
    const { enter, line } = guardAt();
    line(1_000);
    expect(() => enter('decide', false, 499)).not.toThrow();
    expect(() => enter('execute', false, 999)).not.toThrow();
    expect(() => enter('execute', false, 1_001)).toThrow(expect.objectContaining(refused));
  });

  it('lets one in that waited long when few others wait', () => {
    const { enter, line } = guardAt();
    line(30);
    expect(() => enter('decide', false, 5_000)).not.toThrow();
  });
});
