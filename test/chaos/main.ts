import { join } from 'node:path';
import { projectRoot } from '../../shared/project-root.ts';
import { readCommandLine } from '../support/command.ts';
import { type CheckReport, printCheck } from './check-report.ts';
import { type FaultKind, faultKinds } from './fault-plan.ts';
import type { RecoverySpread } from './recovery.ts';
import { type RunReport, runChaos } from './run.ts';

const help = `Usage: npm run chaos -- [options]

  Runs the service as built on a real PostgreSQL, a real Redis and simulated clouds, breaks everything that can break in
  a random order that one seed repeats, heals it, waits, and has the outcome judged by a checker that shares no code
  with the service. Ends with status 1 when an invariant was broken. Nothing outside this machine is touched.

  --minutes N     how long things are broken (default 5)
  --seed N        the same seed gives the same faults, targets and durations (default 1)
  --rate N        jobs a second that the clients ask for (default 40)
  --every MS      mean time between two faults (default 1100)
  --only LIST     nothing but these kinds of faults, comma-separated: see test/chaos/fault-plan.ts
  --objects N     Auto Scaling groups, and as many Deployments (default 120)
  --apis N        API processes (default 2)
  --workers N     worker processes (default 3)
  --latency MS    what each answer of a cloud takes, up to twice that (default 0)
  --dir DIR       where the evidence goes; what is there is deleted (default .data/chaos/seed-N)
  --json          the report as JSON on standard output; progress goes to standard error
  --help          this text`;

const { values, number, wholeNumber, say } = readCommandLine('chaos', help, {
  minutes: { type: 'string', default: '5' },
  seed: { type: 'string', default: '1' },
  rate: { type: 'string', default: '40' },
  every: { type: 'string', default: '1100' },
  only: { type: 'string' },
  objects: { type: 'string', default: '120' },
  apis: { type: 'string', default: '2' },
  workers: { type: 'string', default: '3' },
  latency: { type: 'string', default: '0' },
  dir: { type: 'string' },
  json: { type: 'boolean', default: false },
});

try {
  const seed = wholeNumber('seed', 0);
  const report = await runChaos({
    minutes: number('minutes', 0.01),
    seed,
    rate: number('rate', 0.01),
    everyMs: number('every', 1),
    objects: wholeNumber('objects', 1),
    apis: wholeNumber('apis', 1),
    workers: wholeNumber('workers', 1),
    cloudLatencyMs: number('latency', 0),
    calmMs: 10_000,
    recoverMs: 180_000,
    ...(values.only === undefined ? {} : { only: kindsIn(values.only) }),
    directory: values.dir ?? join(projectRoot(), '.data', 'chaos', `seed-${seed}`),
    log: say,
  });
  console.log(values.json ? JSON.stringify(report, null, 2) : printed(report));
  process.exit(report.ok ? 0 : 1);
} catch (error) {
  say((error as Error).message);
  process.exit(2);
}

function kindsIn(list: string): FaultKind[] {
  const names = list.split(',').map((name) => name.trim());
  const unknown = names.filter((name) => !(name in faultKinds));
  if (unknown.length === 0) return names as FaultKind[];
  say(`there is no fault ${unknown.join(', ')}; there are: ${Object.keys(faultKinds).join(', ')}`);
  process.exit(2);
}

function printed(report: RunReport): string {
  const spread = ({ n, p50, p95, max, over_90s, without_sample }: RecoverySpread) =>
    `n ${n}, p50 ${p50 ?? '-'}, p95 ${p95 ?? '-'}, max ${max ?? '-'} ms, over 90 s: ${over_90s}${without_sample > 0 ? ` (${without_sample} had nothing to recover)` : ''}`;
  const processes = Object.entries(report.process_faults_by)
    .map(([how, n]) => `${how} ${n}`)
    .join(', ');
  return [
    `seed ${report.seed}, ${report.minutes} min, commit ${report.commit}`,
    `  faults ${report.faults_total}, of processes ${report.process_faults} (${processes}); everything had ended ${report.healed_after_ms} ms after the healing`,
    ...Object.entries(report.faults).map(([name, n]) => `    ${name.padEnd(36)}${String(n).padStart(6)}`),
    '  recovery',
    ...Object.entries(report.recovery_ms).map(([name, value]) => `    ${name.padEnd(26)}${spread(value)}`),
    `  crashes ${report.crashes}, failed starts ${report.failed_starts}, HTTP answers ${JSON.stringify(report.http_statuses)}`,
    printCheck({ ...report, breaks: breaksOf(report) } as CheckReport),
    report.ok ? 'No invariant was broken.' : `BROKEN. The evidence is in ${report.directory}.`,
  ].join('\n');
}

function breaksOf(report: RunReport): Record<string, number> {
  return Object.fromEntries(Object.keys(report.invariants).map((name) => [name, Number(report[name])]));
}
