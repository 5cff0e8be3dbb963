import { z } from 'zod';
import { listHolds, releaseHold } from '../../shared/db/fleet-holds-store.ts';
import { type FreezeRow, listFreezes } from '../../shared/db/freezes-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { changeProtection, type ProtectionChange } from '../../shared/db/protection-lock.ts';
import { frozenUntil, nextFreeze } from '../../shared/domain/freeze-window.ts';
import { isoOrNull } from '../../shared/domain/iso-time.ts';
import { Conflict, NotFound } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
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
import { readProtection } from './protection-state-store.ts';
import { askRelease, listStops, release, stop } from './stops-store.ts';

/** Long enough to think, too short to be forgotten. */
const releaseCodeSeconds = 600;
const observeSeconds = 60;

/** What stops, freezes, limits and holds executions of whole scopes, for people who must act fast and those who look later. */
export function protectionRoutes(deps: Deps): Route[] {
  const { pool } = deps;
  /** Never without its audit row. */
  const change = <T>(work: (tx: ProtectionChange) => Promise<T>): Promise<T> => changeProtection(pool, work);
  return [
    route({
      method: 'get',
      path: '/protection',
      scope: 'read',
      operationId: 'getProtection',
      summary: 'What is stopped, frozen, held or short of budget now',
      responses: { 200: { description: 'Protection', schema: protectionSchema } },
      handle: async () => ({ status: 200, body: await readProtection(pool) }),
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
        const { scope } = request.params;
        const { stopped, reason, release_code: code } = request.body;
        const said = { scope, reason, actor: request.keyId };
        if (stopped) {
          await change(async (tx) => {
            await stop(tx, scope, reason, request.keyId);
            await recordChange(tx, request, {
              action: 'control.stopped',
              subject: scope,
              detail: { reason },
            });
          });
          return { status: 200, body: { ...said, state: 'stopped', stopped: true } };
        }
        if (code === undefined) {
          const asked = await withTransaction(pool, async (tx) => {
            const given = await askRelease(tx, scope, releaseCodeSeconds);
            if (given === null)
              throw new Conflict('not_stopped', `${scope} is not stopped: GET /controls tells what is.`);
            await recordChange(tx, request, {
              action: 'control.release_asked',
              subject: scope,
              detail: { reason },
            });
            return given;
          });
          const next = `Send this again with "release_code": "${asked.code}" before ${asked.valid_until}. Until then it stays stopped.`;
          return {
            status: 200,
            body: {
              ...said,
              state: 'stopped',
              stopped: true,
              release_code: asked.code,
              valid_until: asked.valid_until,
              next,
            },
          };
        }
        const seconds = request.body.observe_seconds ?? observeSeconds;
        const released = await change(async (tx) => {
          const done = await release(tx, scope, code, seconds, reason, request.keyId);
          if (done === null)
            throw new Conflict(
              'release_code_wrong',
              'The release code is not the one given out last, or is too old: ask for a new one by leaving it out.',
            );
          await recordChange(tx, request, {
            action: 'control.released',
            subject: scope,
            detail: { reason, ...done },
          });
          return done;
        });
        return { status: 200, body: { ...said, state: 'observing', stopped: false, ...released } };
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
        const freeze = await change(async (tx) => {
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
        await change(async (tx) => {
          const scope = await deleteFreeze(tx, id);
          if (scope === null)
            throw new NotFound('freeze_not_found', `There is no freeze ${id}: GET /freezes lists them.`);
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
        await change(async (tx) => {
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
        await change(async (tx) => {
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

function presentFreeze(freeze: FreezeRow, nowMs: number): Record<string, unknown> {
  const { starts_at_ms, ends_at_ms, ...row } = freeze;
  const until = frozenUntil(freeze, nowMs);
  return {
    ...row,
    starts_at: isoOrNull(starts_at_ms),
    ends_at: isoOrNull(ends_at_ms),
    active: until !== null,
    active_until: isoOrNull(until),
    next_start: isoOrNull(nextFreeze(freeze, nowMs)),
  };
}
