import { migrate } from '../../../shared/db/migrate.ts';
import type { Closers } from '../../../shared/lifecycle/closers.ts';
import { inTemporaryFolder, openOwnBackends, readCommandLine } from '../../support/command.ts';
import { reasonFor } from './allowed.ts';
import { ChildPool, type CrashResult, discover, planCrashes, runCrash } from './enumerate.ts';
import { buildInstrumented, bundleInstrumented } from './instrument.ts';
import { startRig } from './rig.ts';

const usage = `npm run chaos:crashpoints -- [--only TEXT] [--every-scenario] [--json]
  kill -9 at every await of the execute path, the relay and the reconciler: before, during and after it, the first and
  the second time; then another worker takes over, and cloud and database must agree.
  --only TEXT        only points whose name contains TEXT
  --every-scenario   each point in every scenario that reaches it, not in one
  --json             the report as JSON`;

const { values, say } = readCommandLine('crashpoints', usage, {
  only: { type: 'string', default: '' },
  'every-scenario': { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
});
process.exitCode = await inTemporaryFolder('crashpoints', main);

async function main(folder: string, closers: Closers): Promise<number> {
  const startedAt = performance.now();
  const { databaseUrl, redisUrl } = await openOwnBackends(folder, closers, say);
  await migrate(databaseUrl);
  const plain = buildInstrumented();
  closers.add('build', async () => plain.remove());
  const build = await bundleInstrumented(plain);
  const rig = await startRig(databaseUrl, redisUrl, '{crashpoints}');
  closers.add('rig', () => rig.close());
  const pool = new ChildPool(build, rig);
  closers.add('children', () => pool.close());

  const { coverage, faults } = await discover(rig, pool);
  const unreached = build.points.filter((name) => !coverage.has(name));
  const { crashes: all, unreachable } = planCrashes(coverage, { everyScenario: values['every-scenario'] });
  const crashes = all.filter(({ name }) => name.includes(values.only));
  say(`${build.points.length} points, ${unreached.length} not reached; ${crashes.length} crashes to go`);
  const results: CrashResult[] = [];
  for (const [index, crash] of crashes.entries()) {
    let result = await runCrash(rig, pool, crash, crashes[index + 1]?.scenario);
    // What nobody waits for (a publication) may come too late for its process: another try tells.
    for (let tries = 1; tries < 3 && !result.crashed && result.faults.length === 0; tries++)
      result = await runCrash(rig, pool, crash, crashes[index + 1]?.scenario);
    results.push(result);
    if (result.faults.length > 0 || !result.crashed)
      say(
        `${crash.name} ${crash.phase} ${crash.nth} in ${crash.scenario.name}: ${result.crashed ? result.faults.join('; ') : 'not reached this time'}`,
      );
    else if (index % 50 === 49) say(`${index + 1} of ${crashes.length}`);
  }
  const missing = [...unreached, ...unreachable].filter((name) => reasonFor(name) === undefined);
  const failed = results.filter((result) => result.faults.length > 0 || !result.crashed);
  const recovery = results.map(({ recoveryMs }) => recoveryMs).sort((a, b) => a - b);
  const report = {
    points: build.points.length,
    reached: build.points.length - unreached.length,
    crashes: results.length,
    failed: failed.length,
    without_crash_faults: faults,
    missing,
    allowed: [...unreached, ...unreachable]
      .filter((name) => reasonFor(name) !== undefined)
      .map((name) => ({ name, reason: reasonFor(name) })),
    recovery_ms: {
      p50: Math.round(recovery[Math.floor(recovery.length / 2)] ?? 0),
      p95: Math.round(recovery[Math.floor(recovery.length * 0.95)] ?? 0),
    },
    seconds: Math.round((performance.now() - startedAt) / 1_000),
    failures: failed.map(({ crash, crashed, faults: found }) => ({
      point: crash.name,
      phase: crash.phase,
      nth: crash.nth,
      scenario: crash.scenario.name,
      faults: crashed ? found : ['not reached this time'],
    })),
  };
  if (values.json) console.log(JSON.stringify(report, null, 2));
  else print(report);
  return failed.length + missing.length + faults.length === 0 ? 0 : 1;
}

function print(report: {
  points: number;
  reached: number;
  crashes: number;
  failed: number;
  seconds: number;
  missing: readonly string[];
  allowed: readonly { name: string; reason: string | undefined }[];
  recovery_ms: { p50: number; p95: number };
  without_crash_faults: readonly string[];
}): void {
  for (const fault of report.without_crash_faults) console.log(`without a crash: ${fault}`);
  for (const { name, reason } of report.allowed) console.log(`not enumerated: ${name} (${reason})`);
  for (const name of report.missing) console.log(`NOT REACHED, and no reason is given: ${name}`);
  console.log(
    `${report.crashes} kills at ${report.reached} of ${report.points} points in ${report.seconds} s: ${report.failed} failed; takeover and check p50 ${report.recovery_ms.p50} ms, p95 ${report.recovery_ms.p95} ms`,
  );
}
