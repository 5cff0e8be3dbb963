import { z } from 'zod';
import { listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { errorMessage } from '../../shared/errors.ts';
import { queueNames } from '../../shared/queues/queues.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import { countUnfinished, oldestWaitSeconds } from '../jobs/jobs-store.ts';
import {
  countProtection,
  describeProtection,
  readEnforcedProtection,
} from '../protection/protection-state-store.ts';

/** Liveness, readiness, metrics. */
export function operationRoutes(deps: Deps): Route[] {
  // Anyone may ask, without a key and as often as they like: those who ask at the same time get one answer.
  let asked: ReturnType<typeof readiness> | null = null;
  const readyNow = () => {
    asked ??= readiness(deps).finally(() => {
      asked = null;
    });
    return asked;
  };
  return [
    route({
      method: 'get',
      path: '/health',
      scope: 'public',
      operationId: 'health',
      summary: 'Liveness',
      responses: {
        200: {
          description: 'Alive',
          schema: z.object({
            status: z.literal('healthy'),
            service: z.literal('scaler'),
            timestamp: z.string(),
          }),
        },
      },
      handle: () => ({
        status: 200,
        body: { status: 'healthy', service: 'scaler', timestamp: new Date().toISOString() },
      }),
    }),
    route({
      method: 'get',
      path: '/ready',
      scope: 'public',
      operationId: 'ready',
      summary: 'Readiness: PostgreSQL, workers, Redis, queue depth',
      responses: {
        200: { description: 'Ready', schema: z.looseObject({ status: z.string() }) },
        503: { description: 'Not ready', schema: z.looseObject({ status: z.string() }) },
      },
      handle: async () => {
        const state = await readyNow();
        return {
          status: state.status === 'not_ready' ? 503 : 200,
          body: { ...state, service: 'scaler', timestamp: new Date().toISOString() },
        };
      },
    }),
    route({
      method: 'get',
      path: '/metrics',
      scope: 'read',
      operationId: 'metrics',
      touches: 'nothing',
      summary: 'Prometheus metrics of this API process',
      responses: { 200: { description: 'Prometheus text format' } },
      handle: async () => {
        await measureProtection(deps);
        return {
          status: 200,
          body: await deps.metrics.registry.metrics(),
          headers: { 'Content-Type': deps.metrics.registry.contentType },
        };
      },
    }),
  ];
}

/** The gauges that only PostgreSQL knows; with it away they keep what was known last. */
async function measureProtection(deps: Deps): Promise<void> {
  try {
    const active = await readEnforcedProtection(deps.pool);
    for (const [kind, count] of Object.entries(countProtection(active)))
      deps.metrics.protections.set({ kind }, count);
    deps.metrics.scopeCircuits.reset();
    for (const { scope } of active.circuits) deps.metrics.scopeCircuits.set({ scope }, 1);
  } catch (error) {
    deps.logger.warn({ event: 'metrics.stale', detail: errorMessage(error) });
  }
}

async function readiness(deps: Deps) {
  const redis = await deps.redis.ping().then(
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
    const able = workers.filter((worker) => !worker.outdated);
    const outdated = workers.length - able.length;
    const served = new Set(able.flatMap((worker) => worker.queues));
    const unserved = queueNames.filter((name) => !served.has(name));
    const live = able.length;
    const reasons = [
      ...(live + outdated === 0 ? ['no worker has reported within 15 s: start one (npm run worker)'] : []),
      ...(outdated > 0
        ? [
            `${outdated} of the workers are older than min_worker_version and claim nothing: upgrade or stop them`,
          ]
        : []),
      ...(redis === 'away' ? ['Redis is away: jobs are accepted and wait in PostgreSQL'] : []),
      ...(live > 0 && unserved.length > 0 ? [`no worker serves ${unserved.join(', ')}`] : []),
    ];
    const held = describeProtection(protection);
    const status = live === 0 ? 'not_ready' : reasons.length + held.length > 0 ? 'degraded' : 'ready';
    return {
      status,
      reasons: [...reasons, ...held],
      protection: countProtection(protection),
      postgres: 'ok',
      redis,
      queue_depth: depth,
      oldest_wait_seconds: oldest,
      workers: live,
      outdated_workers: outdated,
      // Who they are is nobody's business who has no key.
      heartbeats: workers.map(({ worker_id: _, ...worker }) => worker),
    };
  } catch {
    return {
      status: 'not_ready',
      reasons: ['PostgreSQL is away'],
      postgres: 'away',
      redis,
      queue_depth: null,
      workers: null,
    };
  }
}
