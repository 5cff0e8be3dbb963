import type { Resource } from '../../shared/domain/resource.ts';
import { acceptedSchema, idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Route, type RouteRequest, type RouteResponse, route } from '../http/route.ts';
import { answerSubmission, idempotencyKeyReused, jobFor, submitAndAnswer } from '../jobs/submit.ts';
import { getResource } from '../resources/resources-store.ts';
import * as contracts from './contract.ts';
import { type FrontierView, findForecastView, findFrontier } from './forecasts-store.ts';

/** The risk levels of a frontier, and the length of the history it is computed from. */
const frontierRisks = [0.005, 0.01, 0.02, 0.05, 0.1];
const frontierHistoryMs = 14 * 86_400_000;
/** An older frontier is stale: it is still answered, while a newer one is computed. */
const frontierMaxAgeSeconds = 86_400;
/** Finer steps would cost much and change little. */
const minStepSeconds = 60;

/** Demand forecasts, the risk-cost frontier of a resource, and simulations of another policy. */
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
        await getResource(deps.pool, params.id);
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
      path: '/resources/{id}/frontier',
      startsJob: true,
      scope: 'read',
      touches: 'resource',
      operationId: 'getFrontier',
      summary: "What each level of risk would have cost on the resource's own last two weeks",
      params: idParams,
      responses: {
        200: { description: 'The newest frontier', schema: contracts.frontierSchema },
        202: { description: 'It is being computed: see the job, or ask again', schema: acceptedSchema },
      },
      handle: async (request) => {
        const resource = await getResource(deps.pool, request.params.id);
        const view = await findFrontier(deps.pool, resource.id);
        const isFresh = (view.age_seconds ?? Number.POSITIVE_INFINITY) < frontierMaxAgeSeconds;
        const jobId =
          view.unfinished_job_id ?? (isFresh ? null : await startFrontier(deps, request, resource));
        if (view.result !== null || jobId === null) return frontierResponse(resource, view, jobId);
        const answer = await answerSubmission(deps, request, { kind: 'created', jobId });
        if (answer.status !== 200) return answer;
        return {
          ...frontierResponse(resource, await findFrontier(deps.pool, resource.id), null),
          headers: answer.headers ?? {},
        };
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
      handle: async (request) => {
        const { resource_id, ...input } = request.body;
        await getResource(deps.pool, resource_id);
        const job = jobFor(request, {
          kind: 'simulate',
          queue: 'forecast',
          resource_id,
          decision_id: null,
          input,
        });
        return await submitAndAnswer(deps, request, job);
      },
    }),
  ];
}

/**
 * Submits the simulation behind a frontier: the present policy beside plans at several risk levels.
 * @returns the job's id. @throws InvalidInput (422) for a reused Idempotency-Key.
 */
async function startFrontier(deps: Deps, request: RouteRequest, resource: Resource): Promise<string> {
  const now = Date.now();
  const job = jobFor(request, {
    kind: 'simulate',
    queue: 'forecast',
    resource_id: resource.id,
    decision_id: null,
    input: {
      frontier: true,
      from: new Date(now - frontierHistoryMs).toISOString(),
      to: new Date(now).toISOString(),
      policy: { decision_interval: Math.max(resource.decision_interval, minStepSeconds) },
      risks: frontierRisks,
    },
  });
  // Later requests may wait for this job, whether or not this one does.
  const submission = await deps.intake.submit({ ...job, notify: true });
  if (submission.kind === 'body_mismatch') throw idempotencyKeyReused();
  return submission.jobId;
}

function frontierResponse(
  resource: Resource,
  view: FrontierView,
  refreshingJobId: string | null,
): RouteResponse {
  const { frontier, simulated, actual, from, to, step_seconds, hours, tolerated_risk } = view.result ?? {};
  return {
    status: 200,
    body: {
      resource_id: resource.id,
      age_seconds: view.age_seconds,
      refreshing_job_id: refreshingJobId,
      from,
      to,
      step_seconds,
      hours,
      tolerated_risk,
      points: frontier,
      current_policy: simulated,
      actual,
    },
  };
}
