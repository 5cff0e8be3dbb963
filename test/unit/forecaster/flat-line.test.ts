import { describe, expect, it } from 'vitest';
import { forecastConfidence } from '../../../worker/engine/confidence.ts';
import { DemandForecaster } from '../../../worker/forecaster/demand-forecaster.ts';
import { policy } from '../../support/engine-input.ts';
import { engineForecast, feed, metricForecast } from '../../support/forecast-input.ts';

/** Demand that never changes, after so many days: the last value is always right, and every quantile is the same. */
function flatLine(level: number, days: number, stepMs = 300_000): DemandForecaster {
  const forecaster = new DemandForecaster({ stepMs, horizonSteps: 2 });
  const steps = Math.round((days * 86_400_000) / stepMs);
  feed(
    forecaster,
    Array.from({ length: steps }, () => level),
  );
  return forecaster;
}

describe('a flat line', () => {
  it.each([0, 0.1, 3.3, 7, 100])('of %d is expected, planned for with little more, and trusted', (level) => {
    const forecaster = flatLine(level, 3);
    expect(forecaster.expected).toBeCloseTo(level, 6);
    expect(forecaster.planned.upper).toBeCloseTo(level, 2);
    expect(forecaster.trusted).toBe(true);
  });

  it.each([
    [7, 300_000],
    [3.3, 60_000],
    [0, 60_000],
  ])('of %d does not lose trust on the way there (steps of %i ms)', (level, stepMs) => {
    for (const hours of [2, 3, 6, 12, 24]) expect(flatLine(level, hours / 24, stepMs).trusted).toBe(true);
  });

  it.each([0, 0.1, 3.3, 7])('of %d is known to be one: nothing came under it, and all at it', (level) => {
    const { distribution } = flatLine(level, 3);
    expect(distribution[0]?.[0]).toBeLessThan(0.05);
    expect(distribution.at(-1)?.[0]).toBeGreaterThan(0.95);
    expect(distribution.at(-1)?.[1]).toBeCloseTo(level, 2);
  });

  it.each([3.3, 7])('of %d is surely served by enough, and surely not by too few', (level) => {
    const { distribution, planned } = flatLine(level, 3);
    const forecast = engineForecast([metricForecast({ distribution, ...planned })]);
    const confidence = (instances: number) => forecastConfidence(instances, forecast, policy()).value;
    const enough = Math.ceil((level + 0.01) / 0.9);
    expect(confidence(enough)).toBeGreaterThan(0.95);
    expect(confidence(enough - 1)).toBeLessThan(0.05);
  });
});
