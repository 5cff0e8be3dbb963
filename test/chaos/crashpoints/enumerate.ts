import { type ChildProcess, fork } from 'node:child_process';
import type { CloudProvider } from '../../../shared/domain/resource.ts';
import type { ChildReport, ChildTask } from './child.ts';
import { type CrashPoint, phases } from './failpoint.ts';
import type { InstrumentedBuild } from './instrument.ts';
import { createSubject, followUp, observe, type Rig, recover, type Subject, sizeOf } from './rig.ts';
import { type Scenario, scenarios } from './scenarios.ts';
import { disagreements, observationFaults } from './verify.ts';

/** How often each scenario reaches each point when nothing dies. */
export type Coverage = ReadonlyMap<string, ReadonlyMap<Scenario, number>>;

export interface Crash extends CrashPoint {
  readonly scenario: Scenario;
}

export interface CrashResult {
  readonly crash: Crash;
  readonly crashed: boolean;
  readonly faults: readonly string[];
  readonly recoveryMs: number;
}

/** Children that have loaded everything and wait for what to do: the slow part happens beside the run before. */
export class ChildPool {
  readonly #build: InstrumentedBuild;
  readonly #rig: Rig;
  readonly #warm = new Map<CloudProvider, Promise<ChildProcess>>();
  readonly #alive = new Set<ChildProcess>();

  constructor(build: InstrumentedBuild, rig: Rig) {
    this.#build = build;
    this.#rig = rig;
  }

  /** A child that nobody else uses. */
  async take(provider: CloudProvider): Promise<ChildProcess> {
    const warm = this.#warm.get(provider) ?? this.#start(provider);
    this.#warm.delete(provider);
    return await warm;
  }

  warm(provider: CloudProvider): void {
    if (!this.#warm.has(provider)) this.#warm.set(provider, this.#start(provider));
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#warm.values());
    const ended = [...this.#alive].map((child) => new Promise((resolve) => child.once('exit', resolve)));
    for (const child of this.#alive) child.kill('SIGKILL');
    await Promise.all(ended);
  }

  async #start(provider: CloudProvider): Promise<ChildProcess> {
    const child = fork(this.#build.child, [provider], {
      // Each of hundreds of children would warn of Node 20.
      env: {
        ...process.env,
        ...this.#rig.environment,
        AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
      },
      execArgv: [],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#alive.add(child);
    child.once('exit', () => this.#alive.delete(child));
    await new Promise<void>((resolve, reject) => {
      child.once('message', () => resolve());
      child.once('exit', () => reject(new Error('a child ended before it was ready: see the lines above')));
    });
    return child;
  }
}

/** Runs every scenario once without a crash, and checks it all the same. */
export async function discover(
  rig: Rig,
  pool: ChildPool,
  chosen: readonly Scenario[] = scenarios,
): Promise<{ coverage: Coverage; faults: readonly string[] }> {
  const coverage = new Map<string, Map<Scenario, number>>();
  const faults: string[] = [];
  const children = new Map<CloudProvider, ChildProcess>();
  for (const scenario of chosen) {
    const provider = providerOf(scenario);
    const child = children.get(provider) ?? (await pool.take(provider));
    children.set(provider, child);
    const subjects = [await createSubject(rig, scenario), await createSubject(rig, scenario)];
    const ended = await perform(rig, child, scenario, subjects, null);
    if (ended.report === null) throw new Error(`${scenario.name}: the child died without being told to`);
    if (ended.report.error !== null) faults.push(`${scenario.name}: ${ended.report.error}`);
    for (const [name, count] of Object.entries(ended.report.hits)) {
      const of = coverage.get(name) ?? new Map<Scenario, number>();
      coverage.set(name, of.set(scenario, count));
    }
    faults.push(...(await aftermath(rig, scenario, subjects, false)));
  }
  for (const child of children.values()) child.disconnect();
  return { coverage, faults };
}

/**
 * What is awaited here is a request of its own: it may be carried out although nobody lives to see the answer. The other
 * awaits only wait for such a one further down, whose name differs.
 */
const leavesTheProcess =
  /[.:](query|connect|send|publish|getJobs)#|enqueue:Promise\.all#|setCapacity:withDeadline#|apps\.replaceNamespaced\w+#|autoscaling\.patchNamespaced\w+#/;

/**
 * Every point × phase × first and second time, each in the scenarios that reach it so often: in one, which differs from
 * crash to crash, or in all of them.
 */
export function planCrashes(
  coverage: Coverage,
  options: { readonly everyScenario: boolean },
): { crashes: Crash[]; unreachable: string[] } {
  const crashes: Crash[] = [];
  const unreachable: string[] = [];
  const used = new Map<Scenario, number>();
  for (const [name, of] of coverage) {
    for (const nth of [1, 2]) {
      const able = [...of].filter(([, hits]) => hits >= nth).map(([scenario]) => scenario);
      if (able.length === 0) unreachable.push(`${name} ${nth}`);
      for (const phase of phases) {
        if (phase === 'during' && !leavesTheProcess.test(name)) continue;
        able.sort((a, b) => (used.get(a) ?? 0) - (used.get(b) ?? 0));
        for (const scenario of options.everyScenario ? able : able.slice(0, 1)) {
          used.set(scenario, (used.get(scenario) ?? 0) + 1);
          crashes.push({ name, phase, nth, scenario });
        }
      }
    }
  }
  return { crashes, unreachable };
}

/** One real kill -9, the takeover, the check. */
export async function runCrash(
  rig: Rig,
  pool: ChildPool,
  crash: Crash,
  next?: Scenario,
): Promise<CrashResult> {
  const { scenario } = crash;
  const provider = providerOf(scenario);
  const child = await pool.take(provider);
  if (next !== undefined) pool.warm(providerOf(next));
  const subjects = [await createSubject(rig, scenario), await createSubject(rig, scenario)];
  const { report } = await perform(rig, child, scenario, subjects, crash);
  if (report !== null) child.disconnect();
  const startedAt = performance.now();
  const faults = await aftermath(rig, scenario, subjects, crash.nth === 1);
  return { crash, crashed: report === null, faults, recoveryMs: performance.now() - startedAt };
}

async function perform(
  rig: Rig,
  child: ChildProcess,
  scenario: Scenario,
  subjects: readonly Subject[],
  crash: CrashPoint | null,
): Promise<{ report: ChildReport | null }> {
  const task: ChildTask = {
    id: Math.random(),
    step: scenario.step,
    provider: providerOf(scenario),
    deliveries: deliveriesOf(scenario, subjects),
    disturbance: scenario.disturbance ?? 'none',
    concurrency: scenario.concurrency ?? 8,
    control: `${rig.aws.endpoint}/_simulator/external`,
    arm: crash === null ? null : { name: crash.name, phase: crash.phase, nth: crash.nth },
  };
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${scenario.name}: the child hangs`)), 30_000);
    const onMessage = (report: ChildReport) => end(() => resolve({ report }));
    const onExit = (_code: number | null, signal: string | null) =>
      end(() =>
        signal === 'SIGKILL' && crash !== null
          ? resolve({ report: null })
          : reject(new Error(`${scenario.name}: the child ended by itself (${signal})`)),
      );
    const end = (settle: () => void) => {
      clearTimeout(timer);
      child.off('message', onMessage);
      child.off('exit', onExit);
      settle();
    };
    child.once('message', onMessage as (message: unknown) => void);
    child.once('exit', onExit);
    child.send(task);
  });
}

function deliveriesOf(scenario: Scenario, subjects: readonly Subject[]): string[][] {
  const ids = subjects.map(({ jobId }) => jobId);
  return scenario.together === true ? [[...ids, ...ids]] : ids.map((id) => [id]);
}

function providerOf({ place }: Scenario): CloudProvider {
  return place === 'group' ? 'aws' : 'kubernetes';
}

async function aftermath(
  rig: Rig,
  scenario: Scenario,
  subjects: readonly Subject[],
  redisWiped: boolean,
): Promise<string[]> {
  const faults: string[] = [];
  try {
    await recover(rig, subjects, redisWiped);
    await observe(rig);
    for (const subject of subjects) {
      faults.push(...(await disagreements(rig, scenario, subject)));
      const size = sizeOf(rig, scenario, subject.name);
      if (scenario.followUp === false || size === undefined) continue;
      faults.push(...(await observationFaults(rig, subject, size)));
      await followUp(rig, scenario, subject);
      faults.push(...(await disagreements(rig, scenario, subject)).map((fault) => `afterwards, ${fault}`));
    }
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
  }
  await forget(rig, subjects);
  return faults.map((fault) => `${scenario.name}: ${fault}`);
}

/** Later runs must not meet what this one left: the rows that a sweep or a look at the clouds would take up. */
async function forget(rig: Rig, subjects: readonly Subject[]): Promise<void> {
  rig.aws.faults.clear();
  rig.kubernetes.faults.clear();
  const ids = subjects.map(({ resourceId }) => resourceId);
  await rig.pool.query('delete from resources where id = any ($1::uuid[])', [ids]);
  await rig.pool.query('delete from circuits');
  await rig.pool.query('delete from fleet_holds');
  await rig.pool.query(`delete from fleet_limits where scope <> 'default'`);
  await rig.pool.query('delete from jobs where resource_id = any ($1::uuid[])', [ids]);
}
