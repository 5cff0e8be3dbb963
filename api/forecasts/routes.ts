import type { Resource } from '../../shared/domain/resource.ts';
import { decisionNotFound, findDecision } from '../decisions/decisions-store.ts';
import { acceptedSchema, idParams } from '../http/contract.ts';
import type { Deps } from '../http/deps.ts';
import { type Answer, type Call, type Route, route } from '../http/route.ts';
import { answerSubmission, jobFor, preferredWait, reusedKey } from '../jobs/submit.ts';
import { findResource, resourceNotFound } from '../resources/resources-store.ts';
import * as contracts from './contract.ts';
import { type FrontierView, findForecastView, findFrontier } from './forecasts-store.ts';

/** A recomputation takes milliseconds: whoever asks for one by GET waits for it. */
const replayWaitSeconds = 10;

/** The risks whose price is told, and the history it is told of. */
const frontierRisks = [0.005, 0.01, 0.02, 0.05, 0.1];
const frontierMs = 14 * 86_400_000;
/** One that is older is still answered, and computed again meanwhile. */
const frontierFreshSeconds = 86_400;
/** Finer steps would cost much and change little. */
const finestStepSeconds = 60;

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
      handle: async (call) => {
        const resource = await findResource(deps.pool, call.params.id);
        if (resource === null) throw resourceNotFound(call.params.id);
        const view = await findFrontier(deps.pool, resource.id);
        const isFresh = (view.age_seconds ?? Number.POSITIVE_INFINITY) < frontierFreshSeconds;
        const jobId = view.unfinished_job_id ?? (isFresh ? null : await startFrontier(deps, call, resource));
        if (view.result !== null || jobId === null) return frontierOf(resource, view, jobId);
        const answer = await answerSubmission(deps, call, { kind: 'created', jobId });
        if (answer.status !== 200) return answer;
        return {
          ...frontierOf(resource, await findFrontier(deps.pool, resource.id), null),
          headers: answer.headers ?? {},
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

/** @returns the job that computes a frontier: a simulation of the present policy beside plans of several risks. */
async function startFrontier(deps: Deps, call: Call, resource: Resource): Promise<string> {
  const now = Date.now();
  const job = jobFor(call, {
    kind: 'simulate',
    queue: 'forecast',
    resource_id: resource.id,
    decision_id: null,
    input: {
      frontier: true,
      from: new Date(now - frontierMs).toISOString(),
      to: new Date(now).toISOString(),
      policy: { decision_interval: Math.max(resource.decision_interval, finestStepSeconds) },
      risks: frontierRisks,
    },
  });
  // Others may come to wait for it.
  const submission = await deps.intake.submit({ ...job, notify: true });
  if (submission.kind === 'body_mismatch') throw reusedKey();
  return submission.jobId;
}

function frontierOf(resource: Resource, view: FrontierView, refreshingJobId: string | null): Answer {
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
