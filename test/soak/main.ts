import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { errorMessage } from '../../shared/errors.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { cpuMicroseconds } from '../bench/cpu.ts';
import { inTemporaryFolder, readCommandLine } from '../support/command.ts';
import { mergeCounts } from './counts.ts';
import { type Stretch, Traffic } from './driver.ts';
import {
  bytesPerKeptEntry,
  type Reading,
  read,
  readHotIndexes,
  readTables,
  type TableReading,
} from './gauges.ts';
import { compareWithRows } from './lost.ts';
import { jobsPerRequest } from './mix.ts';
import { measureSustainable, overloadAndRecover, untilDrained } from './phases.ts';
import { type Report, reportOf } from './report.ts';
import { buildStack, type Limits, type Observed, type Stack } from './stack.ts';

const help = `Usage: npm run soak -- [--minutes N] [--rate R] [--seed S] [--json]

  Loads the service on this machine for long: PostgreSQL, Redis, both cloud simulators, API and worker processes as in
  production, and a load that is sent when it is due. Measures what rate is sustainable, soaks at 60 % of it, overloads
  at twice and ten times that, and watches the service recover by itself. Exit status 1 when a promise is broken.

  --minutes N    of soak and overloads together (default 10, at least 1)
  --rate R       requests a second to take as sustainable, instead of measuring it
  --seed S       of the clients' choices (default 1)
  --apis N       API processes (default 2)
  --workers N    worker processes (default 2)
  --keep         leave logs, databases and all readings in the temporary folder
  --json         the report as one JSON object on standard output
  --help         this text`;

const soakShare = 0.6;
const resourcesPerCloud = 100;
const readEverySeconds = 2;
const tablesEverySeconds = 10;
/** The share of the sustainable rate that one key may use: the busiest key is above it in an overload, and below else. */
const keyShare = 0.45;
/** How long a full queue takes to drain. */
const backlogSeconds = 5;
const unlimited: Limits = { rateLimitPerMinute: 10_000_000, maxWaitingJobs: 100_000 };

const { values, wholeNumber, number, say } = readCommandLine('soak', help, {
  minutes: { type: 'string', default: '10' },
  rate: { type: 'string' },
  seed: { type: 'string', default: '1' },
  apis: { type: 'string', default: '2' },
  workers: { type: 'string', default: '2' },
  keep: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
});
const options = {
  minutes: number('minutes', 1, 100_000),
  rate: values.rate === undefined ? null : number('rate', 1, 1_000_000),
  seed: wholeNumber('seed', 0, 2 ** 32 - 1),
  apis: wholeNumber('apis', 1, 16),
  workers: wholeNumber('workers', 1, 64),
};

async function main(folder: string, closers: Closers): Promise<void> {
  const report = await run(folder, closers);
  console.log(values.json ? JSON.stringify(report, null, 2) : table(report));
  for (const line of report.broken) say(`broken: ${line}`);
  process.exitCode = report.broken.length === 0 ? 0 : 1;
}

async function run(folder: string, closers: Closers) {
  const { seed, minutes } = options;
  say('starting PostgreSQL, Redis, both clouds and the service …');
  const stack = await buildStack(folder, { workers: options.workers, resourcesPerCloud, seed }, closers, say);
  const traffic = new Traffic(closers);
  const acceptedFile = join(folder, 'accepted.txt');
  writeFileSync(acceptedFile, '');
  const point = async (apis: readonly Observed[]) =>
    await traffic.setup({
      setup: { resourceIds: stack.resourceIds, keys: stack.keys, readOnlyKey: stack.readOnlyKey },
      urls: apis.map(({ metricsUrl }) => metricsUrl),
      seed,
      acceptedFile,
    });

  const badEnds: string[] = [];
  let apis = await stack.startApis(options.apis, unlimited);
  await point(apis);
  say('warming up …');
  await traffic.run([{ perSecond: 100, seconds: 15 }]);
  await untilDrained(stack, 60);
  if (options.rate === null) say('measuring the sustainable rate …');
  const sustainable =
    options.rate ?? (await measureSustainable(stack, traffic, Math.min(8, Math.max(3, minutes)), say));
  const limits: Limits = {
    rateLimitPerMinute: Math.ceil(sustainable * keyShare * 60),
    maxWaitingJobs: Math.ceil(sustainable * jobsPerRequest * backlogSeconds),
  };
  say(
    `sustainable: ${sustainable} requests/s (${Math.round(sustainable * jobsPerRequest)} jobs/s); restarting the API with RATE_LIMIT_PER_MINUTE=${limits.rateLimitPerMinute} MAX_WAITING_JOBS=${limits.maxWaitingJobs}`,
  );
  await endWell(apis, badEnds);
  apis = await stack.startApis(options.apis, limits);
  await point(apis);

  const seconds = minutes * 60;
  const overloadSeconds = Math.min(300, Math.max(15, seconds * 0.12));
  const spikeSeconds = Math.min(15, Math.max(5, seconds * 0.02));
  const recoverySeconds = Math.min(90, Math.max(20, seconds * 0.08));
  const soakSeconds = Math.max(20, seconds - overloadSeconds - spikeSeconds - 2 * recoverySeconds);
  const normal = Math.max(1, Math.round(sustainable * soakShare));
  const observed = [...apis, ...stack.workers];
  const watch = watcher(stack, observed);

  say(`soaking at ${normal} requests/s for ${Math.round(soakSeconds)} s …`);
  // The first fifth fills caches and pools; it is not measured.
  await traffic.run([{ perSecond: normal, seconds: soakSeconds / 5 }]);
  await stack.pool.query('analyze');
  const before = await stateOf(stack);
  const cpu = () => cpuOf(stack, apis, traffic.pid);
  const cpuBefore = cpu();
  watch.begin();
  const [firstHalf] = await traffic.run([{ perSecond: normal, seconds: soakSeconds * 0.4 }]);
  const middle = await stateOf(stack);
  say('  half of it is over …');
  const [secondHalf] = await traffic.run([{ perSecond: normal, seconds: soakSeconds * 0.4 }]);
  const after = await stateOf(stack);
  const cpuAfter = cpu();
  const readings = await watch.end();
  const soak = joined(firstHalf as Stretch, secondHalf as Stretch);
  const normalP99 = soak.accept.quantile(0.99) ?? 0;

  watch.begin();
  say(`overload: ${2 * sustainable} requests/s for ${Math.round(overloadSeconds)} s, then back …`);
  const calmAgain = { perSecond: normal, seconds: recoverySeconds };
  const overloadCores = coresOver(overloadSeconds, cpu);
  const overload = await overloadAndRecover(
    stack,
    traffic,
    { overload: { perSecond: 2 * sustainable, seconds: overloadSeconds }, normal: calmAgain },
    normalP99,
  );
  say(`  recovered after ${overload.recoverySeconds?.toFixed(1) ?? 'too many'} s`);
  say(`spike: ${10 * sustainable} requests/s for ${Math.round(spikeSeconds)} s, then back …`);
  const spikeCores = coresOver(spikeSeconds, cpu);
  const spike = await overloadAndRecover(
    stack,
    traffic,
    { overload: { perSecond: 10 * sustainable, seconds: spikeSeconds }, normal: calmAgain },
    normalP99,
  );
  say(`  recovered after ${spike.recoverySeconds?.toFixed(1) ?? 'too many'} s`);
  const stressedReadings = await watch.end();

  writeFileSync(
    join(folder, 'readings.json'),
    JSON.stringify({ soak: readings.readings, stressed: stressedReadings.readings }),
  );
  say('waiting for every accepted job to end …');
  await untilDrained(stack, 60);
  await untilFinished(stack, 60);
  const end = await stateOf(stack);
  const rows = await compareWithRows(stack.pool, acceptedFile);
  const entryBytes = await bytesPerKeptEntry(stack);
  await endWell([...apis, ...stack.workers], badEnds);
  const report = reportOf({
    minutes,
    seed,
    sustainablePerSecond: sustainable,
    isRateGiven: options.rate !== null,
    jobsPerRequest,
    soakPerSecond: normal,
    limits,
    soak,
    overload,
    spike,
    readings: readings.readings,
    stressedReadings: stressedReadings.readings,
    tables: { before: before.tables, middle: middle.tables, after: after.tables },
    tableReadings: [...readings.tables, ...stressedReadings.tables, end.tables],
    hotIndexes: { before: before.indexes, after: after.indexes, end: end.indexes },
    walBytes: after.wal - before.wal,
    cores: { overload: await overloadCores, spike: await spikeCores },
    cpuMs: mapValues(cpuAfter, (value, name) => (value - (cpuBefore[name] ?? Number.NaN)) / 1_000),
    rows,
    entryBytes,
    badEnds,
  });
  return { ...report, node: process.version, cpus: cpus().length, load_average: loadavg()[0] };
}

async function stateOf(stack: Stack) {
  const [tables, indexes, wal] = await Promise.all([
    readTables(stack),
    readHotIndexes(stack),
    stack.pool.query<{ bytes: number }>(
      `select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 as bytes`,
    ),
  ]);
  return { tables, indexes, wal: wal.rows[0]?.bytes ?? Number.NaN };
}

/** CPU time used so far by role, microseconds; NaN where there is no /proc. */
function cpuOf(stack: Stack, apis: readonly Observed[], loadPid: number): Record<string, number> {
  const of = (pids: readonly number[]) => cpuMicroseconds(pids) ?? Number.NaN;
  return {
    api: of(apis.map(({ pid }) => pid)),
    worker: of(stack.workers.map(({ pid }) => pid)),
    postgres: of([stack.postgresPid]),
    redis: of([stack.redisPid]),
    clouds: of([stack.cloudsPid]),
    load: of([loadPid]),
  };
}

/** Cores each role keeps busy, on average over the next seconds. */
async function coresOver(
  seconds: number,
  used: () => Record<string, number>,
): Promise<Record<string, number>> {
  const before = used();
  const startedAt = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  const elapsedUs = (performance.now() - startedAt) * 1_000;
  return mapValues(used(), (value, role) => (value - (before[role] ?? Number.NaN)) / elapsedUs);
}

function mapValues(
  values: Readonly<Record<string, number>>,
  change: (value: number, name: string) => number,
): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, change(value, name)]));
}

/** Takes readings every two seconds between `begin` and `end`. */
function watcher(stack: Stack, observed: readonly Observed[]) {
  let readings: Reading[] = [];
  let tables: TableReading[][] = [];
  let stopped = true;
  let loop: Promise<void> = Promise.resolve();
  const look = async () => {
    for (let round = 0; !stopped; round++) {
      const next = performance.now() + readEverySeconds * 1_000;
      try {
        readings.push(await read(stack, observed));
        if (round % (tablesEverySeconds / readEverySeconds) === 0) tables.push(await readTables(stack));
      } catch (error) {
        say(`  a reading failed: ${errorMessage(error)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - performance.now())));
    }
  };
  return {
    begin() {
      readings = [];
      tables = [];
      stopped = false;
      loop = look();
    },
    async end() {
      stopped = true;
      await loop;
      return { readings, tables };
    },
  };
}

function joined(first: Stretch, second: Stretch): Stretch {
  for (const name of ['accept', 'other', 'shed'] as const) first[name].merge(second[name]);
  mergeCounts(first.counts, second.counts);
  return { ...first, seconds: first.seconds + second.seconds };
}

async function untilFinished(stack: Stack, limitSeconds: number): Promise<void> {
  const end = performance.now() + limitSeconds * 1_000;
  while (performance.now() < end) {
    const { rows } = await stack.pool.query<{ n: number }>(
      'select count(*)::integer as n from jobs where not finished',
    );
    if (rows[0]?.n === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** Asks processes to end, and notes those that had ended by themselves or do not end with status 0. */
async function endWell(processes: readonly Observed[], badEnds: string[]): Promise<void> {
  await Promise.all(
    processes.map(async ({ name, process: { child, stop, ended } }) => {
      if (child.exitCode !== null || child.signalCode !== null) badEnds.push(`${name} died`);
      await stop();
      const code = await ended;
      if (code !== 0) badEnds.push(`${name} ended with ${code ?? child.signalCode}`);
    }),
  );
}

function table(report: Report): string {
  return Object.entries(report)
    .map(([name, value]) => `${name.padEnd(26)} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join('\n');
}

try {
  await inTemporaryFolder('soak', main, values.keep);
} catch (error) {
  say(errorMessage(error));
  process.exitCode = 1;
}
