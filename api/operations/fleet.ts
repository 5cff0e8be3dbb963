import { listLiveWorkers } from '../../shared/db/fleet-store.ts';
import { withTransaction } from '../../shared/db/pool.ts';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import { recordChange } from '../audit/record-change.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import * as contracts from './contract.ts';
import { readFleetSettings, setMinWorkerVersion } from './fleet-settings-store.ts';

/** The oldest worker version that may claim jobs. */
export function fleetRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'get',
      path: '/settings/min-worker-version',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'getMinWorkerVersion',
      summary: 'The oldest worker that may work, and what the live ones are',
      responses: { 200: { description: 'The setting', schema: contracts.minWorkerVersionSchema } },
      handle: async () => ({ status: 200, body: await minWorkerVersion(deps) }),
    }),
    route({
      method: 'put',
      path: '/settings/min-worker-version',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'setMinWorkerVersion',
      summary: 'Set the oldest worker that may work: older ones claim nothing from the next claim on',
      body: contracts.minWorkerVersionBody,
      responses: { 200: { description: 'Set', schema: contracts.minWorkerVersionSchema } },
      handle: async (request) => {
        const { min_worker_version, reason } = request.body;
        await withTransaction(deps.pool, async (tx) => {
          const { min_worker_version: before } = await readFleetSettings(tx);
          await setMinWorkerVersion(tx, { min_worker_version, reason, actor: request.keyId });
          await recordChange(tx, request, {
            action: 'fleet.min_worker_version',
            subject: String(min_worker_version),
            detail: { before, after: min_worker_version, reason },
          });
        });
        return { status: 200, body: await minWorkerVersion(deps) };
      },
    }),
  ];
}

/** The setting, this release's own version, and the live workers'. */
async function minWorkerVersion(deps: Deps) {
  const [settings, workers] = await Promise.all([readFleetSettings(deps.pool), listLiveWorkers(deps.pool)]);
  return { ...settings, release_worker_version: workerVersion, workers };
}
