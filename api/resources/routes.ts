import { z } from 'zod';
import { withTransaction } from '../../shared/db/pool.ts';
import type { Resource } from '../../shared/domain/resource.ts';
import { Conflict, InvalidInput } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, type RouteRequest, type RouteResponse, route } from '../http/route.ts';
import { selectorsCoverNew } from '../keys/selectors-store.ts';
import { forbiddenBySelectors } from '../middleware/guard-selectors.ts';
import * as contracts from './contract.ts';
import {
  createResource,
  deleteResource,
  findResource,
  listResources,
  resourceNotFound,
  updateResource,
} from './resources-store.ts';
import { listPredictions, listSamples, upsertPredictions, upsertSamples } from './series-store.ts';

const batchBytes = 4 * 1024 * 1024;
const writtenSchema = z.object({ inserted: z.int(), updated: z.int() });

/** Resources with their policies, and the series decisions are made from. */
export function resourceRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'post',
      path: '/resources',
      scope: 'admin',
      touches: 'filtered',
      operationId: 'createResource',
      summary: 'Register an Auto Scaling group or a workload',
      body: contracts.createResourceBody,
      responses: { 201: { description: 'Created', schema: contracts.resourceSchema } },
      handle: async (request) => {
        const region =
          request.body.cloud_provider === 'aws' ? (request.body.region ?? deps.config.AWS_REGION) : null;
        await requireSelectorsCover(deps, request, { ...request.body, region });
        const resource = await withTransaction(deps.pool, async (tx) => {
          const made = await createResource(tx, { ...request.body, region });
          const detail = { name: made.name };
          await recordChange(tx, request, { action: 'resource.created', resource_id: made.id, detail });
          return made;
        });
        return resourceResponse(resource, 201, { Location: `/resources/${resource.id}` });
      },
    }),
    route({
      method: 'get',
      path: '/resources',
      scope: 'read',
      touches: 'filtered',
      operationId: 'listResources',
      summary: 'Resources, oldest first',
      query: contracts.listQuery,
      responses: {
        200: {
          description: 'Resources',
          schema: z.object({
            resources: z.array(contracts.resourceSchema),
            count: z.int(),
            cursor: z.string().nullable(),
          }),
        },
      },
      handle: async ({ query, selectors }) => {
        const { resources, cursor } = await listResources(deps.pool, { ...query, selectors });
        return { status: 200, body: { resources, count: resources.length, cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/resources/{id}',
      scope: 'read',
      touches: 'resource',
      operationId: 'getResource',
      summary: 'One resource with its policy',
      params: idParams,
      responses: { 200: { description: 'The resource', schema: contracts.resourceSchema } },
      handle: async ({ params }) => resourceResponse(await present(deps, params.id)),
    }),
    route({
      method: 'patch',
      path: '/resources/{id}',
      scope: 'admin',
      touches: 'resource',
      operationId: 'updateResource',
      summary: 'Change a policy; needs If-Match',
      params: idParams,
      body: contracts.patchResourceBody,
      responses: { 200: { description: 'The resource', schema: contracts.resourceSchema } },
      handle: async (request) => {
        const version = versionFromIfMatch(request.raw.get('if-match'));
        if (version === null)
          throw new InvalidInput(
            'precondition_required',
            "Send If-Match with the ETag you read, so that nobody's change is overwritten.",
            { httpStatus: 428 },
          );
        const before = await present(deps, request.params.id);
        const after = {
          min_instances: request.body.min_instances ?? before.min_instances,
          max_instances: request.body.max_instances ?? before.max_instances,
        };
        if (after.min_instances > after.max_instances) {
          throw new InvalidInput('invalid_request', 'min_instances must not exceed max_instances.', {
            fields: [
              {
                field: 'min_instances',
                message: `${after.min_instances} is more than max_instances ${after.max_instances}`,
              },
            ],
          });
        }
        if (before.cloud_provider === 'aws' && request.body.actuation === 'floor') {
          throw new InvalidInput(
            'invalid_request',
            'An Auto Scaling group has no floor that may be raised.',
            {
              fields: [{ field: 'actuation', message: contracts.floorIsKubernetes }],
            },
          );
        }
        const resource = await withTransaction(deps.pool, async (tx) => {
          const changed = await updateResource(tx, request.params.id, version, request.body);
          const detail = { ...request.body, version: changed.version };
          await recordChange(tx, request, { action: 'resource.updated', resource_id: changed.id, detail });
          return changed;
        });
        return resourceResponse(resource);
      },
    }),
    route({
      method: 'delete',
      path: '/resources/{id}',
      scope: 'admin',
      touches: 'resource',
      operationId: 'deleteResource',
      summary: 'Forget a resource; its history stays',
      params: idParams,
      responses: { 204: { description: 'Deleted' } },
      handle: async (request) => {
        const version = versionFromIfMatch(request.raw.get('if-match'));
        await withTransaction(deps.pool, async (tx) => {
          await deleteResource(tx, request.params.id, version);
          await recordChange(tx, request, { action: 'resource.deleted', resource_id: request.params.id });
        });
        return { status: 204 };
      },
    }),
    route({
      method: 'post',
      path: '/resources/{id}/metrics',
      scope: 'decide',
      touches: 'resource',
      operationId: 'addSamples',
      summary: 'Store one metric sample, or up to 10,000; a moment sent again is replaced',
      params: idParams,
      body: contracts.samplesBody,
      bodyLimit: batchBytes,
      responses: { 200: { description: 'Stored', schema: writtenSchema } },
      handle: async ({ params, body }) =>
        written(
          params.id,
          await upsertSamples(deps.pool, params.id, 'samples' in body ? body.samples : [body]),
        ),
    }),
    route({
      method: 'get',
      path: '/resources/{id}/metrics',
      scope: 'read',
      touches: 'resource',
      operationId: 'listSamples',
      summary: 'Metric samples, newest first',
      params: idParams,
      query: contracts.rangeQuery,
      responses: {
        200: { description: 'Samples', schema: z.object({ samples: z.array(z.unknown()), count: z.int() }) },
      },
      handle: async ({ params, query }) => {
        await present(deps, params.id);
        const samples = await listSamples(deps.pool, params.id, query);
        return { status: 200, body: { samples, count: samples.length } };
      },
    }),
    route({
      method: 'post',
      path: '/resources/{id}/predictions',
      scope: 'decide',
      touches: 'resource',
      operationId: 'addPredictions',
      summary: 'Store one prediction, or up to 10,000; a moment sent again is replaced',
      params: idParams,
      body: contracts.predictionsBody,
      bodyLimit: batchBytes,
      responses: { 200: { description: 'Stored', schema: writtenSchema } },
      handle: async ({ params, body }) =>
        written(
          params.id,
          await upsertPredictions(deps.pool, params.id, 'predictions' in body ? body.predictions : [body]),
        ),
    }),
    route({
      method: 'get',
      path: '/resources/{id}/predictions',
      scope: 'read',
      touches: 'resource',
      operationId: 'listPredictions',
      summary: 'Predictions, newest first',
      params: idParams,
      query: contracts.rangeQuery,
      responses: {
        200: {
          description: 'Predictions',
          schema: z.object({ predictions: z.array(z.unknown()), count: z.int() }),
        },
      },
      handle: async ({ params, query }) => {
        await present(deps, params.id);
        const predictions = await listPredictions(deps.pool, params.id, query);
        return { status: 200, body: { predictions, count: predictions.length } };
      },
    }),
  ];
}

/** @throws ScalerError 403 when the key's selectors do not cover the resource it would create. */
async function requireSelectorsCover(
  deps: Deps,
  request: RouteRequest,
  resource: {
    readonly name: string;
    readonly cloud_provider: string;
    readonly region: string | null;
    readonly cluster: string | null;
  },
): Promise<void> {
  if (request.selectors === null) return;
  const { name, cloud_provider: provider, region, cluster } = resource;
  if (await selectorsCoverNew(deps.pool, request.selectors, { provider, scope: region ?? cluster, name }))
    return;
  throw forbiddenBySelectors('The key may not register this resource');
}

async function present(deps: Deps, id: string): Promise<Resource> {
  const resource = await findResource(deps.pool, id);
  if (resource === null) throw resourceNotFound(id);
  return resource;
}

function resourceResponse(
  resource: Resource,
  status = 200,
  headers: Record<string, string> = {},
): RouteResponse {
  return { status, body: resource, headers: { ...headers, ETag: `"${resource.version}"` } };
}

function written(id: string, result: { inserted: number; updated: number } | null): RouteResponse {
  if (result === null) throw resourceNotFound(id);
  return { status: 200, body: result };
}

/** @throws Conflict (412) for an ETag that is not ours: it cannot be the present one. */
function versionFromIfMatch(header: string | undefined): number | null {
  if (header === undefined || header === '*') return null;
  const match = /^"(\d{1,9})"$/.exec(header.trim());
  if (match === null)
    throw new Conflict('version_mismatch', 'If-Match is not an ETag of this resource: read it again.', {
      httpStatus: 412,
    });
  return Number(match[1]);
}
