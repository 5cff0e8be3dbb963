import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createClosers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import type { RunFacts } from './check-evidence.ts';
import { type CheckReport, counts } from './check-report.ts';
import { Clients } from './clients.ts';
import { dumpTables } from './dump.ts';
import {
  type FaultKind,
  type PlannedFault,
  type ProcessFault,
  planFaults,
  processFaultOf,
  processFaults,
} from './fault-plan.ts';
import { planFleet } from './fleet-plan.ts';
import { type InjectionResult, injectFault } from './inject-fault.ts';
import {
  activeJobs,
  type Recovered,
  type Recovery,
  type RecoveryClass,
  type RecoverySpread,
  recoveryClasses,
  recoverySpread,
  untilAwsWrites,
  untilDecided,
  untilTakenOver,
} from './recovery.ts';
import { facts, openWorld, type World } from './world.ts';

export interface RunOptions {
  readonly minutes: number;
  readonly seed: number;
  /** Accepted jobs a second. */
  readonly rate: number;
  /** Mean time between faults. */
  readonly everyMs: number;
  /** Cloud objects in each cloud. */
  readonly objects: number;
  readonly apis: number;
  readonly workers: number;
  /** Each answer of a cloud takes so long to twice as long. */
  readonly cloudLatencyMs?: number;
  /** How long the clients go on after the healing. */
  readonly calmMs: number;
  /** How long after that everything may take to end. */
  readonly recoverMs: number;
  readonly longestFaultMs?: number;
  readonly only?: readonly FaultKind[];
  readonly directory: string;
  readonly log: (line: string) => void;
}

export type RunReport = Omit<CheckReport, 'breaks'> & {
  readonly seed: number;
  readonly minutes: number;
  readonly commit: string;
  readonly directory: string;
  readonly faults_total: number;
  readonly process_faults: number;
  /** The same, by what is done to the process; `connections` ends single connections or backends and leaves the process alone. */
  readonly process_faults_by: Readonly<Record<ProcessFault, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly faults_without_effect: number;
  readonly recovery_ms: Readonly<Record<string, RecoverySpread>>;
  readonly healed_after_ms: number;
  readonly http_statuses: Readonly<Record<string, number>>;
  readonly crashes: number;
  readonly failed_starts: number;
} & Readonly<Record<string, unknown>>;

/** Between a stop's commit and the last write it could not prevent: one that may be sent for 5 s, and takes up to 10 s. */
const lastWriteMs = 25_000;
const progressEveryMs = 10_000;
const strayCheckMs = 10_000;
/** A process that ends sooner after its start did not find what it needs. */
const bootMs = 5_000;

/** Starts everything, breaks it for so long, heals it, waits, dumps, and has it judged by the checker. */
export async function runChaos(options: RunOptions): Promise<RunReport> {
  const { directory, log, seed, minutes } = options;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const closers = createClosers();
  const stop = async () => await closers.closeAll(30_000);
  const interrupted = () => void stop().then(() => process.exit(130));
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  try {
    const fleet = planFleet(options.objects, seed);
    const world = await openWorld(
      {
        directory,
        seed,
        fleet,
        apis: options.apis,
        workers: options.workers,
        cloudLatencyMs: options.cloudLatencyMs ?? 0,
        log,
      },
      closers,
    );
    const commit = commitOf();
    const run: RunFacts = { seed, minutes, commit, signatureMaxAgeMs: facts.signatureMaxAgeMs, lastWriteMs };
    writeFileSync(join(directory, 'run.json'), `${JSON.stringify({ ...run, ...facts }, null, 2)}\n`);
    const plan = planFaults({
      seed,
      durationMs: minutes * 60_000,
      meanIntervalMs: options.everyMs,
      topology: topologyOf(world),
      ...(options.longestFaultMs === undefined ? {} : { longestMs: options.longestFaultMs }),
      ...(options.only === undefined ? {} : { only: options.only }),
    });
    writeFileSync(join(directory, 'plan.ndjson'), plan.map((fault) => `${JSON.stringify(fault)}\n`).join(''));
    log(`seed ${seed}: ${plan.length} faults in ${minutes} min, evidence in ${directory}`);
    const clients = new Clients({
      caller: world.caller,
      resources: world.resources,
      log: world.clientsLog,
      seed,
      rate: options.rate,
    });
    clients.start();
    const faultRun = new FaultRun(world, plan, minutes * 60_000);
    const progress = setInterval(() => log(progressLine(faultRun, clients)), progressEveryMs);
    const strays = setInterval(() => void sweep(world).catch(() => {}), strayCheckMs);
    await faultRun.run();
    clearInterval(progress);
    const healedAt = performance.now();
    log('healed; the clients go on for a moment');
    await delay(options.calmMs);
    await faultRun.circuitsClosed();
    clearInterval(strays);
    await clients.stop();
    await sweep(world);
    log('waiting until everything has ended');
    await untilEnded(world, options.recoverMs, log);
    const healed_after_ms = Math.round(performance.now() - healedAt);
    await faultRun.measured();
    await dumpTables(world.postgres.url, directory);
    const report = await judge(directory, world.postgres.url);
    const summary = summaryOf(options, commit, faultRun, world);
    const ok = report.ok && summary.crashes === 0;
    const complete = { ...summary, healed_after_ms, ...report, ...report.breaks, ok };
    writeFileSync(join(directory, 'report.json'), `${JSON.stringify(complete, null, 2)}\n`);
    return complete as RunReport;
  } finally {
    process.off('SIGINT', interrupted);
    process.off('SIGTERM', interrupted);
    await stop();
    rmSync(join(directory, 'data'), { recursive: true, force: true });
  }
}

/** What lost answers left stopped or frozen, and what the service holds until somebody has looked. */
async function sweep({ operator }: World): Promise<void> {
  await operator.releaseStrays();
  await operator.thawStrays();
  await operator.releaseHolds();
}

function topologyOf(world: World) {
  const places = [...world.resources.entries()].filter(([, { role }]) => role === 'busy' || role === 'slow');
  return {
    apis: world.apis,
    workers: world.workers,
    links: [...world.links.keys()],
    objects: places.map(([index]) => index),
    awsObjects: places.filter(([, { provider }]) => provider === 'aws').map(([index]) => index),
  };
}

/** Carries the plan out, each fault at its time, and remembers what came of it. */
class FaultRun {
  readonly injections: { readonly fault: PlannedFault; readonly result: InjectionResult }[] = [];
  readonly recovered: Recovered[] = [];
  readonly endings: Promise<unknown>[] = [];
  readonly #world: World;
  readonly #plan: readonly PlannedFault[];
  readonly #durationMs: number;
  readonly #measuring: Promise<void>[] = [];
  readonly #circuits: Promise<unknown>[] = [];
  #startedAt = 0;

  constructor(world: World, plan: readonly PlannedFault[], durationMs: number) {
    this.#world = world;
    this.#plan = plan;
    this.#durationMs = durationMs;
  }

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** Resolves when the last fault has healed and the time is over. */
  async run(): Promise<void> {
    this.#startedAt = performance.now();
    let finish = () => {};
    const over = new Promise<void>((resolve) => {
      finish = resolve;
    });
    for (const fault of this.#plan) {
      await delay(Math.max(0, fault.atMs - this.elapsedMs));
      this.endings.push(this.#carryOut(fault, over));
    }
    await delay(Math.max(0, this.#durationMs - this.elapsedMs));
    finish();
    await Promise.all(this.endings);
    await this.#healAll();
  }

  /** Resolves when AWS is written to again: only what clients ask for can show that. */
  async circuitsClosed(): Promise<void> {
    await Promise.all(this.#circuits);
  }

  /** Resolves when every recovery has been measured. */
  async measured(): Promise<void> {
    await Promise.all(this.#measuring);
  }

  async #carryOut(fault: PlannedFault, over: Promise<unknown>): Promise<void> {
    const { pool } = this.#world;
    const atKill = fault.kind === 'worker-kill' ? await activeJobs(pool).catch(() => null) : null;
    const injectedAt = Date.now();
    let result: InjectionResult;
    try {
      result = await injectFault(this.#world, fault, over);
    } catch (error) {
      // The thing to be broken was broken already.
      result = { injected: false, note: (error as Error).message };
    }
    this.injections.push({ fault, result });
    this.#world.faultLog.write({ ...fault, injectedAt, healedAt: Date.now(), ...result });
    if (!result.injected) return;
    if (result.recovery !== undefined) this.#measure(fault, result.recovery.of, result.recovery.sinceAt);
    if (fault.kind === 'api-kill') this.#measure(fault, 'api_killed', injectedAt);
    if (atKill !== null) {
      const takenOver = untilTakenOver(pool, atKill, injectedAt);
      for (const part of ['begun', 'ended'] as const)
        this.#keep(
          fault,
          `worker_killed_jobs_${part}`,
          injectedAt,
          takenOver.then((times) => times[part]),
        );
    }
  }

  #measure(fault: PlannedFault, of: RecoveryClass, sinceAt: number): void {
    const { caller, apiBases, resources, pool } = this.#world;
    if (of === 'aws_credentials_back') {
      const writes = untilAwsWrites(pool, sinceAt);
      this.#circuits.push(writes);
      this.#keep(fault, of, sinceAt, writes);
      return;
    }
    const probe = resources.find(({ role }) => role === 'probe')?.id as string;
    const bases = of === 'api_killed' ? [apiBases.get(fault.target) as string] : [...apiBases.values()];
    this.#keep(fault, of, sinceAt, untilDecided(caller, bases, probe, sinceAt, of !== 'api_killed'));
  }

  #keep(fault: PlannedFault, of: RecoveryClass, sinceAt: number, duration: Promise<Recovery>): void {
    this.#measuring.push(
      duration.then((ms) => {
        const recovered: Recovered = { kind: 'recovered', class: of, fault: fault.id, sinceAt, ms };
        this.recovered.push(recovered);
        this.#world.faultLog.write(recovered);
      }),
    );
  }

  /** Whatever a fault may have left behind. */
  async #healAll(): Promise<void> {
    const { members, links, clouds } = this.#world;
    for (const member of members.values()) member.signal('SIGCONT');
    for (const proxy of links.values()) proxy.heal();
    await clouds.clearFaults();
  }
}

function progressLine(faultRun: FaultRun, clients: Clients): string {
  const seconds = Math.round(faultRun.elapsedMs / 1_000);
  return `${seconds} s: ${clients.accepted} jobs accepted, ${faultRun.injections.length} faults over`;
}

/** Until no job and no attempt is open, or time is up: then the checker says so. */
async function untilEnded(world: World, limitMs: number, log: (line: string) => void): Promise<void> {
  const end = performance.now() + limitMs;
  let loggedAt = performance.now();
  while (performance.now() < end) {
    try {
      const { rows } = await world.pool.query<{ jobs: number; attempts: number }>(
        `select (select count(*)::integer from jobs where not finished) as jobs,
          (select count(*)::integer from attempts where state in ('open', 'unknown')) as attempts`,
      );
      const left = rows[0];
      if (left?.jobs === 0 && left.attempts === 0 && (await quietClouds(world))) return;
      if (performance.now() - loggedAt > progressEveryMs / 2) {
        log(`${left?.jobs} jobs and ${left?.attempts} attempts are still open`);
        loggedAt = performance.now();
      }
    } catch {
      // Not up again yet.
    }
    await delay(200);
  }
}

/** Automatic decisions go on for ever: the resources that ask for them are switched to manual. */
async function quietClouds(world: World): Promise<boolean> {
  const { rowCount } = await world.pool.query(`select 1 from resources where mode = 'auto' limit 1`);
  if (rowCount === 0) return true;
  for (const { id, policy } of world.resources)
    if (policy.mode === 'auto') await world.operator.patch(id, { mode: 'manual' });
  return false;
}

/** The checker, as the separate program it is. */
async function judge(directory: string, databaseUrl: string): Promise<CheckReport> {
  const child = spawn(
    process.execPath,
    [
      '--max-old-space-size=8192',
      join(projectRoot(), 'dist/test/chaos/check.js'),
      ...['--dir', directory, '--json', '--database-url', databaseUrl],
    ],
    { cwd: projectRoot(), stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  for await (const chunk of child.stdout) text += String(chunk);
  try {
    return JSON.parse(text) as CheckReport;
  } catch {
    throw new Error(`the checker gave no report: run it again with --dir ${directory}`);
  }
}

function summaryOf(options: RunOptions, commit: string, faultRun: FaultRun, world: World) {
  const effective = faultRun.injections.filter(({ result }) => result.injected);
  const ofProcesses = effective.flatMap(({ fault }) => processFaultOf(fault.kind) ?? []);
  return {
    seed: options.seed,
    minutes: options.minutes,
    commit,
    directory: options.directory,
    faults_total: effective.length,
    process_faults: ofProcesses.length,
    process_faults_by: Object.fromEntries(
      processFaults.map((how) => [how, ofProcesses.filter((one) => one === how).length]),
    ) as Record<ProcessFault, number>,
    faults_without_effect: faultRun.injections.length - effective.length,
    faults: counts(
      effective.map(({ fault }) =>
        fault.detail.mode === undefined ? fault.kind : `${fault.kind} ${fault.detail.mode}`,
      ),
    ),
    recovery_ms: Object.fromEntries(
      recoveryClasses.map((name) => [
        name,
        recoverySpread(faultRun.recovered.filter((one) => one.class === name).map(({ ms }) => ms)),
      ]),
    ),
    http_statuses: world.caller.statuses,
    // A start that fails while a database is away is not one: whoever keeps the process running starts it again.
    crashes: world.unexpectedEnds.filter(({ upMs }) => upMs > bootMs).length,
    failed_starts: world.unexpectedEnds.filter(({ upMs }) => upMs <= bootMs).length,
  };
}

function commitOf(): string {
  const { status, stdout } = spawnSync('git', ['rev-parse', '--short=12', 'HEAD'], {
    cwd: projectRoot(),
    encoding: 'utf8',
  });
  return status === 0 ? stdout.trim() : 'unknown';
}
