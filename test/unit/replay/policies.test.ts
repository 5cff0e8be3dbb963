import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../../shared/project-root.ts';
import { runPlant } from '../../../worker/replay/plant.ts';
import { hpa } from '../../../worker/replay/policies/hpa.ts';
import { original } from '../../../worker/replay/policies/original.ts';
import { exampleRates, phpaHoltWinters } from '../../../worker/replay/policies/phpa-holt-winters.ts';
import { lineAt, phpaLinear } from '../../../worker/replay/policies/phpa-linear.ts';
import { targetTracking } from '../../../worker/replay/policies/target-tracking.ts';
import { policies, scalerWithLimits } from '../../../worker/replay/policies.ts';
import type { PolicyMaker } from '../../../worker/replay/policy.ts';
import { readTrace } from '../../../worker/replay/trace.ts';

const minute = 60_000;
const start = (make: PolicyMaker, stepMs = minute) =>
  make({ stepMs, delayMs: stepMs, minInstances: 1, maxInstances: 1_000, target: 0.5, risk: 0.02 });
/** Feeds utilisation of `total` ready instances, step by step. @returns the totals named. */
function feed(
  make: PolicyMaker,
  total: number,
  utilisations: readonly (number | null)[],
  stepMs = minute,
): number[] {
  const policy = start(make, stepMs);
  let current = total;
  return utilisations.map((utilisation, step) => {
    current = policy.decide({ atMs: step * stepMs, utilisation, ready: current, total: current });
    return current;
  });
}

describe('the HPA', () => {
  it('does nothing within 10 % of the target, and rounds up beyond', () => {
    expect(feed(hpa, 10, [0.54])).toEqual([10]);
    expect(feed(hpa, 10, [0.56])).toEqual([12]);
  });
  it('scales out by at most the larger of 4 pods and 100 % in 15 s', () => {
    expect(feed(hpa, 2, [9], 15_000)).toEqual([6]);
    expect(feed(hpa, 10, [9], 15_000)).toEqual([20]);
    // Four periods a minute: 2, 6, 12, 24, 48.
    expect(feed(hpa, 2, [100])).toEqual([48]);
  });
  it('scales in to the highest recommendation of 300 s', () => {
    // 10 at 0.5 asks for 10; then 0.1 asks for 2, which counts once the 10 are older than 300 s.
    expect(feed(hpa, 10, [0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])).toEqual([10, 10, 10, 10, 10, 10, 2]);
  });
});

describe('target tracking', () => {
  it('waits for three minutes above the target, then goes to what is needed', () => {
    expect(feed(targetTracking, 10, [0.8, 0.8, 0.8])).toEqual([10, 10, 16]);
    expect(feed(targetTracking, 10, [0.8, 0.4, 0.8, 0.8])).toEqual([10, 10, 10, 10]);
  });
  it('waits for a quarter of an hour below 90 % of it', () => {
    const calm = feed(targetTracking, 10, Array(15).fill(0.4));
    expect(calm.slice(0, 14)).toEqual(Array(14).fill(10));
    expect(calm[14]).toBe(8);
  });
});

describe('the predictive HPA', () => {
  it('follows a straight line through six counts', () => {
    expect(lineAt([1, 2, 3, 4, 5, 6], 8)).toBeCloseTo(9, 12);
    expect(lineAt([4, 4, 4], 10)).toBeCloseTo(4, 12);
    expect(lineAt([7], 3)).toBe(7);
    // Demand 5, 6, 7, 8 at 0.5 asks for 10, 12, 14, 16; two steps ahead of the last: 20.
    const policy = start(phpaLinear);
    const named = [5, 6, 7, 8].map((demand, step) =>
      policy.decide({ atMs: step * minute, utilisation: demand / 10, ready: 10, total: 10 }),
    );
    expect(named.at(-1)).toBe(20);
  });
  it('repeats the day it has seen, once it has seen one', () => {
    const day = 288;
    const policy = start(phpaHoltWinters(exampleRates), 300_000);
    let named = 0;
    // Ten by day, twenty in the last hour.
    for (let step = 0; step < 2 * day - 13; step++) {
      const count = step % day >= day - 12 ? 20 : 10;
      named = policy.decide({ atMs: step * 300_000, utilisation: count / 20, ready: 10, total: 10 });
    }
    expect(named).toBeGreaterThanOrEqual(19);
  });
});

describe('the original', () => {
  it('goes at most three up and two down, 300 s apart', () => {
    expect(feed(original, 10, [1, 1, 1, 1, 1, 1])).toEqual([13, 13, 13, 13, 13, 16]);
    expect(feed(original, 10, [0.1])).toEqual([8]);
  });
  it('keeps a tenth and one spare', () => {
    // 4 x 0.5 x 1.1 / 0.5 = 4.4: five, and one spare.
    expect(feed(original, 4, [0.5])).toEqual([6]);
    // At the target exactly: 10 x 0.4 x 1.1 / 0.5 = 8.8.
    expect(feed(original, 10, [0.4])).toEqual([10]);
  });
});

describe('every policy', () => {
  const trace = readTrace(join(projectRoot(), 'test/demo/azvm_cron.csv.gz'));
  const short = { ...trace, demand: trace.demand.slice(0, 900), missing: trace.missing.slice(0, 900) };
  const options = {
    delayMs: 300_000,
    minInstances: 1,
    maxInstances: 200,
    target: 0.7,
    risk: 0.02,
    pinned: false,
    lost: 0.1,
  };
  it.each(Object.keys(policies))('%s names whole numbers, the same ones every time', (name) => {
    const make = policies[name] as PolicyMaker;
    const first = runPlant(short, make, options);
    const again = runPlant(short, make, options);
    expect([...first.paid]).toEqual([...again.paid]);
    expect(first.paid.every((paid) => Number.isInteger(paid) && paid >= 1)).toBe(true);
  });
  it('scaler with limits goes at most three up and two down, five minutes apart', () => {
    const { paid } = runPlant(short, scalerWithLimits, options);
    for (let step = 1; step < paid.length; step++) {
      const change = (paid[step] as number) - (paid[step - 1] as number);
      expect(change).toBeLessThanOrEqual(3);
      expect(change).toBeGreaterThanOrEqual(-2);
    }
  });
});

describe('npm run replay', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [join(projectRoot(), 'dist/worker/replay/main.js'), ...args], {
      encoding: 'utf8',
      cwd: projectRoot(),
    });
  const file = 'test/demo/azvm_cron.csv.gz';

  it('prints the figures of one policy as JSON', () => {
    const { status, stdout } = run('--trace', file, '--policy', 'hpa', '--json', '--delay', '600');
    expect(status).toBe(0);
    const figures = JSON.parse(stdout);
    expect(Object.keys(figures).sort()).toEqual(
      [
        'actions_per_day',
        'breach_percent',
        'cost_usd',
        'decisions',
        'delay_seconds',
        'instance_hours',
        'ms_per_decision',
        'oracle_instance_hours',
        'overload_percent',
        'policy',
        'ratio_to_oracle',
        'trace',
        'unserved_percent',
      ].sort(),
    );
    expect(figures).toMatchObject({ trace: 'azvm_cron', policy: 'hpa', delay_seconds: 600 });
  });

  it('compares all policies, and draws a picture', () => {
    const folder = mkdtempSync(join(tmpdir(), 'scaler-plot-'));
    const plot = join(folder, 'out.svg');
    const { stdout } = run('--trace', file, '--compare');
    for (const name of Object.keys(policies)) expect(stdout).toContain(` ${name} `);
    expect(run('--trace', file, '--plot', plot).status).toBe(0);
    expect(existsSync(plot)).toBe(true);
    const svg = readFileSync(plot, 'utf8');
    expect(svg).toMatch(/^<svg [^>]*>[\s\S]*<\/svg>\n$/);
    expect(svg).not.toContain('NaN');
    expect(svg).toContain('<title>azvm_cron under scaler</title>');
    expect(
      svg.match(/text-anchor="end" fill="#555">\d\d-\d\d /g),
      'the last date ends at the edge',
    ).toHaveLength(1);
    rmSync(folder, { recursive: true });
  });

  it.each([
    [[], '--trace names the workload'],
    [['--trace', 'nope.csv'], 'nope.csv cannot be read: ENOENT'],
    [['--trace', file, '--policy', 'magic'], '--policy must be one of scaler, hpa'],
    [['--trace', file, '--risk', '0'], '--risk must be a number from 0.001 to 0.5, not "0"'],
    [['--trace', file, '--delay', 'soon'], '--delay must be a number'],
    [['--bogus'], "Unknown option '--bogus'"],
  ])('refuses %j in one sentence', (args, words) => {
    const { status, stderr } = run(...args);
    expect(status).toBe(2);
    expect(stderr).toContain(words);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});
