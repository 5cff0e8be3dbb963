import { z } from 'zod';
import { errorMessage } from '../../shared/errors.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import { countProtection } from '../protection/present-protection.ts';
import { readEnforcedProtection } from '../protection/protection-state.ts';
import { type Readiness, readReadiness } from './readiness.ts';

/** Liveness, readiness, metrics. */
export function operationRoutes(deps: Deps): Route[] {
  // Public and not rate limited: concurrent requests share one read, so that they cannot load PostgreSQL.
  let pending: Promise<Readiness> | null = null;
  const sharedReadiness = () => {
    pending ??= readReadiness(deps).finally(() => {
      pending = null;
    });
    return pending;
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
        const readiness = await sharedReadiness();
        return {
          status: readiness.status === 'not_ready' ? 503 : 200,
          body: { ...readiness, service: 'scaler', timestamp: new Date().toISOString() },
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
        await updateProtectionGauges(deps);
        return {
          status: 200,
          body: await deps.metrics.registry.metrics(),
          headers: { 'Content-Type': deps.metrics.registry.contentType },
        };
      },
    }),
  ];
}

/** Sets the gauges that are read from PostgreSQL; while it is away they keep their last values. */
async function updateProtectionGauges(deps: Deps): Promise<void> {
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
