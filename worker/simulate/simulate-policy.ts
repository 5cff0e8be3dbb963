import { setImmediate as nextTurn } from 'node:timers/promises';
import type pg from 'pg';
import { z } from 'zod';
import { estimateCost, unitPrice } from '../../shared/cost/estimate.ts';
import { loadDecisionInputs } from '../decide/inputs-store.ts';
import { sampleIntervalMs } from '../engine/data-quality.ts';
import { type Proposal, proposalsOf } from '../engine/demand.ts';
import type { EnginePolicy, EngineSample, MetricResponses } from '../engine/types.ts';
import { readHistory } from '../forecast/build-forecaster.ts';
import { usualInterval } from '../forecaster/resource-forecaster.ts';
import type { ClaimedJob, JobCompletion } from '../queue/jobs-store.ts';
import { type PlantOptions, plantInTurns, type Run } from '../replay/plant.ts';
import { hpa } from '../replay/policies/hpa.ts';
import { scalerWith } from '../replay/policies/scaler.ts';
import type { PolicyMaker } from '../replay/policy.ts';
import { type Score, score } from '../replay/score.ts';
import type { Trace } from '../replay/trace.ts';

/** The part of a simulation's input that the worker reads; the API has checked the rest. */
const inputSchema = z.object({
  from: z.string(),
  to: z.string(),
  policy: z
    .object({
      min_instances: z.int(),
      max_instances: z.int(),
      target_cpu: z.number(),
      target_memory: z.number(),
      cooldown_period: z.int(),
      scale_down_cooldown: z.int().nullable(),
      max_scale_up_step: z.int(),
      max_scale_down_step: z.int(),
      max_actions_per_hour: z.int(),
      tolerance: z.number(),
      stabilization_window: z.int(),
      provisioning_delay: z.int(),
      decision_interval: z.int(),
      planning: z.enum(['target', 'risk']),
      max_utilization: z.number(),
      tolerated_risk: z.number(),
      shortage_price: z.number().nullable(),
    })
    .partial(),
  risks: z.array(z.number()),
  /** Only the prices of risks are asked for: no series. */
  frontier: z.boolean().default(false),
});
type SimulationInput = z.infer<typeof inputSchema>;

/** What the forecaster learns from before the first step that is scored. */
const learningMs = 8 * 86_400_000;
/** At most so many points of a series go into the result. */
const mostPoints = 1_500;
const fewestSteps = 12;
/** A year's hours ÷ 12. */
const monthHours = 730;
/** Decisions that fit into the time a claim holds, with room to spare. */
const mostWork = 600_000;

/**
 * Replays a draft policy on the resource's own history: demand is what its samples show, instances × utilisation, of
 * the metric that needs more. What really ran, and what the rules of a Kubernetes HPA would have run, is scored beside
 * it by the same measures.
 */
export async function simulatePolicy(pool: pg.Pool, job: ClaimedJob): Promise<JobCompletion> {
  const input = inputSchema.parse(job.input);
  const inputs = (await loadDecisionInputs(pool, [job.resource_id])).get(job.resource_id);
  if (inputs === undefined)
    return refused(job, 'resource_not_found', 'The resource was deleted before it was its turn.', 404);
  const draft = drafted(inputs.engine.policy, input.policy);
  if (draft.minInstances > draft.maxInstances) {
    const message = `The draft's min_instances ${draft.minInstances} is more than its max_instances ${draft.maxInstances}.`;
    return refused(job, 'invalid_policy', message, 422);
  }
  const [fromMs, toMs] = [Date.parse(input.from), Date.parse(input.to)];
  const samples = (
    await readHistory(pool, job.resource_id, inputs.size, draft, toMs - 1, fromMs - learningMs)
  ).filter((sample) => sample.instances > 0);
  // Where samples come less often than decisions, a step is one of them.
  const slowMs = usualInterval(draft, sampleIntervalMs(samples));
  const policy = { ...draft, decisionIntervalMs: Math.max(draft.decisionIntervalMs, slowMs) };
  const history = historyOf(samples, policy, inputs.engine.responses ?? null);
  if (history === null || history.trace.demand.length - stepAt(history.trace, fromMs) < fewestSteps) {
    const message = `There are fewer than ${fewestSteps} steps of samples from ${input.from} to ${input.to}: choose a range that has some.`;
    return refused(job, 'no_history', message, 422);
  }
  const work = history.trace.demand.length * (2 + input.risks.length);
  if (work > mostWork) {
    const message = `That is ${work} decisions, more than ${mostWork}: shorten the range, try fewer risks, or draft a longer decision_interval.`;
    return refused(job, 'simulation_too_long', message, 422);
  }
  const first = stepAt(history.trace, fromMs);
  const price = unitPrice(inputs.price);
  const hours = ((history.trace.demand.length - first) * history.trace.stepMs) / 3_600_000;
  const hourly = Number(estimateCost(price, 1, 1).hourly_cost);
  const costOf = (instanceHours: number) => ({
    cost_usd: Number((hourly * instanceHours).toFixed(6)),
    cost_per_month_usd: Number(((hourly * instanceHours * monthHours) / hours).toFixed(2)),
  });
  const attempt = async (tried: EnginePolicy, make: PolicyMaker = scalerWith(() => tried)) => {
    const options = plantOptions(tried, history.ready[0] as number);
    const turns = plantInTurns(history.trace, make, options);
    let turn = turns.next();
    for (; turn.done !== true; turn = turns.next()) await nextTurn();
    return { run: turn.value, figures: score(history.trace, turn.value, options, first) };
  };
  const { run, figures } = await attempt(policy);
  const options = plantOptions(policy, history.ready[0] as number);
  const actual = score(history.trace, actualRun(history.ready, run), options, first);
  const rival = await attempt(policy, hpa);
  const frontier = [];
  for (const risk of input.risks) {
    const tried = await attempt({ ...policy, planning: 'risk', toleratedRisk: risk });
    frontier.push({ risk, ...withCost(tried.figures, costOf) });
  }
  const result = {
    resource_id: job.resource_id,
    from: input.from,
    to: input.to,
    step_seconds: history.trace.stepMs / 1_000,
    samples: samples.length,
    hours,
    tolerated_risk: policy.toleratedRisk,
    simulated: withCost(figures, costOf),
    actual: withCost(actual, costOf),
    hpa: withCost(rival.figures, costOf),
    frontier,
    series: input.frontier ? [] : seriesOf(history.trace, history.ready, run, first),
  };
  return { id: job.id, fence: job.fence, status: 'completed', outcome: 'succeeded', result, error: null };
}

function refused(job: ClaimedJob, code: string, message: string, http_status: number): JobCompletion {
  const error = { code, message, http_status };
  return { id: job.id, fence: job.fence, status: 'failed', outcome: 'rejected', result: null, error };
}

/** The stored policy with the draft's fields in their place. */
function drafted(stored: EnginePolicy, draft: SimulationInput['policy']): EnginePolicy {
  const ms = (seconds: number | undefined, otherwise: number) =>
    seconds === undefined ? otherwise : seconds * 1_000;
  const ratio = (percent: number | undefined, otherwise: number) =>
    percent === undefined ? otherwise : percent / 100;
  const cooldownMs = ms(draft.cooldown_period, stored.scaleUpCooldownMs);
  const shortage = draft.shortage_price ?? null;
  return {
    ...stored,
    minInstances: draft.min_instances ?? stored.minInstances,
    maxInstances: draft.max_instances ?? stored.maxInstances,
    targetCpuRatio: ratio(draft.target_cpu, stored.targetCpuRatio),
    targetMemoryRatio: ratio(draft.target_memory, stored.targetMemoryRatio),
    planning: draft.planning ?? stored.planning,
    limitRatio: ratio(draft.max_utilization, stored.limitRatio),
    toleratedRisk: shortage === null ? (draft.tolerated_risk ?? stored.toleratedRisk) : 1 / (1 + shortage),
    maxScaleUpStep: draft.max_scale_up_step ?? stored.maxScaleUpStep,
    maxScaleDownStep: draft.max_scale_down_step ?? stored.maxScaleDownStep,
    scaleUpCooldownMs: cooldownMs,
    scaleDownCooldownMs:
      draft.scale_down_cooldown === null
        ? cooldownMs
        : ms(
            draft.scale_down_cooldown,
            draft.cooldown_period === undefined ? stored.scaleDownCooldownMs : cooldownMs,
          ),
    maxActionsPerHour: draft.max_actions_per_hour ?? stored.maxActionsPerHour,
    tolerance: draft.tolerance ?? stored.tolerance,
    stabilizationWindowMs: ms(draft.stabilization_window, stored.stabilizationWindowMs),
    provisioningDelayMs: ms(draft.provisioning_delay, stored.provisioningDelayMs),
    decisionIntervalMs: ms(draft.decision_interval, stored.decisionIntervalMs),
    scaleUpPausedUntilMs: null,
    scaleDownPausedUntilMs: null,
  };
}

interface History {
  readonly trace: Trace;
  /** What ran in each step. */
  readonly ready: Int32Array;
}

/**
 * Puts samples on the grid of decision intervals. Memory counts in CPU's terms, as far as it responds to the count: by
 * the instances that it needs.
 */
function historyOf(
  samples: readonly EngineSample[],
  policy: EnginePolicy,
  responses: MetricResponses | null,
): History | null {
  const [oldest, newest] = [samples[0], samples.at(-1)];
  if (oldest === undefined || newest === undefined) return null;
  const stepMs = policy.decisionIntervalMs;
  const firstStep = Math.floor(oldest.atMs / stepMs);
  const steps = Math.floor(newest.atMs / stepMs) - firstStep + 1;
  const demand = new Float64Array(steps);
  const missing = new Uint8Array(steps).fill(1);
  const ready = new Int32Array(steps);
  const counts = new Int32Array(steps);
  for (const sample of samples) {
    const needed = proposalsOf(sample, 'prediction', { policy, responses: responses ?? undefined });
    const work = highestOf(needed) * policy.targetCpuRatio;
    const step = Math.floor(sample.atMs / stepMs) - firstStep;
    const count = (counts[step] as number) + 1;
    counts[step] = count;
    const mean = demand[step] as number;
    demand[step] = mean + (work - mean) / count;
    // What ran, as so many of today's instances.
    ready[step] = Math.max(1, Math.round(sample.instances * (sample.cpuWorth ?? 1)));
    missing[step] = 0;
  }
  for (let step = 1; step < steps; step++) {
    if (missing[step] === 0) continue;
    demand[step] = demand[step - 1] as number;
    ready[step] = ready[step - 1] as number;
  }
  return { trace: { name: 'history', startMs: firstStep * stepMs, stepMs, demand, missing }, ready };
}

/** Instances, not rounded, for the larger of a sample's metrics. */
function highestOf(proposals: readonly Proposal[]): number {
  return proposals.reduce((most, { visible }) => Math.max(most, visible), 0);
}

function stepAt(trace: Trace, atMs: number): number {
  return Math.max(0, Math.ceil((atMs - trace.startMs) / trace.stepMs));
}

function plantOptions(policy: EnginePolicy, startInstances: number): PlantOptions {
  return {
    delayMs: policy.provisioningDelayMs,
    minInstances: Math.max(1, policy.minInstances),
    maxInstances: policy.maxInstances,
    target: policy.targetCpuRatio,
    risk: policy.toleratedRisk,
    pinned: false,
    lost: 0,
    startInstances,
  };
}

/** What really ran, scored like a run: paid for as long as it was ready. */
function actualRun(ready: Int32Array, run: Run): Run {
  const changed = new Uint8Array(ready.length);
  for (let step = 1; step < ready.length; step++) changed[step] = ready[step] === ready[step - 1] ? 0 : 1;
  return { ...run, ready, paid: ready, changed };
}

function withCost(
  figures: Score,
  costOf: (instanceHours: number) => Record<string, number>,
): Record<string, unknown> {
  const { ms_per_decision: _, ...rest } = figures;
  return { ...rest, ...costOf(figures.instance_hours) };
}

/** For plots; of long ranges every n-th step. */
function seriesOf(trace: Trace, ready: Int32Array, run: Run, first: number): Record<string, unknown>[] {
  const every = Math.max(1, Math.ceil((trace.demand.length - first) / mostPoints));
  const points = [];
  for (let step = first; step < trace.demand.length; step += every) {
    const bound = run.upper[step] as number;
    points.push({
      timestamp: new Date(trace.startMs + step * trace.stepMs).toISOString(),
      demand: trace.demand[step],
      simulated_instances: run.ready[step],
      actual_instances: ready[step],
      upper: Number.isNaN(bound) ? null : bound,
    });
  }
  return points;
}
