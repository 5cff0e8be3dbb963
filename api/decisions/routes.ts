import { z } from 'zod';
import { estimateCost, unitPrice } from '../../shared/cost/estimate.ts';
import { Conflict, NotFound } from '../../shared/errors.ts';
import { note } from '../audit/record-change.ts';
import { listEvents } from '../events/events-store.ts';
import { acceptedSchema, idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, route } from '../http/route.ts';
import { findJob, findJobInput, jobNotFound, listJobs } from '../jobs/jobs-store.ts';
import { answerSubmission, jobFor, presentJob, reusedKey } from '../jobs/submit.ts';
import { findResource, missingResources, resourceNotFound } from '../resources/resources-store.ts';
import * as contracts from './contract.ts';
import { type DecisionRow, decisionNotFound, findDecision, listDecisions } from './decisions-store.ts';

/** Decisions, executions, their history, cost and jobs. */
export function scalingRoutes(deps: Deps): Route[] {
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
      handle: async (call) => {
        const { resource_id, use_prediction } = call.body;
        const job = jobFor(call, {
          kind: 'decide',
          queue: 'decide',
          resource_id,
          decision_id: null,
          input: { use_prediction },
        });
        return await answerSubmission(deps, call, await deps.intake.submit(job));
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
        202: {
          description: 'Accepted, ids in the order asked',
          schema: z.object({ job_ids: z.array(z.uuid()), count: z.int() }),
        },
      },
      handle: async (call) => {
        const missing = await missingResources(deps.pool, call.body.resource_ids, call.selectors);
        if (missing.length > 0) {
          throw new NotFound(
            'resource_not_found',
            `${missing.length} of the resources do not exist, so nothing was started: correct the list.`,
            {
              fields: missing.map((id) => ({
                field: `resource_ids[${call.body.resource_ids.indexOf(id)}]`,
                message: `there is no resource ${id}`,
              })),
            },
          );
        }
        const jobs = call.body.resource_ids.map((resource_id) => {
          const { idempotency: _, ...job } = jobFor(call, {
            kind: 'decide',
            queue: 'decide',
            resource_id,
            decision_id: null,
            input: { use_prediction: call.body.use_prediction },
          });
          return job;
        });
        const submission = await deps.intake.submitMany(jobs, call.idempotency ?? undefined);
        if (submission.kind === 'body_mismatch') throw reusedKey();
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
      method: 'post',
      path: '/scale/execute',
      startsJob: true,
      scope: 'execute',
      touches: 'decision',
      operationId: 'execute',
      summary: 'Carry a decision out',
      body: contracts.executeBody,
      responses: {
        202: { description: 'Accepted', schema: acceptedSchema },
        200: { description: 'With Prefer: wait, the outcome', schema: contracts.executionSchema },
      },
      handle: async (call) => {
        const decision = await findDecision(deps.pool, call.body.decision_id);
        if (decision === null) throw decisionNotFound(call.body.decision_id);
        if (call.idempotency === null) refuseFinished(decision);
        const resource = await findResource(deps.pool, decision.resource_id);
        if (resource === null) throw resourceNotFound(decision.resource_id);
        const job = jobFor(call, {
          kind: 'execute',
          queue: resource.cloud_provider === 'aws' ? 'execute-aws' : 'execute-kubernetes',
          resource_id: decision.resource_id,
          decision_id: decision.id,
          input: {},
        });
        const submission = await deps.intake.submit(job);
        if (submission.kind === 'created') {
          await note(deps.pool, call, {
            action: 'execute.requested',
            resource_id: resource.id,
            subject: decision.id,
            detail: { job_id: job.id },
          });
        }
        return await answerSubmission(deps, call, submission);
      },
    }),
    route({
      method: 'get',
      path: '/scale/history',
      scope: 'read',
      touches: 'filtered',
      operationId: 'history',
      summary: 'Scaling events, newest first',
      query: contracts.historyQuery,
      responses: {
        200: {
          description: 'Events',
          schema: z.object({
            events: z.array(contracts.storedEventSchema),
            count: z.int(),
            limit: z.int(),
            offset: z.int(),
            cursor: z.string().nullable(),
          }),
        },
      },
      handle: async ({ query, selectors }) => {
        const { events, cursor } = await listEvents(deps.pool, { ...query, selectors });
        return {
          status: 200,
          body: { events, count: events.length, limit: query.limit, offset: query.offset, cursor },
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
      responses: {
        200: {
          description: 'Decisions',
          schema: z.object({
            decisions: z.array(contracts.storedDecisionSchema),
            count: z.int(),
            cursor: z.string().nullable(),
          }),
        },
      },
      handle: async ({ query, selectors }) => {
        const { decisions, cursor } = await listDecisions(deps.pool, { ...query, selectors });
        return { status: 200, body: { decisions, count: decisions.length, cursor } };
      },
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
      handle: async ({ params }) => {
        const decision = await findDecision(deps.pool, params.id);
        if (decision === null) throw decisionNotFound(params.id);
        return { status: 200, body: decision };
      },
    }),
    route({
      method: 'post',
      path: '/cost/estimate',
      scope: 'read',
      touches: 'resource',
      operationId: 'estimateCost',
      summary: 'What a number of instances costs',
      body: contracts.estimateBody,
      responses: { 200: { description: 'The estimate', schema: contracts.estimateSchema } },
      handle: async ({ body }) => {
        const resource = await findResource(deps.pool, body.resource_id);
        if (resource === null) throw resourceNotFound(body.resource_id);
        return {
          status: 200,
          body: estimateCost(unitPrice(resource), body.instance_count, resource.current_instances),
        };
      },
    }),
    route({
      method: 'get',
      path: '/jobs',
      scope: 'read',
      touches: 'filtered',
      operationId: 'listJobs',
      summary: 'Jobs, newest first',
      query: contracts.jobsQuery,
      responses: {
        200: {
          description: 'Jobs',
          schema: z.object({
            jobs: z.array(contracts.jobSchema),
            count: z.int(),
            cursor: z.string().nullable(),
          }),
        },
      },
      handle: async ({ query, selectors }) => {
        const { jobs, cursor } = await listJobs(deps.pool, { ...query, selectors });
        return { status: 200, body: { jobs: jobs.map(presentJob), count: jobs.length, cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/jobs/{id}',
      scope: 'read',
      touches: 'job',
      operationId: 'getJob',
      summary: 'State and result of a job',
      params: idParams,
      responses: { 200: { description: 'The job', schema: contracts.jobSchema } },
      handle: async ({ params }) => ({ status: 200, body: presentJob(await jobOrNotFound(deps, params.id)) }),
    }),
    route({
      method: 'post',
      path: '/jobs/{id}/replay',
      startsJob: true,
      scope: 'admin',
      touches: 'job',
      operationId: 'replayJob',
      summary: 'Start a failed job again, as a new job linked to it',
      params: idParams,
      responses: { 202: { description: 'Accepted', schema: acceptedSchema } },
      handle: async (call) => {
        const failed = await jobOrNotFound(deps, call.params.id);
        if (failed.status !== 'failed')
          throw new Conflict(
            'job_not_failed',
            `The job is ${failed.status}: only failed jobs can be replayed.`,
          );
        if (failed.decision_id !== null) {
          const decision = await findDecision(deps.pool, failed.decision_id);
          if (decision === null || decision.state !== 'pending')
            throw new Conflict(
              'decision_not_pending',
              `The decision is ${decision?.state ?? 'gone'}: decide again instead of replaying.`,
            );
        }
        const input = await findJobInput(deps.pool, failed.id);
        const job = {
          ...jobFor(call, {
            kind: failed.kind,
            queue: failed.queue,
            resource_id: failed.resource_id,
            decision_id: failed.decision_id,
            input: input ?? {},
          }),
          replay_of: failed.id,
        };
        const submission = await deps.intake.submit(job);
        await note(deps.pool, call, {
          action: 'job.replayed',
          resource_id: failed.resource_id,
          subject: failed.id,
          detail: { job_id: job.id },
        });
        return await answerSubmission(deps, call, submission);
      },
    }),
  ];
}

async function jobOrNotFound(deps: Deps, id: string) {
  const job = await findJob(deps.pool, id);
  if (job === null) throw jobNotFound(id);
  return job;
}

/** A decision that is over is refused at once; a replayed key gets its first answer instead. */
function refuseFinished(decision: DecisionRow): void {
  const words = {
    executed: 'was carried out already',
    expired: 'is too old',
    superseded: 'was overtaken by a newer one',
    failed: 'failed',
  };
  if (decision.state in words) {
    const state = decision.state as keyof typeof words;
    throw new Conflict(`decision_${state}`, `The decision ${words[state]}: decide again.`, {
      context: { decision_id: decision.id },
    });
  }
}
