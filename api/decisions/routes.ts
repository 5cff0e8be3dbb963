import { acceptedSchema, idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { pageResponse } from '../http/list-response.ts';
import { type Route, route } from '../http/route.ts';
import { idempotencyKeyReused, jobFor, preferredWaitSeconds, submitAndAnswer } from '../jobs/submit.ts';
import { missingResources, resourcesNotFound } from '../resources/resources-store.ts';
import * as contracts from './contract.ts';
import { getDecision, listDecisions } from './decisions-store.ts';

/** A replay takes milliseconds, so this GET waits for its job without being asked to. */
const replayWaitSeconds = 10;

/** Asking for decisions, reading them, and replaying one from its stored inputs. */
export function decisionRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'post',
      path: '/scale/decide',
      startsJob: true,
      scope: 'decide',
      touches: 'resource',
      operationId: 'decide',
      summary: 'Ask for a scaling decision',
      body: contracts.decideBody,
      responses: {
        202: { description: 'Accepted', schema: acceptedSchema },
        200: { description: 'With Prefer: wait, the decision', schema: contracts.decisionSchema },
      },
      handle: async (request) => {
        const { resource_id, use_prediction } = request.body;
        const job = jobFor(request, {
          kind: 'decide',
          queue: 'decide',
          resource_id,
          decision_id: null,
          input: { use_prediction },
        });
        return await submitAndAnswer(deps, request, job);
      },
    }),
    route({
      method: 'post',
      path: '/scale/decide/batch',
      startsJob: true,
      scope: 'decide',
      touches: 'filtered',
      operationId: 'decideBatch',
      summary: 'Ask for up to 1,000 decisions at once',
      body: contracts.decideBatchBody,
      responses: {
        202: { description: 'Accepted, ids in the order asked', schema: contracts.decidedBatchSchema },
      },
      handle: async (request) => {
        const { resource_ids, use_prediction } = request.body;
        const missing = await missingResources(deps.pool, resource_ids, request.selectors);
        if (missing.length > 0)
          throw resourcesNotFound(missing, (id) => `resource_ids[${resource_ids.indexOf(id)}]`);
        const jobs = resource_ids.map((resource_id) => {
          // The key belongs to the batch, not to each of its jobs.
          const { idempotency: _, ...job } = jobFor(request, {
            kind: 'decide',
            queue: 'decide',
            resource_id,
            decision_id: null,
            input: { use_prediction },
          });
          return job;
        });
        const submission = await deps.intake.submitMany(jobs, request.idempotency ?? undefined);
        if (submission.kind === 'body_mismatch') throw idempotencyKeyReused();
        const headers: Record<string, string> =
          submission.kind === 'replayed' ? { 'Idempotent-Replayed': 'true' } : {};
        return {
          status: 202,
          body: { job_ids: submission.jobIds, count: submission.jobIds.length },
          headers,
        };
      },
    }),
    route({
      method: 'get',
      path: '/scale/decisions',
      scope: 'read',
      touches: 'filtered',
      operationId: 'listDecisions',
      summary: 'Decisions, newest first',
      query: contracts.decisionsQuery,
      responses: { 200: { description: 'Decisions', schema: contracts.decisionPageSchema } },
      handle: async ({ query, selectors }) =>
        pageResponse('decisions', await listDecisions(deps.pool, { ...query, selectors })),
    }),
    route({
      method: 'get',
      path: '/scale/decisions/{id}',
      scope: 'read',
      touches: 'decision',
      operationId: 'getDecision',
      summary: 'One decision with its explanation',
      params: idParams,
      responses: { 200: { description: 'The decision', schema: contracts.storedDecisionSchema } },
      handle: async ({ params }) => ({ status: 200, body: await getDecision(deps.pool, params.id) }),
    }),
    route({
      method: 'get',
      path: '/scale/decisions/{id}/replay',
      startsJob: true,
      scope: 'read',
      touches: 'decision',
      operationId: 'replayDecision',
      summary: 'Decide again from what was stored with a decision, and tell whether the answer is the same',
      params: idParams,
      responses: {
        200: { description: 'What came out', schema: contracts.decisionReplaySchema },
        202: { description: 'Not done in time: see the job', schema: acceptedSchema },
      },
      handle: async (request) => {
        const decision = await getDecision(deps.pool, request.params.id);
        const job = jobFor(request, {
          kind: 'verify',
          queue: 'forecast',
          resource_id: decision.resource_id,
          decision_id: decision.id,
          input: {},
        });
        const preferred = preferredWaitSeconds(request.raw.get('prefer'));
        const waitSeconds = preferred > 0 ? preferred : replayWaitSeconds;
        return await submitAndAnswer(deps, request, { ...job, notify: true }, { waitSeconds });
      },
    }),
  ];
}
