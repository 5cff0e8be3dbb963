import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { errorMessage, InvalidInput } from '../../shared/errors.ts';
import {
  type Calibration,
  calibrationOf,
  type Grouped,
  type Outcomes,
  outcomesOf,
  recordStatements,
} from './calibration.ts';
import { type PlantOptions, runPlant } from './plant.ts';
import { plotRun } from './plot.ts';
import { policies, scalerWithLimits } from './policies.ts';
import type { PolicyMaker } from './policy.ts';
import { firstScoredStep, type Score, score } from './score.ts';
import { readTrace, type Trace } from './trace.ts';

const help = `Replays recorded workloads under a scaling policy and scores it.

npm run replay -- --trace FILE.csv[.gz] [--trace FILE …] [options]

  --trace FILE     a CSV of "timestamp,demand", demand in instances' worth of load; may be given many times
  --policy NAME    one of those below   (default scaler)
  --compare        every policy side by side
  --calibration    instead of a score: how often scaler was right when it stated how sure it is
  --delay SECONDS  how long a launch takes, in whole steps of the trace, at least one   (default 300)
  --target SHARE   the utilisation that target policies aim at   (default 0.7)
  --risk SHARE     the share of time that scaler may let utilisation be above 0.9   (default 0.02)
  --limits         scaler with the platform's limits: 3 up, 2 down, 300 s cooldown, 12 changes an hour
  --pinned         utilisation is measured capped at 1, as a CPU's is
  --lost SHARE     that share of the samples gets lost   (default 0)
  --price USD      of an instance-hour, for the cost   (default 0.1)
  --plot FILE.svg  draws demand, capacity, the forecast's bound and the changes (one trace, one policy)
  --json           figures as JSON: one object, or an array for several traces or policies

Policies:
  ${Object.keys(policies).join(', ')}

Scored from the second day on. ratio_to_oracle is instance-hours divided by those of the cheapest plan with full
foresight that never exceeds 0.9 utilisation.

--calibration: statements of the counts decided, and of counts around those expected (0.8 to 1.2 times), all traces
pooled, in ten groups of equal size by rank (deciles) and in ten bins of equal width.`;

interface Result extends Score {
  readonly trace: string;
  readonly policy: string;
  readonly delay_seconds: number;
  readonly cost_usd: number;
}

function main(): void {
  const { values } = parse();
  if (values.help === true) {
    console.log(help);
    return;
  }
  const files = values.trace ?? [];
  if (files.length === 0) throw usage('--trace names the workload to replay; --help tells more');
  const options: PlantOptions = {
    delayMs: number('--delay', values.delay, 1, 86_400) * 1_000,
    minInstances: 1,
    maxInstances: 1_000_000,
    target: number('--target', values.target, 0.05, 1),
    risk: number('--risk', values.risk, 0.001, 0.5),
    pinned: values.pinned === true,
    lost: number('--lost', values.lost, 0, 0.95),
  };
  const price = number('--price', values.price, 0, 1e6);
  if (values.calibration === true) {
    if (values.compare === true || values.plot !== undefined || (values.policy ?? 'scaler') !== 'scaler')
      throw usage('--calibration is of scaler alone, without --compare, --policy or --plot');
    calibrate(files, options, values.limits === true, values.json === true);
    return;
  }
  const names = values.compare === true ? Object.keys(policies) : [values.policy ?? 'scaler'];
  const results: Result[] = [];
  for (const file of files) {
    const trace = readTrace(file);
    for (const name of names) {
      if (values.json !== true && files.length * names.length > 1)
        process.stderr.write(`replaying ${trace.name} under ${name} …\n`);
      results.push(replay(trace, name, options, price, values.limits === true, values.plot));
    }
  }
  if (values.json === true) console.log(JSON.stringify(results.length === 1 ? results[0] : results, null, 2));
  else console.log(table(results));
}

function replay(
  trace: Trace,
  name: string,
  options: PlantOptions,
  price: number,
  limits: boolean,
  plot: string | undefined,
): Result {
  const policy = name === 'scaler' && limits ? scalerWithLimits : policies[name];
  if (policy === undefined)
    throw usage(`--policy must be one of ${Object.keys(policies).join(', ')}, not "${name}"`);
  const run = runPlant(trace, policy, options);
  const figures = score(trace, run, options, firstScoredStep(trace));
  if (plot !== undefined) writeFileSync(plot, plotRun(trace, run, `${trace.name} under ${name}`));
  return {
    trace: trace.name,
    policy: name,
    delay_seconds: options.delayMs / 1_000,
    ...figures,
    cost_usd: figures.instance_hours * price,
  };
}

interface Calibrated {
  readonly decided: Calibration;
  readonly around: Calibration;
}

function calibrate(files: readonly string[], options: PlantOptions, limits: boolean, asJson: boolean): void {
  const pooled: Outcomes = { decided: [], around: [] };
  const traces: (Calibrated & { readonly trace: string })[] = [];
  for (const file of files) {
    const trace = readTrace(file);
    if (!asJson && files.length > 1) process.stderr.write(`replaying ${trace.name} …\n`);
    const { make, statements } = recordStatements(
      limits ? scalerWithLimits : (policies.scaler as PolicyMaker),
    );
    runPlant(trace, make, options);
    const outcomes = outcomesOf(trace, statements);
    traces.push({ trace: trace.name, ...calibrated(outcomes) });
    for (const outcome of outcomes.decided) pooled.decided.push(outcome);
    for (const outcome of outcomes.around) pooled.around.push(outcome);
  }
  const all = calibrated(pooled);
  if (asJson)
    console.log(JSON.stringify({ delay_seconds: options.delayMs / 1_000, ...all, traces }, null, 2));
  else
    console.log(
      [
        ...sayCalibration('counts decided', all.decided),
        '',
        ...sayCalibration('counts around those expected', all.around),
      ].join('\n'),
    );
}

function calibrated({ decided, around }: Outcomes): Calibrated {
  return { decided: calibrationOf(decided), around: calibrationOf(around) };
}

function sayCalibration(of: string, { n, deciles, bins }: Calibration): string[] {
  return [`${of}: ${n} statements`, ...sayGroups('decile', deciles), ...sayGroups('bin', bins)];
}

function sayGroups(name: string, { groups, mean_error, worst_error }: Grouped): string[] {
  const rows = groups.map(({ n, stated, observed, difference }) =>
    [n, stated.toFixed(3), observed.toFixed(3), difference.toFixed(3)].map((cell) => `${cell}`.padStart(10)),
  );
  return [
    [name, 'stated', 'observed', 'difference'].map((title) => title.padStart(10)).join(' '),
    ...rows.map((cells) => cells.join(' ')),
    `mean error ${mean_error.toFixed(4)}, worst ${worst_error.toFixed(4)}`,
  ];
}

function table(results: readonly Result[]): string {
  const rows = [...results, ...macros(results)];
  const columns: [string, (row: Result) => string][] = [
    ['trace', (row) => row.trace],
    ['policy', (row) => row.policy],
    ['breach %', (row) => row.breach_percent.toFixed(2)],
    ['overload %', (row) => row.overload_percent.toFixed(2)],
    ['unserved %', (row) => row.unserved_percent.toFixed(2)],
    ['inst-hours', (row) => row.instance_hours.toFixed(0)],
    ['x oracle', (row) => row.ratio_to_oracle.toFixed(3)],
    ['acts/day', (row) => row.actions_per_day.toFixed(0)],
    ['cost $', (row) => row.cost_usd.toFixed(2)],
    ['ms/decision', (row) => row.ms_per_decision.toFixed(4)],
  ];
  const cells = [columns.map(([title]) => title), ...rows.map((row) => columns.map(([, cell]) => cell(row)))];
  const widths = columns.map((_, column) => Math.max(...cells.map((row) => (row[column] as string).length)));
  return cells
    .map((row) =>
      row
        .map((cell, column) =>
          column < 2 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number),
        )
        .join('  '),
    )
    .join('\n');
}

/** With several traces, the mean of each policy's figures: long traces do not dominate. */
function macros(results: readonly Result[]): Result[] {
  if (new Set(results.map((row) => row.trace)).size < 2) return [];
  return [...new Set(results.map((row) => row.policy))].map((policy) => {
    const mine = results.filter((row) => row.policy === policy);
    const mean = (of: (row: Result) => number) => mine.reduce((sum, row) => sum + of(row), 0) / mine.length;
    return {
      trace: '(mean)',
      policy,
      delay_seconds: (mine[0] as Result).delay_seconds,
      breach_percent: mean((row) => row.breach_percent),
      overload_percent: mean((row) => row.overload_percent),
      unserved_percent: mean((row) => row.unserved_percent),
      instance_hours: mean((row) => row.instance_hours),
      oracle_instance_hours: mean((row) => row.oracle_instance_hours),
      ratio_to_oracle: mean((row) => row.ratio_to_oracle),
      actions_per_day: mean((row) => row.actions_per_day),
      decisions: mean((row) => row.decisions),
      ms_per_decision: mean((row) => row.ms_per_decision),
      cost_usd: mean((row) => row.cost_usd),
    };
  });
}

function parse() {
  try {
    return parseArgs({
      strict: true,
      allowPositionals: false,
      options: {
        trace: { type: 'string', multiple: true },
        policy: { type: 'string' },
        compare: { type: 'boolean' },
        calibration: { type: 'boolean' },
        delay: { type: 'string', default: '300' },
        target: { type: 'string', default: '0.7' },
        risk: { type: 'string', default: '0.02' },
        limits: { type: 'boolean' },
        pinned: { type: 'boolean' },
        lost: { type: 'string', default: '0' },
        price: { type: 'string', default: '0.1' },
        plot: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw usage(errorMessage(error));
  }
}

function number(name: string, text: string, least: number, most: number): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value >= least && value <= most))
    throw usage(`${name} must be a number from ${least} to ${most}, not "${text}"`);
  return value;
}

function usage(message: string): InvalidInput {
  return new InvalidInput('usage', message);
}

try {
  main();
} catch (error) {
  console.error(`replay: ${errorMessage(error)}`);
  process.exitCode = error instanceof InvalidInput ? 2 : 1;
}
