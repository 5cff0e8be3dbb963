import { decisionNotFound, findDecision } from '../../shared/db/decisions-repository.ts';
import { findForecastView } from '../../shared/db/forecasts-repository.ts';
import { findResource, resourceNotFound } from '../../shared/db/resources-repository.ts';
import { acceptedSchema, idParams } from '../contracts/common.ts';
import * as contracts from '../contracts/forecasts.ts';
import { answerSubmission, jobFor, preferredWait } from './answer-job.ts';
import type { Deps } from './deps.ts';
import { type Route, route } from './route.ts';

/** A recomputation takes milliseconds: whoever asks for one by GET waits for it. */
const replayWaitSeconds = 10;

/** Forecasts, the replay of decisions, and what another policy would have done. */
export function forecastRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'get',
      path: '/resources/{id}/forecast',
      scope: 'read',
      touches: 'resource',
      operationId: 'getForecast',
      summary: 'The newest demand forecast, with quantiles, weights, accuracy and state',
      params: idParams,
      responses: { 200: { description: 'The forecast', schema: contracts.forecastSchema } },
      handle: async ({ params }) => {
        if ((await findResource(deps.pool, params.id)) === null) throw resourceNotFound(params.id);
        const view = await findForecastView(deps.pool, params.id);
        const none = {
          state: 'none',
          why: 'There is none yet: post samples, then ask for decisions with use_prediction.',
          metrics: [],
        };
        const age = view?.forecast == null ? null : view.age_seconds;
        return {
          status: 200,
          body: { resource_id: params.id, age_seconds: age, ...(view?.forecast ?? none) },
        };
      },
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
        200: { description: 'What came out', schema: contracts.verificationSchema },
        202: { description: 'Not done in time: see the job', schema: acceptedSchema },
      },
      handle: async (call) => {
        const decision = await findDecision(deps.pool, call.params.id);
        if (decision === null) throw decisionNotFound(call.params.id);
        const job = jobFor(call, {
          kind: 'verify',
          queue: 'forecast',
          resource_id: decision.resource_id,
          decision_id: decision.id,
          input: {},
        });
        const asked = preferredWait(call.raw.get('prefer'));
        const wait = asked > 0 ? asked : replayWaitSeconds;
        const submission = await deps.intake.submit({ ...job, notify: true });
        return await answerSubmission(deps, call, submission, wait);
      },
    }),
    route({
      method: 'post',
      path: '/simulations',
      startsJob: true,
      scope: 'decide',
      touches: 'resource',
      operationId: 'simulate',
      summary: "What another policy would have done on the resource's own history",
      body: contracts.simulationBody,
      responses: {
        202: { description: 'Accepted', schema: acceptedSchema },
        200: { description: 'With Prefer: wait, the outcome', schema: contracts.simulationSchema },
      },
      handle: async (call) => {
        const { resource_id, ...input } = call.body;
        if ((await findResource(deps.pool, resource_id)) === null) throw resourceNotFound(resource_id);
        const job = jobFor(call, {
          kind: 'simulate',
          queue: 'forecast',
          resource_id,
          decision_id: null,
          input,
        });
        return await answerSubmission(deps, call, await deps.intake.submit(job));
      },
    }),
  ];
}
