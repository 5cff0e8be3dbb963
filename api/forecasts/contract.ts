import { z } from 'zod';
import { idSchema, timestampSchema } from '../http/contract.ts';
import { patchResourceBody } from '../resources/contract.ts';

const demand = z.number().describe("instances' worth of work");

/** One metric's forecast, with its accuracy so far. */
const metricForecast = z.object({
  metric: z.enum(['cpu', 'memory']),
  demand: demand.describe('of the newest step'),
  expected: demand.describe('at the horizon'),
  upper: demand.describe('exceeded at the horizon with probability `risk`'),
  risk: z.number(),
  quantiles: z.array(z.object({ probability: z.number(), demand })),
  weights: z.record(z.string(), z.number()).optional(),
  accuracy: z
    .object({
      bias: z.number(),
      mean_absolute_error: z.number(),
      mase: z.number().nullable(),
      coverage: z.number(),
      pinball_ratio: z.number().nullable(),
      steps: z.int(),
    })
    .nullable(),
  breached_share: z.number().optional(),
  residuals: z.int(),
  trusted: z.boolean(),
});

export const forecastSchema = z
  .object({
    resource_id: idSchema,
    state: z.enum(['none', 'learning', 'trusted', 'distrusted']),
    why: z.string().nullable(),
    age_seconds: z.number().nullable(),
    made_at: z.string().optional(),
    forecast_for: z.string().optional(),
    step_seconds: z.number().optional(),
    horizon_steps: z.int().optional(),
    observed_seconds: z.number().optional(),
    tolerated_risk: z.number().optional(),
    max_utilization: z.number().optional(),
    metrics: z.array(metricForecast),
  })
  .meta({ id: 'Forecast' });

/** Cost and quality of service of a plan, simulated or actual. */
const figures = z.looseObject({
  breach_percent: z.number().describe('share of time above 90 % utilisation'),
  unserved_percent: z.number().describe('share of demand above capacity'),
  instance_hours: z.number(),
  cost_usd: z.number(),
  cost_per_month_usd: z.number().describe('per 730 hours'),
  actions_per_day: z.number(),
  ratio_to_oracle: z.number().describe('instance-hours over those of the cheapest plan with full foresight'),
});

export const frontierSchema = z
  .object({
    resource_id: idSchema,
    age_seconds: z.number(),
    refreshing_job_id: idSchema.nullable().describe('the job that computes a newer one'),
    from: z.string(),
    to: z.string(),
    step_seconds: z.number(),
    hours: z.number(),
    tolerated_risk: z.number().describe('when it was computed'),
    points: z.array(figures.extend({ risk: z.number() })).describe('planned by this risk alone; ascending'),
    current_policy: figures,
    actual: figures,
  })
  .meta({ id: 'Frontier' });

const dayMs = 86_400_000;
const longestDays = 31;

export const simulationBody = z
  .strictObject({
    resource_id: idSchema,
    from: timestampSchema,
    to: timestampSchema,
    policy: patchResourceBody.default({}),
    /** Risk levels to simulate beside the policy's own: the frontier. */
    risks: z.array(z.number().min(0.001).max(0.5)).max(10).default([]),
  })
  .refine((body) => Date.parse(body.to) > Date.parse(body.from), {
    path: ['to'],
    message: 'must be after from',
  })
  .refine((body) => Date.parse(body.to) - Date.parse(body.from) <= longestDays * dayMs, {
    path: ['to'],
    message: `must be at most ${longestDays} days after from`,
  });

export const simulationSchema = z.looseObject({}).meta({ id: 'Simulation' });
