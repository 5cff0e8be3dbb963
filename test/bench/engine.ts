import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { decide } from '../../worker/engine/decide.ts';
import type { EnginePolicy, EngineSample } from '../../worker/engine/types.ts';
import { lengthOf, restore, save } from '../../worker/forecaster/checkpoint.ts';
import { ResourceForecaster, shapeOf } from '../../worker/forecaster/resource-forecaster.ts';
import { policy as policyWith } from '../support/engine-input.ts';
import { median } from './goals.ts';

const help = `Usage: npm run bench:engine -- [--json] [--resources N]

  Pure computing time of the forecaster and the engine: every step goes through all resources in turn, so that caches
  are as cold as they are in service. Five-minute samples of CPU, a week of them learnt before. Medians over rounds;
  "least" is the best round, which other work on the machine disturbs least; "cpu" is the process's own time on a CPU,
  garbage collection included, which does not count the time it had to wait for one.

  --resources N   how many take turns (default 1000)
  --json          figures as one JSON object
  --help          this text`;

const stepMs = 300_000;
const weekSteps = 2_016;
/** Rounds before the measured ones: the compiler needs some, as it has had in service. */
const unmeasuredSteps = 12;
const measuredSteps = 48;

/** A day's wave with noise that is the same in every run. */
function sampleAt(step: number, seed: number): EngineSample {
  const noise = ((Math.imul(step + seed * 7_919, 2_654_435_761) >>> 0) / 4_294_967_296 - 0.5) * 0.1;
  const cpuRatio = 0.5 + 0.25 * Math.sin((2 * Math.PI * step) / 288) + noise;
  return { atMs: step * stepMs, cpuRatio, memoryRatio: null, instances: 10 };
}

const { values } = parseArgs({
  options: {
    json: { type: 'boolean' },
    resources: { type: 'string', default: '1000' },
    help: { type: 'boolean' },
  },
});
if (values.help === true) {
  console.log(help);
  process.exit(0);
}
const count = Number(values.resources);
if (!Number.isSafeInteger(count) || count < 1 || count > 100_000) {
  console.error(
    `bench:engine: --resources must be a whole number from 1 to 100000, not "${values.resources}"`,
  );
  process.exit(2);
}

const policy: EnginePolicy = policyWith({
  planning: 'risk',
  maxInstances: 100,
  decisionIntervalMs: stepMs,
  provisioningDelayMs: stepMs,
  maxScaleUpStep: 100,
  maxScaleDownStep: 100,
});
const firstStep = 5_000_000;
const week = Array.from({ length: weekSteps }, (_, index) => sampleAt(firstStep + index, 0));

const warmUps = Array.from({ length: 7 }, () => {
  const startedAt = performance.now();
  new ResourceForecaster(shapeOf(policy), ['cpu']).advance(week, policy);
  return performance.now() - startedAt;
});
const warm = new ResourceForecaster(shapeOf(policy), ['cpu']);
warm.advance(week, policy);
const checkpoint = save(warm);
const resources = Array.from({ length: count }, () => {
  const forecaster = new ResourceForecaster(shapeOf(policy), ['cpu']);
  restore(forecaster, checkpoint);
  return { forecaster, samples: week.slice(-6) };
});

/** Microseconds on a CPU so far. */
const onCpu = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

const onCpus: number[] = [];
const updates: number[] = [];
const decisions: number[] = [];
for (let step = 0; step < unmeasuredSteps + measuredSteps; step++) {
  const samples = resources.map((_, index) => sampleAt(firstStep + weekSteps + step, index));
  const cpuBefore = onCpu();
  const startedAt = performance.now();
  for (const [index, { forecaster }] of resources.entries())
    forecaster.advance([samples[index] as EngineSample], policy);
  const updatedAt = performance.now();
  for (const [index, resource] of resources.entries()) {
    const sample = samples[index] as EngineSample;
    resource.samples = [...resource.samples.slice(1), sample];
    decide({
      currentInstances: 10,
      policy,
      samples: resource.samples,
      usePrediction: true,
      prediction: null,
      forecast: resource.forecaster.forecast(policy),
      recentActions: [],
      stopped: null,
      nowMs: sample.atMs,
    });
  }
  const decidedAt = performance.now();
  if (step < unmeasuredSteps) continue;
  onCpus.push((onCpu() - cpuBefore) / count);
  updates.push(((updatedAt - startedAt) * 1_000) / count);
  decisions.push(((decidedAt - updatedAt) * 1_000) / count);
}

const round = (value: number): number => Number(value.toPrecision(3));
const least = (values: readonly number[]): number => values.reduce((a, b) => Math.min(a, b));
const both = updates.map((update, index) => update + (decisions[index] as number));
const report = {
  resources: count,
  us_per_update: round(median(updates)),
  us_per_decision: round(median(decisions)),
  us_per_update_and_decision: round(median(both)),
  us_per_update_least: round(least(updates)),
  us_per_decision_least: round(least(decisions)),
  us_per_update_and_decision_least: round(least(both)),
  us_cpu_per_update_and_decision: round(median(onCpus)),
  bytes_per_resource: lengthOf(warm.state()),
  warm_up_ms: round(median(warmUps)),
  warm_up_ms_least: round(least(warmUps)),
  node: process.version,
  cpus: cpus().length,
};
if (values.json === true) console.log(JSON.stringify(report, null, 2));
else
  for (const [name, value] of Object.entries(report))
    console.log(`${name.padEnd(34)} ${String(value).padStart(10)}`);
