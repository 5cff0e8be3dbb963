import { z } from 'zod';
import { withTransaction } from '../../shared/db/pool.ts';
import { NotFound } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import type { Deps } from '../http/deps.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { type Route, route } from '../http/route.ts';
import * as contracts from './contract.ts';
import { createKey, listKeys, revokeKey, rotateKey } from './keys-store.ts';

/**
 * API keys. All routes touch the whole fleet: otherwise a key with selectors could create one without, and so
 * escalate its privileges.
 */
export function keyRoutes(deps: Deps): Route[] {
  const pepper = deps.config.API_KEY_PEPPER;
  return [
    route({
      method: 'get',
      path: '/keys',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'listKeys',
      summary: 'API keys, without their secrets',
      responses: { 200: { description: 'Keys', schema: z.object({ keys: z.array(contracts.keySchema) }) } },
      handle: async () => ({ status: 200, body: { keys: await listKeys(deps.pool) } }),
    }),
    route({
      method: 'post',
      path: '/keys',
      scope: 'admin',
      touches: 'fleet',
      answersSecret: true,
      operationId: 'createKey',
      summary: 'Make an API key; its secret is in this answer only',
      body: contracts.createKeyBody,
      responses: { 201: { description: 'The key', schema: contracts.newKeySchema } },
      handle: async (request) => {
        const { name, selectors, expires_days: days } = request.body;
        const scopes = [...new Set(request.body.scopes)];
        const { key, row } = await withTransaction(deps.pool, async (tx) => {
          const made = await createKey(tx, pepper, { name, scopes, selectors, days });
          const detail = { name, scopes, selectors };
          await recordChange(tx, request, { action: 'key.created', subject: made.row.id, detail });
          return made;
        });
        return { status: 201, body: { ...row, key } };
      },
    }),
    route({
      method: 'post',
      path: '/keys/{id}/rotate',
      scope: 'admin',
      touches: 'fleet',
      answersSecret: true,
      operationId: 'rotateKey',
      summary: 'Make a key that takes the place of another, which stays valid for a while',
      params: contracts.keyParams,
      body: contracts.rotateKeyBody,
      responses: { 201: { description: 'The new key', schema: contracts.newKeySchema } },
      handle: async (request) => {
        const { id } = request.params;
        const { overlap_seconds } = request.body;
        const { key, row } = await withTransaction(deps.pool, async (tx) => {
          const made = await findOr404(rotateKey(tx, pepper, id, overlap_seconds), () => keyNotFound(id));
          const detail = { new_key: made.row.id, overlap_seconds };
          await recordChange(tx, request, { action: 'key.rotated', subject: id, detail });
          return made;
        });
        return { status: 201, body: { ...row, key } };
      },
    }),
    route({
      method: 'delete',
      path: '/keys/{id}',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'revokeKey',
      summary: 'Revoke an API key; takes effect within 5 s everywhere',
      params: contracts.keyParams,
      responses: { 204: { description: 'Revoked' } },
      handle: async (request) => {
        const { id } = request.params;
        await withTransaction(deps.pool, async (tx) => {
          if (!(await revokeKey(tx, id))) throw keyNotFound(id);
          await recordChange(tx, request, { action: 'key.revoked', subject: id });
        });
        return { status: 204 };
      },
    }),
  ];
}

function keyNotFound(id: string): NotFound {
  return new NotFound('key_not_found', `There is no live key ${id}.`);
}
