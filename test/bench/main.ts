import { cpus } from 'node:os';
import { errorMessage } from '../../shared/errors.ts';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { decide } from '../../worker/engine/decide.ts';
import { inTemporaryFolder, readCommandLine } from '../support/command.ts';
import { input, minutes } from '../support/engine-input.ts';
import { cpuMicroseconds } from './cpu.ts';
import { type Goal, judge, median } from './goals.ts';
import { answerOf, buildRig, type Endpoint, type Rig } from './rig.ts';

const help = `Usage: npm run bench -- [--json] [--rounds N] [--seconds N]

  Measures the service on this machine: databases, API, worker, load and rivals all share its cores, so compare the
  ratios, not the rates. Every measurement is repeated in interleaved rounds; the figures are medians.

  --rounds N     rounds (default 3)
  --seconds N    of load a measurement (default 1.5)
  --json         figures as one JSON object on standard output
  --help         this text`;

/** Figures of one round, by name. */
type Figures = Record<string, number>;

const drainLimitMs = 15_000;

const { values, number, wholeNumber, say } = readCommandLine('bench', help, {
  json: { type: 'boolean' },
  rounds: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '1.5' },
});
const rounds = wholeNumber('rounds', 1, 60);
const seconds = number('seconds', 0.1, 60);

async function main(folder: string, closers: Closers): Promise<void> {
  const rig = await buildRig(folder, closers, say);
  const all: Figures[] = [];
  // The first round warms everything up and is thrown away.
  for (let round = 0; round <= rounds; round++) {
    say(round === 0 ? 'warming up …' : `round ${round} of ${rounds} …`);
    const figures = await measureRound(rig, round === 0 ? 0.5 : seconds);
    if (round > 0) all.push(figures);
  }
  const report = summarize(all, { rounds, seconds });
  console.log(values.json === true ? JSON.stringify(report, null, 2) : table(report));
}

async function measureRound(rig: Rig, seconds: number): Promise<Figures> {
  const single = bodiesFor(rig, false);
  const batch = batchesFor(rig);
  const figures: Figures = {};
  const durable = (endpoint: Endpoint, clients: number, batched = false) =>
    measureDurable(rig, endpoint, {
      path: batched ? '/scale/decide/batch' : '/scale/decide',
      bodies: batched ? batch : single,
      jobsPerRequest: batched ? batchSize : 1,
      clients,
      seconds,
    });
  figures.bare = await measureBare(rig, seconds);
  figures.single64 = (await durable(rig.single, 64)).perSecond;
  figures.single256 = (await durable(rig.single, 256)).perSecond;
  const naive = await measureNaive(rig, seconds, single);
  figures.naive = naive.perSecond;
  const packed = await durable(rig.packed, 64);
  figures.packed64 = packed.perSecond;
  figures.packed256 = (await durable(rig.packed, 256)).perSecond;
  figures.cpuRatio = packed.cpuPerJob / naive.cpuPerJob;
  figures.queueOnly = await measureQueueOnly(rig, seconds, single);
  figures.batch = (await durable(rig.single, 8, true)).perSecond;
  figures.batchPacked = (await durable(rig.packed, 8, true)).perSecond;
  figures.decide = (await durable(rig.service, 64)).perSecond;
  figures.decideBatch = (await durable(rig.service, 8, true)).perSecond;
  await measureAccept(rig, seconds, single, figures);
  await measureWaiting(rig, seconds, single, figures);
  await measureServers(rig, seconds, single, figures);
  figures.engine = measureEngine();
  return figures;
}

const batchSize = 100;

function bodiesFor(rig: Rig, use_prediction: boolean): string[] {
  return rig.resourceIds.map((resource_id) => JSON.stringify({ resource_id, use_prediction }));
}

function batchesFor(rig: Rig): string[] {
  const half = rig.resourceIds.slice(0, batchSize);
  return [JSON.stringify({ resource_ids: half })];
}

/** BullMQ's own live rate: a hundred adds in flight, one worker that does nothing. */
async function measureBare(rig: Rig, seconds: number): Promise<number> {
  const doneNow = async () => {
    rig.bareWorker.send('count');
    return (await answerOf<{ done: number }>(rig.bareWorker, 'bare-worker')).done;
  };
  const before = await doneNow();
  const startedAt = performance.now();
  let added = 0;
  await Promise.all(
    Array.from({ length: 100 }, async () => {
      while (performance.now() - startedAt < seconds * 1_000) {
        await rig.bareQueue.add('noop', {});
        added++;
      }
    }),
  );
  while ((await doneNow()) - before < added) await pause(2);
  return added / ((performance.now() - startedAt) / 1_000);
}

/** Requests accepted and carried through to a finished row, by the second. @throws Error when a row is not finished. */
async function measureDurable(
  rig: Rig,
  endpoint: Endpoint,
  task: { path: string; bodies: readonly string[]; jobsPerRequest: number; clients: number; seconds: number },
): Promise<{ perSecond: number; cpuPerJob: number }> {
  await rig.pool.query('truncate jobs');
  const pids = [endpoint.pid, rig.durableWorkerPid, rig.postgresPid, rig.redisPid];
  const cpuBefore = cpuMicroseconds(pids) ?? Number.NaN;
  const startedAt = performance.now();
  const report = await rig.load({ url: endpoint.url, headers: rig.headers, ...task });
  refuseFailures(report.failures);
  const jobs = report.sent * task.jobsPerRequest;
  await untilZero(
    rig,
    'select count(*)::integer as n from (select 1 from jobs where not finished limit 1) unfinished',
  );
  const elapsed = performance.now() - startedAt;
  const cpu = (cpuMicroseconds(pids) ?? Number.NaN) - cpuBefore;
  const { rows } = await rig.pool.query<{ n: number }>(
    `select count(*)::integer as n from jobs where status = 'completed'`,
  );
  if (rows[0]?.n !== jobs) throw new Error(`${jobs} jobs were accepted and ${rows[0]?.n} are finished`);
  return { perSecond: jobs / (elapsed / 1_000), cpuPerJob: cpu / jobs };
}

async function loadRival(rig: Rig, url: string, seconds: number, bodies: readonly string[]) {
  const report = await rig.load({ url, path: '/scale/decide', headers: {}, bodies, seconds, clients: 64 });
  refuseFailures(report.failures);
  return report;
}

async function measureNaive(
  rig: Rig,
  seconds: number,
  bodies: readonly string[],
): Promise<{ perSecond: number; cpuPerJob: number }> {
  await rig.pool.query('truncate naive_jobs');
  const pids = [rig.naive.pid, rig.naiveWorkerPid, rig.postgresPid, rig.redisPid];
  const cpuBefore = cpuMicroseconds(pids) ?? Number.NaN;
  const startedAt = performance.now();
  const report = await loadRival(rig, rig.naive.url, seconds, bodies);
  await untilZero(
    rig,
    `select count(*)::integer as n from (select 1 from naive_jobs where status <> 'completed' limit 1) unfinished`,
  );
  const elapsed = performance.now() - startedAt;
  const cpu = (cpuMicroseconds(pids) ?? Number.NaN) - cpuBefore;
  return { perSecond: report.sent / (elapsed / 1_000), cpuPerJob: cpu / report.sent };
}

/** The same server in front of BullMQ with no PostgreSQL: what durability costs. */
async function measureQueueOnly(rig: Rig, seconds: number, bodies: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  const report = await loadRival(rig, rig.queueOnly.url, seconds, bodies);
  for (;;) {
    const counts = await rig.bareQueue.getJobCounts('waiting', 'active');
    if ((counts.waiting ?? 0) + (counts.active ?? 0) === 0) break;
    await pause(2);
  }
  return report.sent / ((performance.now() - startedAt) / 1_000);
}

async function measureAccept(
  rig: Rig,
  seconds: number,
  bodies: readonly string[],
  figures: Figures,
): Promise<void> {
  const task = { path: '/scale/decide', bodies, seconds, perSecond: 500 };
  const ours = await rig.load({ ...task, url: rig.packed.url, headers: rig.headers });
  refuseFailures(ours.failures);
  const naive = await rig.load({ ...task, url: rig.naive.url, headers: {} });
  figures.acceptP50 = ours.p50Ms;
  figures.acceptP99 = ours.p99Ms;
  figures.acceptP50Ratio = ours.p50Ms / naive.p50Ms;
  figures.acceptP99Ratio = ours.p99Ms / naive.p99Ms;
}

/** CPU a job of everything that takes part, with clients that wait and with clients that poll. */
async function measureWaiting(
  rig: Rig,
  seconds: number,
  bodies: readonly string[],
  figures: Figures,
): Promise<void> {
  const pids = [rig.packed.pid, rig.durableWorkerPid, rig.postgresPid, rig.redisPid];
  const cpuPerJob = async (waits: boolean) => {
    const before = cpuMicroseconds(pids) ?? Number.NaN;
    const report = await rig.load({
      url: rig.packed.url,
      path: '/scale/decide',
      headers: { ...rig.headers, ...(waits ? { prefer: 'wait=10' } : {}) },
      bodies,
      seconds,
      clients: 64,
      poll: !waits,
    });
    refuseFailures(report.failures);
    return ((cpuMicroseconds(pids) ?? Number.NaN) - before) / report.sent;
  };
  figures.waitCpu = await cpuPerJob(true);
  figures.pollCpu = await cpuPerJob(false);
}

async function measureServers(
  rig: Rig,
  seconds: number,
  bodies: readonly string[],
  figures: Figures,
): Promise<void> {
  for (const role of ['node-http', 'plain-express', 'matched-express', 'shipped-express']) {
    const { child, port } = await rig.rival(role, '{none}');
    const task = { url: `http://127.0.0.1:${port}`, path: '/scale/decide', headers: {}, bodies, clients: 50 };
    await rig.load({ ...task, seconds: 0.3 });
    const report = await rig.load({ ...task, seconds: Math.max(0.5, seconds / 2) });
    refuseFailures(report.failures);
    figures[role] = report.sent / (report.elapsedMs / 1_000);
    child.kill('SIGKILL');
  }
}

/** Pure decisions on a quarter of an hour of samples, in this process. */
function measureEngine(): number {
  const given = input({
    samples: minutes(15, (index) => ({ cpuRatio: 0.5 + index / 50, memoryRatio: 0.6 })),
  });
  const startedAt = performance.now();
  let decisions = 0;
  while (performance.now() - startedAt < 250) {
    for (let repeat = 0; repeat < 100; repeat++) decide(given);
    decisions += 100;
  }
  return decisions / ((performance.now() - startedAt) / 1_000);
}

function refuseFailures(failures: Readonly<Record<string, number>>): void {
  if (Object.keys(failures).length > 0)
    throw new Error(`some requests were not accepted, by status: ${JSON.stringify(failures)}`);
}

async function untilZero(rig: Rig, sql: string): Promise<void> {
  const end = performance.now() + drainLimitMs;
  for (;;) {
    const { rows } = await rig.pool.query<{ n: number }>(sql);
    if (rows[0]?.n === 0) return;
    if (performance.now() > end)
      throw new Error(`some accepted jobs were not finished within ${drainLimitMs / 1_000} s`);
    // Seldom: looking takes time from those who are measured.
    await pause(10);
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

interface Report extends Record<string, unknown> {
  readonly goals: readonly Goal[];
}

function summarize(rounds: readonly Figures[], how: { rounds: number; seconds: number }): Report {
  const of = (value: (figures: Figures) => number) => median(rounds.map(value));
  const rate = (name: string) => Math.round(of((figures) => figures[name] as number));
  const ratio = (above: string, below: string) =>
    round(of((figures) => (figures[above] as number) / (figures[below] as number)));
  const single = ratio('single64', 'bare');
  const single256 = ratio('single256', 'bare');
  const packed = ratio('packed64', 'bare');
  const packed256 = ratio('packed256', 'bare');
  const batch = ratio('batch', 'bare');
  const batchPacked = ratio('batchPacked', 'bare');
  const waitOverPoll = ratio('waitCpu', 'pollCpu');
  const server = ratio('matched-express', 'node-http');
  const shipped = ratio('shipped-express', 'plain-express');
  const noPg = ratio('single64', 'queueOnly');
  const naive = ratio('packed64', 'naive');
  const cpu = round(of((figures) => figures.cpuRatio as number));
  const p50 = round(of((figures) => figures.acceptP50Ratio as number));
  const p99 = round(of((figures) => figures.acceptP99Ratio as number));
  return {
    bare_bullmq_per_s: rate('bare'),
    durable_single_ratio: single256,
    durable_single_64_clients_ratio: single,
    durable_batch_ratio: batch,
    durable_batch_packed_ratio: batchPacked,
    durable_packed_ratio: packed256,
    durable_packed_64_clients_ratio: packed,
    durable_vs_queue_only_ratio: noPg,
    naive_per_s: rate('naive'),
    durable_vs_naive_ratio: naive,
    durable_vs_naive_cpu_ratio: cpu,
    accept_p50_ms: round(of((figures) => figures.acceptP50 as number)),
    accept_p99_ms: round(of((figures) => figures.acceptP99 as number)),
    accept_p50_vs_naive_ratio: p50,
    accept_p99_vs_naive_ratio: p99,
    decide_end_to_end_per_s: rate('decide'),
    decide_end_to_end_batch_per_s: rate('decideBatch'),
    wait_vs_poll_cpu_ratio: waitOverPoll,
    server_vs_node_http_ratio: server,
    shipped_vs_plain_express_ratio: shipped,
    engine_decisions_per_s: rate('engine'),
    goals: [
      judge('G1', 'durable single POSTs, 256 clients ÷ bare BullMQ', single256, 'higher', 0.4),
      judge('G2', 'durable single POSTs ÷ the same without PostgreSQL', noPg, 'higher', 0.7),
      judge('G3', 'durable as shipped ÷ naive', naive, 'higher', 2.3),
      judge('G4', 'CPU a job, durable as shipped ÷ naive', cpu, 'lower', 0.4),
      judge('G5', 'durable packed, 256 clients ÷ bare BullMQ', packed256, 'higher', 0.7),
      judge('G6a', 'batches of 100 ÷ bare BullMQ', batch, 'higher', 0.7),
      judge('G6b', 'batches of 100, packed ÷ bare BullMQ', batchPacked, 'higher', 2),
      judge('G7a', 'accept p50 at 500/s ÷ naive', p50, 'lower', 1.1),
      judge('G7b', 'accept p99 at 500/s ÷ naive', p99, 'lower', 1.1),
      judge('G8a', 'Express server as shipped, bare ÷ node:http', server, 'higher', 0.7),
      judge('G8b', 'with headers, log and metrics ÷ plain bare Express', shipped, 'higher', 2.3),
      judge('G9', 'CPU a job, Prefer: wait ÷ polling every 20 ms', waitOverPoll, 'lower', 0.6),
    ],
    node: process.version,
    cpus: cpus().length,
    ...how,
  };
}

const round = (value: number): number => Number(value.toPrecision(3));

function table(report: Report): string {
  const lines = Object.entries(report)
    .filter(([name]) => name !== 'goals')
    .map(([name, value]) => `${name.padEnd(36)} ${String(value).padStart(10)}`);
  const goals = report.goals.map(
    ({ id, what, measured, goal, better, met }) =>
      `${id.padEnd(4)} ${what.padEnd(54)} ${String(measured ?? '-').padStart(7)}  ${better === 'higher' ? '≥' : '≤'} ${String(goal).padEnd(4)}  ${met === null ? 'not measured' : met ? 'met' : 'not met'}`,
  );
  return [...lines, '', ...goals].join('\n');
}

try {
  await inTemporaryFolder('bench', main);
} catch (error) {
  say(errorMessage(error));
  process.exitCode = 1;
}
