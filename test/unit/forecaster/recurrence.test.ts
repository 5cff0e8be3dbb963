import { describe, expect, it } from 'vitest';
import { DemandForecaster } from '../../../worker/forecaster/demand-forecaster.ts';
import { Recurrence } from '../../../worker/forecaster/recurrence.ts';
import { feed, normals } from '../../support/forecast-input.ts';

const stepMs = 300_000;
const horizonSteps = 2;

/** The period found in a demand series. */
function periodIn(demands: readonly number[]): number {
  const recurrence = new Recurrence(stepMs, horizonSteps);
  for (const [step, demand] of demands.entries()) {
    recurrence.add(step, demand - (demands[step - horizonSteps] ?? demand));
  }
  return recurrence.period;
}

/** A burst of one step, each time the period has passed; the rest is quiet. */
function bursts(steps: number, period: number, seed = 1): number[] {
  const noise = normals(seed);
  return Array.from({ length: steps }, (_, step) => {
    const isBurst = Math.floor((step + 1) / period) > Math.floor(step / period);
    return Math.max(0, 2 + 0.2 * noise() + (isBurst ? 10 : 0));
  });
}

describe('Recurrence', () => {
  it.each([7, 12, 31])('finds what comes again every %i steps', (period) => {
    expect(periodIn(bursts(900, period)) % period).toBe(0);
    expect(periodIn(bursts(900, period))).toBeGreaterThan(0);
  });

  it('finds a clock that does not keep to the steps: four times 61 minutes are 49 steps', () => {
    const period = periodIn(bursts(900, 12.25));
    expect(Math.abs(period / 12.25 - Math.round(period / 12.25)) * 12.25).toBeLessThanOrEqual(1);
  });

  it('finds nothing in noise, in a wave of a day, in a random walk and on a flat line', () => {
    const noise = normals(2);
    let walk = 100;
    const series = {
      noise: Array.from({ length: 2_000 }, () => 10 + noise()),
      day: Array.from(
        { length: 2_000 },
        (_, step) => 10 + 5 * Math.sin((2 * Math.PI * step) / 288) + noise() / 10,
      ),
      walk: Array.from({ length: 2_000 }, () => (walk += noise())),
      flat: Array.from({ length: 2_000 }, () => 4),
    };
    for (const demands of Object.values(series)) expect(periodIn(demands)).toBe(0);
  });

  it('is seldom deceived by chance, however little it has seen', () => {
    const deceived = Array.from({ length: 20 }, (_, seed) => {
      const noise = normals(seed + 1);
      return Array.from({ length: 10 }, (_, part) =>
        periodIn(Array.from({ length: 30 * (part + 1) }, () => 10 + noise())),
      ).some((period) => period > 0);
    });
    expect(deceived.filter(Boolean).length).toBeLessThanOrEqual(3);
  });

  it('forgets what has ended', () => {
    const noise = normals(3);
    const after = Array.from({ length: 10 * 288 }, () => 2 + noise());
    expect(periodIn(bursts(900, 12))).toBeGreaterThan(0);
    expect(periodIn([...bursts(900, 12), ...after])).toBe(0);
  });
});

describe('what comes again within a day', () => {
  it('is planned for when it is due, and not in between', () => {
    const forecaster = new DemandForecaster({ stepMs, horizonSteps });
    const demands = bursts(7 * 288, 12.25, 5);
    const due: number[] = [];
    const between: number[] = [];
    feed(forecaster, demands, 0, (step) => {
      if (step < 5 * 288 || step + horizonSteps >= demands.length) return;
      const phase = (step + horizonSteps) % 12.25;
      if ((demands[step + horizonSteps] as number) > 6) due.push(forecaster.planned.upper);
      else if (phase > 3 && phase < 9) between.push(forecaster.planned.upper);
    });
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
    expect(due.filter((upper) => upper > 11).length / due.length).toBeGreaterThan(0.9);
    expect(mean(between)).toBeLessThan(5);
  });
});
