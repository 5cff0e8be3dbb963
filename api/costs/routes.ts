import { estimateCost, unitPrice } from '../../shared/cost/estimate.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import { getResource } from '../resources/resources-store.ts';
import { estimateBody, estimateSchema } from './contract.ts';

/** Cost estimates from list prices or the resource's own hourly price. */
export function costRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'post',
      path: '/cost/estimate',
      scope: 'read',
      touches: 'resource',
      operationId: 'estimateCost',
      summary: 'What a number of instances costs',
      body: estimateBody,
      responses: { 200: { description: 'The estimate', schema: estimateSchema } },
      handle: async ({ body }) => {
        const resource = await getResource(deps.pool, body.resource_id);
        return {
          status: 200,
          body: estimateCost(
            unitPrice({ ...resource, instance_mix: resource.observed_state?.mix ?? null }),
            body.instance_count,
            resource.current_instances,
          ),
        };
      },
    }),
  ];
}
