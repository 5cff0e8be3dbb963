import { z } from 'zod';
import { audit } from '../../shared/db/audit-repository.ts';
import { countUnfinished, oldestWaitSeconds } from '../../shared/db/jobs-repository.ts';
import { createKey, listKeys, revokeKey, rotateKey } from '../../shared/db/keys-repository.ts';
import { scopes } from '../../shared/domain/api-key.ts';
import { errorMessage, NotFound } from '../../shared/errors.ts';
import { queueNames } from '../../shared/queues/queues.ts';
import type { Deps } from './deps.ts';
import { readActive, sayProtection } from './protection-state.ts';
import { type Route, route } from './route.ts';

const keyId = z.strictObject({ id: z.string().regex(/^[0-9A-Za-z]{12}$/) });

/** Liveness, readiness, metrics; keys. */
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
    route({
      method: 'get',
      path: '/keys',
      scope: 'admin',
      operationId: 'listKeys',
      summary: 'API keys, without their secrets',
      responses: { 200: { description: 'Keys', schema: z.object({ keys: z.array(z.unknown()) }) } },
      handle: async () => ({ status: 200, body: { keys: await listKeys(deps.pool) } }),
    }),
    route({
      method: 'post',
      path: '/keys',
      scope: 'admin',
      answersSecret: true,
      operationId: 'createKey',
      summary: 'Make an API key; its secret is in this answer only',
      body: z.strictObject({
        name: z.string().min(1).max(100),
        scopes: z.array(z.enum(scopes)).min(1).max(4),
        expires_days: z.int().min(1).max(365).default(90),
      }),
      responses: { 201: { description: 'The key', schema: z.looseObject({ key: z.string() }) } },
      handle: async (call) => {
        const { key, row } = await createKey(deps.pool, deps.config.API_KEY_PEPPER, {
          name: call.body.name,
          scopes: [...new Set(call.body.scopes)],
          days: call.body.expires_days,
        });
        await audit(deps.pool, {
          actor: call.keyId,
          action: 'key.created',
          subject: row.id,
          request_id: call.requestId,
          remote_address: call.remoteAddress,
          detail: { name: row.name, scopes: row.scopes },
        });
        return { status: 201, body: { ...row, key } };
      },
    }),
    route({
      method: 'post',
      path: '/keys/{id}/rotate',
      scope: 'admin',
      answersSecret: true,
      operationId: 'rotateKey',
      summary: 'Make a key that takes the place of another, which stays valid for a while',
      params: keyId,
      body: z.strictObject({ overlap_seconds: z.int().min(0).max(86_400).default(3_600) }),
      responses: { 201: { description: 'The new key', schema: z.looseObject({ key: z.string() }) } },
      handle: async (call) => {
        const { overlap_seconds } = call.body;
        const made = await rotateKey(deps.pool, deps.config.API_KEY_PEPPER, call.params.id, overlap_seconds);
        if (made === null) throw new NotFound('key_not_found', `There is no live key ${call.params.id}.`);
        await audit(deps.pool, {
          actor: call.keyId,
          action: 'key.rotated',
          subject: call.params.id,
          request_id: call.requestId,
          remote_address: call.remoteAddress,
          detail: { new_key: made.row.id, overlap_seconds },
        });
        return { status: 201, body: { ...made.row, key: made.key } };
      },
    }),
    route({
      method: 'delete',
      path: '/keys/{id}',
      scope: 'admin',
      operationId: 'revokeKey',
      summary: 'Revoke an API key; takes effect within 5 s everywhere',
      params: keyId,
      responses: { 204: { description: 'Revoked' } },
      handle: async (call) => {
        if (!(await revokeKey(deps.pool, call.params.id)))
          throw new NotFound('key_not_found', `There is no live key ${call.params.id}.`);
        await audit(deps.pool, {
          actor: call.keyId,
          action: 'key.revoked',
          subject: call.params.id,
          request_id: call.requestId,
          remote_address: call.remoteAddress,
        });
        return { status: 204 };
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
      deps.pool.query<{ queues: string[]; age_seconds: number }>(
        `select queues, extract(epoch from now() - beat_at)::double precision as age_seconds from worker_heartbeats
          where beat_at > now() - interval '15 seconds' order by worker_id`,
      ),
    ]);
    const served = new Set(workers.rows.flatMap((worker) => worker.queues));
    const unserved = queueNames.filter((name) => !served.has(name));
    const live = workers.rows.length;
    const reasons = [
      ...(live === 0 ? ['no worker has reported within 15 s: start one (npm run worker)'] : []),
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
