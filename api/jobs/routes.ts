import { Conflict } from '../../shared/errors.ts';
import { recordChange } from '../audit/record-change.ts';
import { findDecision } from '../decisions/decisions-store.ts';
import { acceptedSchema, idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { pageResponse } from '../http/list-response.ts';
import { type Route, route } from '../http/route.ts';
import { jobPageSchema, jobSchema, jobsQuery } from './contract.ts';
import { findJobInput, getJob, listJobs } from './jobs-store.ts';
import { presentJob } from './present-job.ts';
import { jobFor, submitAndAnswer } from './submit.ts';

/** Jobs: their state and results, and replaying failed ones. */
export function jobRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'get',
      path: '/jobs',
      scope: 'read',
      touches: 'filtered',
      operationId: 'listJobs',
      summary: 'Jobs, newest first',
      query: jobsQuery,
      responses: { 200: { description: 'Jobs', schema: jobPageSchema } },
      handle: async ({ query, selectors }) => {
        const { jobs, cursor } = await listJobs(deps.pool, { ...query, selectors });
        return pageResponse('jobs', { jobs: jobs.map(presentJob), cursor });
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
      responses: { 200: { description: 'The job', schema: jobSchema } },
      handle: async ({ params }) => ({ status: 200, body: presentJob(await getJob(deps.pool, params.id)) }),
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
      handle: async (request) => {
        const failed = await getJob(deps.pool, request.params.id);
        if (failed.status !== 'failed')
          throw new Conflict(
            'job_not_failed',
            `The job is ${failed.status}: only failed jobs can be replayed.`,
          );
        if (failed.decision_id !== null) await requirePendingDecision(deps, failed.decision_id);
        const input = await findJobInput(deps.pool, failed.id);
        const job = {
          ...jobFor(request, {
            kind: failed.kind,
            queue: failed.queue,
            resource_id: failed.resource_id,
            decision_id: failed.decision_id,
            input: input ?? {},
          }),
          replay_of: failed.id,
        };
        return await submitAndAnswer(deps, request, job, {
          afterSubmit: () =>
            recordChange(deps.pool, request, {
              action: 'job.replayed',
              resource_id: failed.resource_id,
              subject: failed.id,
              detail: { job_id: job.id },
            }),
        });
      },
    }),
  ];
}

/** @throws Conflict when the decision can no longer be executed. */
async function requirePendingDecision(deps: Deps, id: string): Promise<void> {
  const decision = await findDecision(deps.pool, id);
  if (decision?.state === 'pending') return;
  throw new Conflict(
    'decision_not_pending',
    `The decision is ${decision?.state ?? 'gone'}: decide again instead of replaying.`,
  );
}
