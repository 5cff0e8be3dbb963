import { type LiveWorker, listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { NoSession } from '../../shared/db/session.ts';
import { queueNames } from '../../shared/queues/queues.ts';
import type { Deps } from '../http/deps.ts';
import { countUnfinished, oldestWaitSeconds } from '../jobs/jobs-store.ts';
import { countProtection, describeProtection } from '../protection/present-protection.ts';
import { readEnforcedProtection } from '../protection/protection-state.ts';

/** The body of `/ready`: `not_ready` without PostgreSQL or workers, `degraded` with anything in `reasons`. */
export type Readiness = Readonly<Record<string, unknown>> & {
  readonly status: 'ready' | 'degraded' | 'not_ready';
};

/** Reads the state of PostgreSQL, Redis, the queues and the workers. Never throws. */
export async function readReadiness(deps: Deps): Promise<Readiness> {
  // A key of ours: on a Cluster the nodes that have none of them do not matter.
  const redis = await deps.redis.exists(`${deps.config.QUEUE_PREFIX}:ready`).then(
    () => 'ok' as const,
    () => 'away' as const,
  );
  try {
    const [depth, oldest, protection, workers] = await Promise.all([
      countUnfinished(deps.pool),
      oldestWaitSeconds(deps.pool),
      readEnforcedProtection(deps.pool),
      listLiveWorkers(deps.pool),
    ]);
    const live = workers.filter((worker) => !worker.outdated);
    const outdated = workers.length - live.length;
    const reasons = [
      ...workerReasons(live, outdated),
      ...(redis === 'away' ? ['Redis is away: jobs are accepted and wait in PostgreSQL'] : []),
      ...unservedReasons(live),
      ...describeProtection(protection),
    ];
    return {
      status: live.length === 0 ? 'not_ready' : reasons.length > 0 ? 'degraded' : 'ready',
      reasons,
      protection: countProtection(protection),
      postgres: 'ok',
      redis,
      queue_depth: depth,
      oldest_wait_seconds: oldest,
      workers: live.length,
      outdated_workers: outdated,
      // Without their names: `/ready` asks for no key.
      heartbeats: workers.map(({ worker_id: _, ...worker }) => worker),
    };
  } catch (error) {
    return {
      status: 'not_ready',
      reasons: [error instanceof NoSession ? error.message : 'PostgreSQL is away'],
      postgres: 'away',
      redis,
      queue_depth: null,
      workers: null,
    };
  }
}

function workerReasons(live: readonly LiveWorker[], outdated: number): string[] {
  if (outdated > 0)
    return [
      `${outdated} of the workers are older than min_worker_version and claim nothing: upgrade or stop them`,
    ];
  return live.length === 0 ? ['no worker has reported within 15 s: start one (npm run worker)'] : [];
}

function unservedReasons(live: readonly LiveWorker[]): string[] {
  const served = new Set(live.flatMap((worker) => worker.queues));
  const unserved = queueNames.filter((name) => !served.has(name));
  return live.length > 0 && unserved.length > 0 ? [`no worker serves ${unserved.join(', ')}`] : [];
}
