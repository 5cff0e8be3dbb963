import { z } from 'zod';
import { countUnfinished, oldestWaitSeconds } from '../../shared/db/jobs-repository.ts';
import { errorMessage } from '../../shared/errors.ts';
import { queueNames } from '../../shared/queues/queues.ts';
import type { Deps } from './deps.ts';
import { readActive, sayProtection } from './protection-state.ts';
import { type Route, route } from './route.ts';

/** Liveness, readiness, metrics. */
export function operationRoutes(deps: Deps): Route[] {
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
        const state = await readiness(deps);
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
    const active = await readActive(deps.pool);
    for (const kind of ['stops', 'freezes', 'holds', 'circuits'] as const)
      deps.metrics.protections.set({ kind }, active[kind].length);
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
      readActive(deps.pool),
      deps.pool.query<{ queues: string[]; age_seconds: number; worker_version: number; outdated: boolean }>(
        `select queues, extract(epoch from now() - beat_at)::double precision as age_seconds, worker_version,
            worker_version < (select min_worker_version from fleet_settings) as outdated from worker_heartbeats
          where beat_at > now() - interval '15 seconds' order by worker_id`,
      ),
    ]);
    const able = workers.rows.filter((worker) => !worker.outdated);
    const outdated = workers.rows.length - able.length;
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
    const held = sayProtection(protection);
    const status = live === 0 ? 'not_ready' : reasons.length + held.length > 0 ? 'degraded' : 'ready';
    return {
      status,
      reasons: [...reasons, ...held],
      protection: {
        stops: protection.stops.length,
        freezes: protection.freezes.length,
        holds: protection.holds.length,
        circuits: protection.circuits.length,
      },
      postgres: 'ok',
      redis,
      queue_depth: depth,
      oldest_wait_seconds: oldest,
      workers: live,
      outdated_workers: outdated,
      heartbeats: workers.rows,
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
