import type { z } from 'zod';
import { withTransaction } from '../../shared/db/pool.ts';
import type { Resource } from '../../shared/domain/resource.ts';
import { Conflict, InvalidInput } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { findOr404 } from '../http/find-or-404.ts';
import { listResponse, pageResponse } from '../http/list-response.ts';
import { type Route, type RouteRequest, type RouteResponse, route } from '../http/route.ts';
import { selectorsCoverNew } from '../keys/selectors-store.ts';
import { forbiddenBySelectors } from '../middleware/guard-selectors.ts';
import * as contracts from './contract.ts';
import {
  createResource,
  deleteResource,
  getResource,
  listResources,
  missingResources,
  resourceNotFound,
  resourcesNotFound,
  updateResource,
} from './resources-store.ts';
import {
  listPredictions,
  listSamples,
  type UpsertCounts,
  upsertPredictions,
  upsertSamples,
  upsertSamplesOfMany,
} from './series-store.ts';

const batchBodyLimit = 4 * 1024 * 1024;

/** Resources with their policies, and the samples and predictions that decisions are made from. */
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
      query: contracts.resourcesQuery,
      responses: { 200: { description: 'Resources', schema: contracts.resourcePageSchema } },
      handle: async ({ query, selectors }) =>
        pageResponse('resources', await listResources(deps.pool, { ...query, selectors })),
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
      handle: async ({ params }) => resourceResponse(await getResource(deps.pool, params.id)),
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
        rejectInconsistentPolicy(await getResource(deps.pool, request.params.id), request.body);
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
      bodyLimit: batchBodyLimit,
      responses: { 200: { description: 'Stored', schema: contracts.upsertedSchema } },
      handle: async ({ params, body }) => {
        const samples = 'samples' in body ? body.samples : [body];
        return upsertResponse(params.id, upsertSamples(deps.pool, params.id, samples));
      },
    }),
    route({
      method: 'post',
      path: '/metrics',
      scope: 'decide',
      touches: 'filtered',
      operationId: 'addSamplesOfMany',
      summary: 'Store up to 10,000 samples of many resources; a moment sent again is replaced',
      body: contracts.samplesOfManyBody,
      bodyLimit: batchBodyLimit,
      responses: { 200: { description: 'Stored', schema: contracts.upsertedSchema } },
      handle: async ({ body: { samples }, selectors }) => {
        const ids = samples.map(({ resource_id }) => resource_id);
        const missing = await missingResources(deps.pool, ids, selectors);
        if (missing.length > 0)
          throw resourcesNotFound(missing, (id) => `samples.${ids.indexOf(id)}.resource_id`);
        const { inserted, updated } = await upsertSamplesOfMany(deps.pool, samples);
        return { status: 200, body: { inserted, updated } };
      },
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
      responses: { 200: { description: 'Samples', schema: contracts.sampleListSchema } },
      handle: async ({ params, query }) => {
        await getResource(deps.pool, params.id);
        return listResponse('samples', { samples: await listSamples(deps.pool, params.id, query) });
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
      bodyLimit: batchBodyLimit,
      responses: { 200: { description: 'Stored', schema: contracts.upsertedSchema } },
      handle: async ({ params, body }) => {
        const predictions = 'predictions' in body ? body.predictions : [body];
        return upsertResponse(params.id, upsertPredictions(deps.pool, params.id, predictions));
      },
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
      responses: { 200: { description: 'Predictions', schema: contracts.predictionListSchema } },
      handle: async ({ params, query }) => {
        await getResource(deps.pool, params.id);
        return listResponse('predictions', {
          predictions: await listPredictions(deps.pool, params.id, query),
        });
      },
    }),
  ];
}

type PolicyPatch = z.output<typeof contracts.patchResourceBody>;

/** @throws InvalidInput when the patch and the resource's other fields contradict each other. */
function rejectInconsistentPolicy(resource: Resource, patch: PolicyPatch): void {
  const min = patch.min_instances ?? resource.min_instances;
  const max = patch.max_instances ?? resource.max_instances;
  if (min > max)
    throw new InvalidInput('invalid_request', 'min_instances must not exceed max_instances.', {
      fields: [{ field: 'min_instances', message: `${min} is more than max_instances ${max}` }],
    });
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

/** A resource with its version as ETag. */
function resourceResponse(
  resource: Resource,
  status = 200,
  headers: Record<string, string> = {},
): RouteResponse {
  return { status, body: resource, headers: { ...headers, ETag: `"${resource.version}"` } };
}

/** @throws NotFound when `upsert` met no such resource. */
async function upsertResponse(id: string, upsert: Promise<UpsertCounts | null>): Promise<RouteResponse> {
  return { status: 200, body: await findOr404(upsert, () => resourceNotFound(id)) };
}

/**
 * The version an If-Match header names; null for `*` and without the header.
 * @throws Conflict (412) for an ETag this service never gave out: it cannot be the present one.
 */
function versionFromIfMatch(header: string | undefined): number | null {
  if (header === undefined || header === '*') return null;
  const match = /^"(\d{1,9})"$/.exec(header.trim());
  if (match === null)
    throw new Conflict('version_mismatch', 'If-Match is not an ETag of this resource: read it again.', {
      httpStatus: 412,
    });
  return Number(match[1]);
}
