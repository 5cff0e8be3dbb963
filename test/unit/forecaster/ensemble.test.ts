import { describe, expect, it } from 'vitest';
import { Ensemble } from '../../../worker/forecaster/ensemble.ts';
import { moment, normals } from '../../support/forecast-input.ts';

const slots = 288;
/** The sixth expert says what another service predicts. */
const weightOfPrediction = (ensemble: Ensemble) => ensemble.weights[ensemble.prediction] as number;
const sum = (values: Float64Array) => values.reduce((total, value) => total + value, 0);

/** Demand that no expert knows in advance, except a prediction that names it. */
function run(
  ensemble: Ensemble,
  steps: number,
  predict: (next: number, now: number) => number,
  seed = 1,
): void {
  const noise = normals(seed);
  let next = 10;
  for (let step = 0; step < steps; step++) {
    const demand = next;
    next = Math.max(0, 10 + 3 * noise());
    ensemble.forecast(moment({ demand, predicted: predict(next, demand) }), true);
  }
}

describe('Ensemble', () => {
  it('says the last value, smoothed a little, while nobody has a record', () => {
    const ensemble = new Ensemble(3, slots);
    expect(ensemble.forecast(moment({ demand: 10 }), true)).toBe(10);
    // SES 0.9 alone: 10 + 0.9 × 10.
    expect(ensemble.forecast(moment({ demand: 20 }), true)).toBe(19);
    expect([...ensemble.weights]).toEqual([1, 0, 0, 0, 0, 0]);
  });

  it('weighs each by exp(-30 (L / best - 1)) of its mean error', () => {
    const ensemble = new Ensemble(1, slots);
    ensemble.forecast(moment({ demand: 10, predicted: 10.5 }), true);
    const forecast = ensemble.forecast(moment({ demand: 11, predicted: 12 }), true);
    // All said 10, off by 1; the prediction was off by 0.5, so theirs weigh e^-30 each.
    const theirs = Math.exp(-30);
    expect(weightOfPrediction(ensemble)).toBeCloseTo(1 / (1 + 5 * theirs), 15);
    expect(ensemble.weights[0]).toBeCloseTo(theirs, 20);
    expect(forecast).toBeCloseTo(12, 9);
    // A hundredth of the best loss more costs exp(-0.3): 1 + 1/30 of it costs exp(-1).
    const near = new Ensemble(1, slots);
    near.forecast(moment({ demand: 30, predicted: 29 }), true);
    near.forecast(moment({ demand: 60, predicted: 60 }), true);
    expect(weightOfPrediction(near)).toBeCloseTo(Math.exp(-1) / (5 + Math.exp(-1)), 12);
  });

  it('knows how far apart its own experts are, whatever another service predicts', () => {
    const ensemble = new Ensemble(1, slots);
    ensemble.forecast(moment({ demand: 10 }), true);
    expect(ensemble.disagreement).toBe(0);
    const mixed = ensemble.forecast(moment({ demand: 20, predicted: 9_000 }), true);
    const own = [...ensemble.forecasts].slice(0, ensemble.prediction);
    expect(new Set(own).size).toBeGreaterThan(2);
    const distances = own.map((opinion) => Math.abs(opinion - mixed));
    expect(ensemble.disagreement).toBeCloseTo(distances.reduce((total, each) => total + each) / 5, 12);
    expect(ensemble.disagreement).toBeLessThan(10);
  });

  it('gives an expert without an opinion no weight, and its record still stands when it speaks again', () => {
    const ensemble = new Ensemble(1, slots);
    run(ensemble, 300, (next) => next);
    expect(weightOfPrediction(ensemble)).toBeGreaterThan(0.99);
    const silent = ensemble.forecast(moment({ demand: 10 }), true);
    // The prediction never erred: against its record, that of the others would weigh nothing.
    expect(weightOfPrediction(ensemble)).toBe(0);
    expect(sum(ensemble.weights)).toBeCloseTo(1, 12);
    expect(Number.isFinite(silent)).toBe(true);
    expect(ensemble.forecast(moment({ demand: 10, predicted: 42 }), true)).toBeCloseTo(42, 1);
  });

  it('lets predictions join once one has come true, gain weight when right and lose it when wrong', () => {
    const ensemble = new Ensemble(2, slots);
    ensemble.forecast(moment({ demand: 10, predicted: 10 }), true);
    expect(weightOfPrediction(ensemble)).toBe(0);
    expect(ensemble.predictionOutcomes).toBe(0);
    const right = new Ensemble(1, slots);
    run(right, 200, (next) => next + 0.01);
    expect(right.predictionOutcomes).toBe(199);
    expect(weightOfPrediction(right)).toBeGreaterThan(0.99);
    run(right, 600, (next) => next + 30, 2);
    expect(weightOfPrediction(right)).toBeLessThan(0.01);
    run(right, 4_000, (next) => next, 3);
    expect(weightOfPrediction(right)).toBeGreaterThan(0.99);
  });

  it('learns nothing about anybody from a step that was made up', () => {
    const ensemble = new Ensemble(1, slots);
    run(ensemble, 50, (next) => next + 1);
    const before = ensemble.predictionOutcomes;
    ensemble.forecast(moment({ demand: 1_000, predicted: 5 }), false);
    expect(ensemble.predictionOutcomes).toBe(before);
  });

  it('never says NaN: weights add up to one on flat lines, on silence and on jumps', () => {
    for (const demands of [
      Array.from({ length: 900 }, () => 0),
      Array.from({ length: 900 }, () => 7),
      Array.from({ length: 900 }, (_, at) => (at % 300 === 0 ? 1e6 : 0)),
    ]) {
      const ensemble = new Ensemble(2, slots);
      for (const [at, demand] of demands.entries()) {
        const predicted = at % 3 === 0 ? demand : Number.NaN;
        const said = ensemble.forecast(
          moment({ demand, slot: at % slots, slotAhead: (at + 2) % slots, predicted }),
          at % 7 !== 0,
        );
        expect(Number.isFinite(said) && said >= 0).toBe(true);
        expect(Math.abs(sum(ensemble.weights) - 1)).toBeLessThan(1e-12);
      }
    }
  });
});
