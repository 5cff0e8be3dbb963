import { describe, expect, it } from 'vitest';
import { forecastConfidence } from '../../../worker/engine/confidence.ts';
import { decide } from '../../../worker/engine/decide.ts';
import { ResourceForecaster, shapeOf } from '../../../worker/forecaster/resource-forecaster.ts';
import { readTrace } from '../../demo/trace.ts';
import { input } from '../../support/engine-input.ts';
import { coarsePolicy } from '../../support/forecast-input.ts';

/** Nothing but the forecast decides: no step, cooldown or rate stands in its way. */
const limits = coarsePolicy({
  minInstances: 1,
  maxInstances: 100_000,
  maxScaleUpStep: 100_000,
  maxScaleDownStep: 100_000,
  scaleUpCooldownMs: 0,
  scaleDownCooldownMs: 0,
  toleratedRisk: 0.02,
});
const limitRatio = 0.9;
const day = 288;

interface Outcome {
  /** Share of steps above the limit, after the first day. */
  readonly breached: number;
  /** Instances paid for, over those that a plan of full foresight would run. */
  readonly cost: number;
  /** Mean difference between the confidence that was stated for what was chosen and how often it was right. */
  readonly calibrationError: number;
  /** The same for capacities around what is expected, where the answer is not yes. */
  readonly calibrationErrorAround: number;
  /** The median: the mean is also of what else the machine does. */
  readonly microsecondsPerStep: number;
}

/** Expected calibration error over ten bins of stated confidence. */
class Calibrated {
  readonly #bins = Array.from({ length: 10 }, () => ({ count: 0, stated: 0, right: 0 }));

  add(confidence: number, right: boolean): void {
    const bin = this.#bins[Math.min(9, Math.floor(confidence * 10))];
    if (bin === undefined) return;
    bin.count++;
    bin.stated += confidence;
    if (right) bin.right++;
  }

  get error(): number {
    const count = this.#bins.reduce((sum, bin) => sum + bin.count, 0);
    return this.#bins.reduce((sum, bin) => sum + Math.abs(bin.stated - bin.right), 0) / count;
  }

  get binsUsed(): number {
    return this.#bins.filter((bin) => bin.count > 0).length;
  }
}

interface Statement {
  readonly confidence: number;
  readonly instances: number;
}

/**
 * Replays a trace against a service whose launches serve two steps later (one to decide, one to provision) and whose
 * terminations serve no more at once. Launches are paid for from the start; nothing queues.
 */
function replay(file: string): Outcome {
  const trace = readTrace(new URL(`../../demo/${file}`, import.meta.url).pathname);
  const forecaster = new ResourceForecaster(shapeOf(limits), ['cpu']);
  const { stepMs } = forecaster.shape;
  const chosen = new Calibrated();
  const around = new Calibrated();
  const stated: { readonly chosen: Statement; readonly around: readonly Statement[] }[] = [];
  const samples = [];
  let ready = Math.ceil((trace[0]?.demand ?? 1) / 0.7);
  let total = ready;
  let [steps, breaches, paid, ideal] = [0, 0, 0, 0];
  const spentMs: number[] = [];
  for (const [at, { timestamp, demand }] of trace.entries()) {
    const ratio = demand / ready;
    if (at >= day) {
      steps++;
      if (ratio > limitRatio) breaches++;
      paid += total;
      ideal += Math.max(1, Math.ceil(demand / limitRatio));
      const due = stated[at - 2];
      const fits = ({ instances }: Statement) => demand <= limitRatio * instances;
      if (due !== undefined) chosen.add(due.chosen.confidence, fits(due.chosen));
      for (const said of due?.around ?? []) around.add(said.confidence, fits(said));
    }
    const atMs = Date.parse(timestamp);
    samples.push({ atMs, cpuRatio: ratio, memoryRatio: null, instances: ready });
    // What was ordered a step ago serves from the next step on.
    ready = total;
    const begunMs = performance.now();
    forecaster.advance(samples.slice(-1), limits);
    const forecast = forecaster.forecast(limits);
    const decision = decide(
      input({
        policy: limits,
        currentInstances: total,
        samples: samples.slice(-3),
        usePrediction: true,
        forecast,
        nowMs: atMs + stepMs - 1,
      }),
    );
    spentMs.push(performance.now() - begunMs);
    total = decision.targetInstances;
    ready = Math.min(ready, total);
    const expected = (forecast?.metrics[0]?.expected ?? 1) / limitRatio;
    stated.push({
      chosen: { confidence: decision.confidence, instances: total },
      around: [0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2].map((share) => ({
        instances: share * expected,
        confidence: forecast === null ? 0.5 : forecastConfidence(share * expected, forecast, limits).value,
      })),
    });
  }
  expect(around.binsUsed).toBe(10);
  return {
    breached: breaches / steps,
    cost: paid / ideal,
    calibrationError: chosen.error,
    calibrationErrorAround: around.error,
    microsecondsPerStep: 1_000 * (spentMs.toSorted((a, b) => a - b)[spentMs.length >> 1] as number),
  };
}

describe('on recorded load, at a tolerated risk of 2 %', () => {
  it.each([
    ['azvm_daily.csv.gz', 'daily with noise'],
    ['azvm_cron.csv.gz', 'a scheduled peak'],
  ])('%s (%s): few breaches, at a fair price, with honest confidence, in no time', (file) => {
    const outcome = replay(file);
    expect(outcome.breached).toBeLessThanOrEqual(0.012);
    expect(outcome.cost).toBeLessThan(1.5);
    expect(outcome.calibrationError).toBeLessThanOrEqual(0.04);
    expect(outcome.calibrationErrorAround).toBeLessThanOrEqual(0.04);
    expect(outcome.microsecondsPerStep).toBeLessThan(100);
  });
});
