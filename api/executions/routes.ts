import { Conflict } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { type DecisionRow, getDecision } from '../decisions/decisions-store.ts';
import { acceptedSchema } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import { jobFor, submitAndAnswer } from '../jobs/submit.ts';
import { getResource } from '../resources/resources-store.ts';
import { executeBody, executionSchema } from './contract.ts';

/** Executing decisions. */
export function executionRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'post',
      path: '/scale/execute',
      startsJob: true,
      scope: 'execute',
      touches: 'decision',
      operationId: 'execute',
      summary: 'Carry a decision out',
      body: executeBody,
      responses: {
        202: { description: 'Accepted', schema: acceptedSchema },
        200: { description: 'With Prefer: wait, the outcome', schema: executionSchema },
      },
      handle: async (request) => {
        const decision = await getDecision(deps.pool, request.body.decision_id);
        // With an Idempotency-Key this may be a retry, which gets its first response whatever happened since.
        if (request.idempotency === null) rejectFinished(decision);
        const resource = await getResource(deps.pool, decision.resource_id);
        const job = jobFor(request, {
          kind: 'execute',
          queue: resource.cloud_provider === 'aws' ? 'execute-aws' : 'execute-kubernetes',
          resource_id: decision.resource_id,
          decision_id: decision.id,
          input: {},
        });
        return await submitAndAnswer(deps, request, job, {
          afterSubmit: async (submission) => {
            if (submission.kind !== 'created') return;
            await recordChange(deps.pool, request, {
              action: 'execute.requested',
              resource_id: resource.id,
              subject: decision.id,
              detail: { job_id: job.id },
            });
          },
        });
      },
    }),
  ];
}

const finishedStates = {
  executed: 'was carried out already',
  expired: 'is too old',
  superseded: 'was overtaken by a newer one',
  failed: 'failed',
} as const;

/** @throws Conflict for a decision that is in a final state. */
function rejectFinished(decision: DecisionRow): void {
  if (!(decision.state in finishedStates)) return;
  const state = decision.state as keyof typeof finishedStates;
  throw new Conflict(`decision_${state}`, `The decision ${finishedStates[state]}: decide again.`, {
    context: { decision_id: decision.id },
  });
}
