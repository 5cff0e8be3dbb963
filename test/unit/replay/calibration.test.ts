import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { projectRoot } from '../../../shared/project-root.ts';
import {
  calibrationOf,
  type Outcome,
  type Outcomes,
  outcomesOf,
  recordStatements,
} from '../../../worker/replay/calibration.ts';
import { type PlantOptions, runPlant } from '../../../worker/replay/plant.ts';
import { policies } from '../../../worker/replay/policies.ts';
import type { PolicyMaker, StepStatements } from '../../../worker/replay/policy.ts';
import { readTrace, type Trace } from '../../../worker/replay/trace.ts';
import { forAll } from '../../support/for-all.ts';

const traceFiles = ['azvm_daily', 'azvm_cron'].map(
  (name) => new URL(`../../demo/${name}.csv.gz`, import.meta.url).pathname,
);
const many = (n: number, confidence: number, right: number): Outcome[] =>
  Array.from({ length: n }, (_, at) => ({ confidence, right: at < right ? 1 : 0 }));

describe('the calibration of what was stated', () => {
  it('puts ten statements into ten deciles, and into bins of equal width', () => {
    const outcomes = Array.from({ length: 10 }, (_, at) => ({
      confidence: at === 9 ? 1 : 0.905 + at / 100,
      right: at === 0 ? 0 : 1,
    }));
    const { n, deciles, bins } = calibrationOf(outcomes.toReversed());
    expect(n).toBe(10);
    expect(deciles.groups).toHaveLength(10);
    expect(deciles.groups[0]).toEqual({ n: 1, stated: 0.905, observed: 0, difference: -0.905 });
    expect(deciles.groups[9]).toEqual({ n: 1, stated: 1, observed: 1, difference: 0 });
    expect(deciles.worst_error).toBe(0.905);
    // Of 0.905 to 0.985 and 1 the mean is 0.9505, and nine of ten were right.
    expect(bins.groups).toHaveLength(1);
    expect(bins.groups[0]?.stated).toBeCloseTo(0.9505, 12);
    expect(bins.groups[0]?.difference).toBeCloseTo(-0.0505, 12);
    expect(bins.mean_error).toBeCloseTo(0.0505, 12);
  });

  it('weighs the mean error by statements', () => {
    const { bins } = calibrationOf([...many(30, 0.25, 12), ...many(10, 0.75, 5)]);
    expect(bins.groups.map((group) => group.n)).toEqual([30, 10]);
    expect(bins.mean_error).toBeCloseTo((30 * 0.15 + 10 * 0.25) / 40, 12);
    expect(bins.worst_error).toBeCloseTo(0.25, 12);
  });

  it('has those that said the same share what came of them, over the borders of deciles', () => {
    const { deciles } = calibrationOf([...many(50, 0.5, 25), ...many(50, 0.9, 45)]);
    for (const [at, { observed }] of deciles.groups.entries())
      expect(observed).toBeCloseTo(at < 5 ? 0.5 : 0.9, 12);
  });

  it('does not depend on the order of statements, ties or not, nor loses any', () => {
    const outcome = fc.record({
      confidence: fc.integer({ min: 0, max: 20 }).map((value) => value / 20),
      right: fc.integer({ min: 0, max: 1 }),
    });
    forAll(100, [fc.array(outcome, { maxLength: 80 })], (outcomes) => {
      const one = calibrationOf(outcomes);
      expect(calibrationOf(outcomes.toReversed())).toEqual(one);
      for (const { groups } of [one.deciles, one.bins])
        expect(groups.reduce((sum, group) => sum + group.n, 0)).toBe(outcomes.length);
    });
  });

  it('has nothing to say of nothing', () => {
    const { n, deciles } = calibrationOf([]);
    expect([n, deciles.groups.length, deciles.mean_error, deciles.worst_error]).toEqual([0, 0, 0, 0]);
  });
});

/** Demand of 0, 1, … 9 by turns: it is at most 6 in seven of ten steps. */
const sawtooth = (missing: readonly number[] = []): Trace => {
  const demand = Float64Array.from({ length: 1_000 }, (_, step) => step % 10);
  return {
    name: 'sawtooth',
    startMs: 0,
    stepMs: 3_600_000,
    demand,
    missing: Uint8Array.from(demand, (_, step) => (missing.includes(step) ? 1 : 0)),
  };
};
const saying =
  (confidence: number): PolicyMaker =>
  () => ({
    decide: () => 10,
    stated: (): StepStatements => ({
      horizonSteps: 3,
      decided: { confidence, atMost: 6 },
      around: [{ confidence: 1, atMost: 9 }],
    }),
  });
const options: PlantOptions = {
  delayMs: 300_000,
  minInstances: 1,
  maxInstances: 100_000,
  target: 0.7,
  risk: 0.02,
  pinned: false,
  lost: 0,
};
function outcomes(trace: Trace, make: PolicyMaker): Outcomes {
  const listened = recordStatements(make);
  runPlant(trace, listened.make, options);
  return outcomesOf(trace, listened.statements);
}

describe('outcomes of a replay', () => {
  it('are of the demand at the horizon, from the second day on, exactly at the limit within it', () => {
    const { decided, around } = outcomes(sawtooth(), saying(0.7));
    // The first day is not scored; of the last three steps the horizon is not in the trace.
    expect(decided).toHaveLength(1_000 - 24 - 3);
    // Step 24 speaks of step 27, where demand is 7; step 30 of step 33, where it is 3.
    expect(decided[0]).toEqual({ confidence: 0.7, right: 0 });
    expect(decided[6]).toEqual({ confidence: 0.7, right: 1 });
    expect(calibrationOf(decided).bins.worst_error).toBeLessThan(0.01);
    expect(calibrationOf(around).bins.worst_error).toBe(0);
  });

  it('show a forecaster that lies as lying', () => {
    const { decided } = outcomes(sawtooth(), saying(0.98));
    const { deciles, bins } = calibrationOf(decided);
    expect(bins.mean_error).toBeCloseTo(0.28, 2);
    expect(bins.groups[0]?.difference).toBeCloseTo(-0.28, 2);
    // However its statements are ordered, every decile shows it.
    for (const group of deciles.groups) expect(group.difference).toBeCloseTo(-0.28, 2);
  });

  it('are not counted where nothing was recorded', () => {
    expect(outcomes(sawtooth([27, 500]), saying(0.7)).decided).toHaveLength(1_000 - 24 - 3 - 2);
  });

  it('are none of a policy that states nothing', () => {
    expect(outcomes(sawtooth(), policies.hpa as PolicyMaker)).toEqual({ decided: [], around: [] });
  });

  it('leave what is decided as it is', () => {
    const trace = readTrace(traceFiles[1] as string);
    const plain = runPlant(trace, policies.scaler as PolicyMaker, options);
    const listened = runPlant(trace, recordStatements(policies.scaler as PolicyMaker).make, options);
    expect(listened.paid).toEqual(plain.paid);
  });
});

describe('on the two recorded loads here', () => {
  const pooled: Outcomes = { decided: [], around: [] };
  for (const file of traceFiles) {
    const { decided, around } = outcomes(readTrace(file), policies.scaler as PolicyMaker);
    pooled.decided.push(...decided);
    pooled.around.push(...around);
  }

  // A decile is of about 1,540 steps, neighbours much alike: chance alone moves it by 0.01 where nearly all are right,
  // by 0.02 where half are.
  it('every decile of what is stated of counts decided came true within 0.02', () => {
    const { n, deciles, bins } = calibrationOf(pooled.decided);
    expect(n).toBeGreaterThan(15_000);
    expect(deciles.groups).toHaveLength(10);
    expect(deciles.worst_error).toBeLessThanOrEqual(0.02);
    expect(deciles.mean_error).toBeLessThanOrEqual(0.01);
    // Nor is there a handful, stated with 0.7 and always right, that deciles would hide.
    expect(bins.worst_error).toBeLessThanOrEqual(0.02);
  });

  it('so did every decile and bin of counts around those expected, within 0.03', () => {
    const { deciles, bins } = calibrationOf(pooled.around);
    expect(bins.groups).toHaveLength(10);
    expect(Math.max(deciles.worst_error, bins.worst_error)).toBeLessThanOrEqual(0.03);
    expect(Math.max(deciles.mean_error, bins.mean_error)).toBeLessThanOrEqual(0.015);
  });

  it('a forecaster that claims half of the doubt it has is found out', () => {
    const lying = (of: readonly Outcome[]) =>
      calibrationOf(of.map(({ confidence, right }) => ({ confidence: (confidence + 1) / 2, right })));
    expect(lying(pooled.around).deciles.worst_error).toBeGreaterThan(0.3);
    expect(lying(pooled.around).bins.worst_error).toBeGreaterThan(0.3);
  });
});

describe('npm run replay -- --calibration', () => {
  const directory = mkdtempSync(join(tmpdir(), 'scaler-calibration-'));
  afterAll(() => rmSync(directory, { recursive: true }));
  /** Five days by the hour, waves of a day. */
  const traces = ['one', 'two'].flatMap((name, offset) => {
    const rows = Array.from({ length: 120 }, (_, hour) => {
      const wave = 10 + 5 * Math.sin((hour * Math.PI) / 12 + offset);
      return `${1_700_000_000 + hour * 3_600},${wave.toFixed(3)}`;
    });
    const file = join(directory, `${name}.csv`);
    writeFileSync(file, `timestamp,demand\n${rows.join('\n')}\n`);
    return ['--trace', file];
  });
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [join(projectRoot(), 'dist/worker/replay/main.js'), ...args], {
      encoding: 'utf8',
    });

  it('prints deciles and bins of the traces together', () => {
    const { stdout, status } = run(...traces, '--calibration');
    expect(status).toBe(0);
    // Of 120 hours the first day is not scored; of the last two decisions the horizon is beyond the end.
    expect(stdout).toMatch(/^counts decided: 188 statements\n {4}decile +stated +observed +difference\n/);
    expect(stdout).toMatch(/^ {7}bin +stated +observed +difference$/m);
    expect(stdout).toContain('\ncounts around those expected: 1316 statements\n');
    expect(stdout.match(/^mean error 0\.\d{4}, worst 0\.\d{4}$/gm)).toHaveLength(4);
  });

  it('with --json tells of each trace as well', () => {
    const told = JSON.parse(run(...traces, '--calibration', '--json', '--delay', '7200').stdout);
    expect(told.delay_seconds).toBe(7_200);
    expect(told.traces.map((each: { trace: string }) => each.trace)).toEqual(['one', 'two']);
    expect(told.decided.n).toBe(told.traces[0].decided.n + told.traces[1].decided.n);
    for (const { decided, around } of [told, ...told.traces]) {
      expect(decided.deciles.groups).toHaveLength(10);
      expect(around.bins.mean_error).toBeLessThan(1);
    }
  });

  it('is of scaler alone', () => {
    for (const more of [['--compare'], ['--policy', 'hpa'], ['--plot', 'x.svg']]) {
      const { status, stderr } = run(...traces, '--calibration', ...more);
      expect(status).toBe(2);
      expect(stderr).toContain('--calibration is of scaler alone');
    }
  });
});
