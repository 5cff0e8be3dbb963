import { describe, expect, it } from 'vitest';
import { DemandForecaster } from '../../../worker/forecaster/demand-forecaster.ts';
import { LevelDrop } from '../../../worker/forecaster/level-drop.ts';
import { feed, normals } from '../../support/forecast-input.ts';

const stepMs = 300_000;
const day = 288;
const sixHours = 72;

describe('LevelDrop', () => {
  const seenAfter = (steps: number, demand: (step: number) => number): number[] => {
    const drop = new LevelDrop(stepMs);
    return Array.from({ length: steps }, (_, step) => step).filter((step) => drop.add(demand(step), 9));
  };

  it('is seen once, after six hours under a third of what is usual', () => {
    expect(seenAfter(500, () => 2.9)).toEqual([sixHours - 1]);
    expect(seenAfter(500, () => 3)).toEqual([]);
  });

  it('is seen in spite of an odd step, and not where every fourth is usual', () => {
    expect(seenAfter(500, (step) => (step === 40 ? 9 : 1))).toEqual([sixHours + 3]);
    expect(seenAfter(5_000, (step) => (step % 4 === 0 ? 9 : 1))).toEqual([]);
  });

  it('is seen again after demand has come back', () => {
    const demand = (step: number) => (step < 100 || step > 200 ? 1 : 9);
    expect(seenAfter(400, demand)).toEqual([sixHours - 1, 200 + sixHours]);
  });
});

describe('a service that is shut down', () => {
  const noise = normals(7);
  const burst = (step: number) => (step % 53 < 3 ? 25 : 0);
  const busy = (steps: number) =>
    Array.from({ length: steps }, (_, step) => Math.max(0, 15 + 2 * noise() + burst(step)));
  const quiet = (steps: number) => Array.from({ length: steps }, () => Math.max(0, 1 + noise() / 10));
  const uppersOf = (demands: readonly number[]): number[] => {
    const forecaster = new DemandForecaster({ stepMs, horizonSteps: 2 });
    const uppers: number[] = [];
    feed(forecaster, demands, 0, () => uppers.push(forecaster.planned.upper));
    return uppers;
  };

  it('is not planned for by the errors of busy days for long', () => {
    const uppers = uppersOf([...busy(8 * day), ...quiet(day)]);
    const upperAfter = (steps: number) => uppers[8 * day + steps] as number;
    expect(upperAfter(12)).toBeGreaterThan(10);
    expect(upperAfter(sixHours + 6)).toBeLessThan(5);
    expect(upperAfter(day - 1)).toBeLessThan(3);
  });

  it('comes back as what it was: its days are remembered', () => {
    const back = busy(2 * day);
    const uppers = uppersOf([...busy(8 * day), ...quiet(100), ...back]);
    const missed = back.filter(
      (demand, step) => step > sixHours && demand > (uppers[8 * day + 98 + step] as number),
    );
    expect(missed.length / (2 * day - sixHours)).toBeLessThan(0.06);
  });
});
