import type pg from 'pg';
import { z } from 'zod';
import { listHolds, releaseHold } from '../../shared/db/fleet-holds-store.ts';
import { listFreezes } from '../../shared/db/freezes-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { changeProtection } from '../../shared/db/protection-lock.ts';
import { Conflict, NotFound } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { type Route, type RouteRequest, type RouteResponse, route } from '../http/route.ts';
import {
  controlBody,
  controlSchema,
  fleetLimitsBody,
  fleetLimitsSchema,
  freezeBody,
  freezeSchema,
  holdParams,
  limitsParams,
  protectionSchema,
  reasonQuery,
  releaseHoldBody,
  scopeParams,
} from './contract.ts';
import { deleteFleetLimits, listFleetLimits, setFleetLimits } from './fleet-limits-store.ts';
import { createFreeze, deleteFreeze } from './freezes-store.ts';
import { presentFreeze, presentProtection } from './present-protection.ts';
import { readProtectionState } from './protection-state.ts';
import { askRelease, listStops, release, stop } from './stops-store.ts';

/** Time to think between the two steps of a release, too short for a code to lie about forgotten. */
const releaseCodeSeconds = 600;
const defaultObserveSeconds = 60;

/** Stops (kill switches), freeze windows, fleet limits and holds of whole scopes. */
export function protectionRoutes(deps: Deps): Route[] {
  const { pool } = deps;
  return [
    route({
      method: 'get',
      path: '/protection',
      scope: 'read',
      operationId: 'getProtection',
      summary: 'What is stopped, frozen, held or short of budget now',
      responses: { 200: { description: 'Protection', schema: protectionSchema } },
      handle: async () => ({ status: 200, body: presentProtection(await readProtectionState(pool)) }),
    }),
    route({
      method: 'get',
      path: '/controls',
      scope: 'read',
      operationId: 'listControls',
      summary: 'Every stop there was, with its state now',
      responses: { 200: { description: 'Controls', schema: z.object({ controls: z.array(controlSchema) }) } },
      handle: async () => ({ status: 200, body: { controls: await listStops(pool) } }),
    }),
    route({
      method: 'put',
      path: '/controls/{scope}',
      scope: 'admin',
      operationId: 'setControl',
      summary: 'Stop executions in a scope at once, or release them in two steps',
      params: scopeParams,
      body: controlBody,
      responses: { 200: { description: 'Its state now', schema: controlSchema } },
      handle: async (request) => {
        if (request.body.stopped) return await stopScope(pool, request);
        const code = request.body.release_code;
        return code === undefined
          ? await issueReleaseCode(pool, request)
          : await releaseScope(pool, request, code);
      },
    }),
    route({
      method: 'get',
      path: '/freezes',
      scope: 'read',
      operationId: 'listFreezes',
      summary: 'Freeze windows, with whether they freeze now and when they do next',
      responses: { 200: { description: 'Freezes', schema: z.object({ freezes: z.array(freezeSchema) }) } },
      handle: async () => ({
        status: 200,
        body: { freezes: (await listFreezes(pool)).map((freeze) => presentFreeze(freeze, Date.now())) },
      }),
    }),
    route({
      method: 'post',
      path: '/freezes',
      scope: 'admin',
      operationId: 'createFreeze',
      summary: 'Forbid scaling in (or out) in a window of time, once or on a schedule in a time zone',
      body: freezeBody,
      responses: { 201: { description: 'The freeze', schema: freezeSchema } },
      handle: async (request) => {
        const freeze = await changeProtection(pool, async (tx) => {
          const made = await createFreeze(tx, { ...request.body, actor: request.keyId });
          const detail = { freeze_id: made.id, ...request.body };
          await recordChange(tx, request, { action: 'freeze.created', subject: made.scope, detail });
          return made;
        });
        return {
          status: 201,
          body: presentFreeze(freeze, Date.now()),
          headers: { Location: `/freezes/${freeze.id}` },
        };
      },
    }),
    route({
      method: 'delete',
      path: '/freezes/{id}',
      scope: 'admin',
      operationId: 'deleteFreeze',
      summary: 'Take a freeze window away',
      params: idParams,
      query: reasonQuery,
      responses: { 204: { description: 'Gone' } },
      handle: async (request) => {
        const { id } = request.params;
        await changeProtection(pool, async (tx) => {
          const scope = await findOr404(deleteFreeze(tx, id), () => freezeNotFound(id));
          const detail = { freeze_id: id, reason: request.query.reason };
          await recordChange(tx, request, { action: 'freeze.deleted', subject: scope, detail });
        });
        return { status: 204 };
      },
    }),
    route({
      method: 'get',
      path: '/fleet-limits',
      scope: 'read',
      operationId: 'listFleetLimits',
      summary: 'What all resources of a scope together may change',
      responses: {
        200: { description: 'Limits', schema: z.object({ fleet_limits: z.array(fleetLimitsSchema) }) },
      },
      handle: async () => ({ status: 200, body: { fleet_limits: await listFleetLimits(pool) } }),
    }),
    route({
      method: 'put',
      path: '/fleet-limits/{scope}',
      scope: 'admin',
      operationId: 'setFleetLimits',
      summary: 'Set the limits of a scope; fields left out take their defaults',
      params: limitsParams,
      body: fleetLimitsBody,
      responses: { 200: { description: 'The limits', schema: fleetLimitsSchema } },
      handle: async (request) => {
        const limits = { scope: request.params.scope, ...request.body, actor: request.keyId };
        await changeProtection(pool, async (tx) => {
          await setFleetLimits(tx, limits);
          await recordChange(tx, request, {
            action: 'fleet_limits.set',
            subject: limits.scope,
            detail: request.body,
          });
        });
        return { status: 200, body: limits };
      },
    }),
    route({
      method: 'delete',
      path: '/fleet-limits/{scope}',
      scope: 'admin',
      operationId: 'deleteFleetLimits',
      summary: 'Take the limits of a scope away; a region or cluster then comes under those named default',
      params: limitsParams,
      query: reasonQuery,
      responses: { 204: { description: 'Gone' } },
      handle: async (request) => {
        const { scope } = request.params;
        if (scope === 'default')
          throw new Conflict('default_stays', 'The default limits can be changed (PUT), not taken away.');
        await changeProtection(pool, async (tx) => {
          if (!(await deleteFleetLimits(tx, scope)))
            throw new NotFound(
              'fleet_limits_not_found',
              `${scope} has no limits of its own: GET /fleet-limits lists them.`,
            );
          const detail = { reason: request.query.reason };
          await recordChange(tx, request, { action: 'fleet_limits.deleted', subject: scope, detail });
        });
        return { status: 204 };
      },
    }),
    route({
      method: 'post',
      path: '/fleet-holds/{scope}/release',
      scope: 'admin',
      operationId: 'releaseFleetHold',
      summary: 'Let a region or cluster that is held for correlated scale-in scale in again',
      params: holdParams,
      body: releaseHoldBody,
      responses: { 200: { description: 'Released', schema: z.looseObject({ scope: z.string() }) } },
      handle: async (request) => {
        const { scope } = request.params;
        const { reason, quiet_seconds } = request.body;
        await withTransaction(pool, async (tx) => {
          if (!(await releaseHold(tx, scope, quiet_seconds, request.keyId, reason)))
            throw new Conflict('not_held', `${scope} is not held: GET /protection tells what is.`);
          const detail = { reason, quiet_seconds };
          await recordChange(tx, request, { action: 'fleet.released', subject: scope, detail });
        });
        const hold = (await listHolds(pool)).find((row) => row.scope === scope);
        return { status: 200, body: { ...hold, scope } };
      },
    }),
  ];
}

function freezeNotFound(id: string): NotFound {
  return new NotFound('freeze_not_found', `There is no freeze ${id}: GET /freezes lists them.`);
}

type ControlRequest = RouteRequest<z.output<typeof scopeParams>, unknown, z.output<typeof controlBody>>;

async function stopScope(pool: pg.Pool, request: ControlRequest): Promise<RouteResponse> {
  const { scope } = request.params;
  const { reason } = request.body;
  await changeProtection(pool, async (tx) => {
    await stop(tx, scope, reason, request.keyId);
    const detail = { reason };
    await recordChange(tx, request, { action: 'control.stopped', subject: scope, detail });
  });
  const body = { scope, reason, actor: request.keyId, state: 'stopped', stopped: true };
  return { status: 200, body };
}

/** First step of a release. @throws Conflict when the scope is not stopped. */
async function issueReleaseCode(pool: pg.Pool, request: ControlRequest): Promise<RouteResponse> {
  const { scope } = request.params;
  const { reason } = request.body;
  const { code, valid_until } = await withTransaction(pool, async (tx) => {
    const issued = await askRelease(tx, scope, releaseCodeSeconds);
    if (issued === null)
      throw new Conflict('not_stopped', `${scope} is not stopped: GET /controls tells what is.`);
    const detail = { reason };
    await recordChange(tx, request, { action: 'control.release_asked', subject: scope, detail });
    return issued;
  });
  const next = `Send this again with "release_code": "${code}" before ${valid_until}. Until then it stays stopped.`;
  return {
    status: 200,
    body: {
      scope,
      reason,
      actor: request.keyId,
      state: 'stopped',
      stopped: true,
      release_code: code,
      valid_until,
      next,
    },
  };
}

/** Second step of a release. @throws Conflict for a wrong or expired code. */
async function releaseScope(pool: pg.Pool, request: ControlRequest, code: string): Promise<RouteResponse> {
  const { scope } = request.params;
  const { reason, observe_seconds = defaultObserveSeconds } = request.body;
  const released = await changeProtection(pool, async (tx) => {
    const done = await release(tx, scope, code, {
      observeSeconds: observe_seconds,
      reason,
      actor: request.keyId,
    });
    if (done === null)
      throw new Conflict(
        'release_code_wrong',
        'The release code is not the one given out last, or is too old: ask for a new one by leaving it out.',
      );
    const detail = { reason, ...done };
    await recordChange(tx, request, { action: 'control.released', subject: scope, detail });
    return done;
  });
  const body = { scope, reason, actor: request.keyId, state: 'observing', stopped: false, ...released };
  return { status: 200, body };
}
