import type { Deps } from '../http/deps.ts';
import { pageResponse } from '../http/list-response.ts';
import { type Route, route } from '../http/route.ts';
import { historyPageSchema, historyQuery } from './contract.ts';
import { listEvents } from './events-store.ts';

/** The history of scaling events. */
export function eventRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'get',
      path: '/scale/history',
      scope: 'read',
      touches: 'filtered',
      operationId: 'history',
      summary: 'Scaling events, newest first',
      query: historyQuery,
      responses: { 200: { description: 'Events', schema: historyPageSchema } },
      handle: async ({ query, selectors }) => {
        const { limit, offset } = query;
        return pageResponse('events', await listEvents(deps.pool, { ...query, selectors }), {
          limit,
          offset,
        });
      },
    }),
  ];
}
