import { describe, expect, it } from 'vitest';
import { createFaultScript } from './core/fault-script.ts';
import { seededRandom } from './core/seeded-random.ts';
import { createVirtualClock } from './core/virtual-clock.ts';

describe('the virtual clock', () => {
  it('runs what fell due in order of time, each at its own time, what they add included', () => {
    const clock = createVirtualClock({ timeScale: 0, startAt: 0 });
    const seen: string[] = [];
    const note = (name: string) => seen.push(`${name}@${clock.now()}`);
    clock.at(300, () => note('c'));
    clock.at(100, () => {
      note('a');
      clock.at(clock.now() + 100, () => note('b'));
      clock.at(clock.now() + 1_000, () => note('late'));
    });
    const takeBack = clock.at(150, () => note('never'));
    takeBack();
    clock.advance(500);
    expect(seen).toEqual(['a@100', 'b@200', 'c@300']);
    expect(clock.now()).toBe(500);
    clock.advance(600);
    expect(seen.at(-1)).toBe('late@1100');
  });

  it('keeps the order in which events of one moment were added', () => {
    const clock = createVirtualClock({ timeScale: 0, startAt: 0 });
    const seen: number[] = [];
    for (const number of [1, 2, 3]) clock.at(10, () => seen.push(number));
    clock.advance(10);
    expect(seen).toEqual([1, 2, 3]);
  });

  it('fires by itself while it runs, at a speed that can change without a jump', async () => {
    const clock = createVirtualClock({ timeScale: 0, startAt: 0 });
    let hasFired = false;
    clock.at(60_000, () => {
      hasFired = true;
    });
    clock.setTimeScale(2_000);
    await expect.poll(() => hasFired, { interval: 5 }).toBe(true);
    clock.setTimeScale(0);
    const stopped = clock.now();
    expect(stopped).toBeGreaterThanOrEqual(60_000);
    expect(stopped).toBeLessThan(60_000 + 2_000 * 500);
    clock.close();
  });

  it('stays silent once closed', async () => {
    const clock = createVirtualClock({ timeScale: 1_000 });
    clock.at(clock.now() + 5_000, () => expect.unreachable());
    clock.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
  });
});

describe('the seeded source', () => {
  it('repeats for one seed, differs for another, and spreads over [0, 1)', () => {
    const draw = (seed: number) => {
      const random = seededRandom(seed);
      return Array.from({ length: 1_000 }, random);
    };
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    const mean = draw(1).reduce((sum, value) => sum + value, 0) / 1_000;
    expect(mean).toBeGreaterThan(0.45);
    expect(mean).toBeLessThan(0.55);
    expect(Math.max(...draw(1))).toBeLessThan(1);
  });
});

describe('the fault script', () => {
  it('asks its rules in order, and the first that applies decides', () => {
    const script = createFaultScript<string>({ now: () => 0, random: () => 0.9 });
    script.add({ action: 'write', probability: 0.5, effect: 'unlucky' });
    const second = script.add({ action: ['write', 'read'], target: 'web', effect: 'second' });
    script.add({ effect: 'last' });
    const effectOn = (action: string, target: string | string[] | null) =>
      script.effectOn({ action, target, scope: null });
    expect(effectOn('write', ['api', 'web'])).toBe('second');
    expect(effectOn('write', 'api')).toBe('last');
    script.remove(second);
    expect(effectOn('read', 'web')).toBe('last');
    script.clear();
    expect(effectOn('read', null)).toBeUndefined();
  });
});
