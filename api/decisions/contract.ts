import { z } from 'zod';
import { jobKinds } from '../../shared/domain/job.ts';
import { cursorSchema, idSchema, instancesSchema, limitSchema } from '../http/contract.ts';

export const decideBody = z.strictObject({
  resource_id: idSchema,
  use_prediction: z.boolean().default(false),
});
export const decideBatchBody = z.strictObject({
  resource_ids: z.array(idSchema).min(1).max(1_000),
  use_prediction: z.boolean().default(false),
});
export const executeBody = z.strictObject({ decision_id: idSchema });
export const estimateBody = z.strictObject({ resource_id: idSchema, instance_count: instancesSchema });

export const decisionSchema = z
  .object({
    id: idSchema,
    resource_id: idSchema,
    decision_type: z.enum(['scaleup', 'scaledown', 'noaction']),
    current_instances: z.int(),
    target_instances: z.int(),
    reason: z.string(),
    estimated_cost: z.number().describe('USD per hour at target_instances'),
    confidence: z.number().min(0).max(1),
    created_at: z.string(),
    executed: z.boolean(),
    explanation: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'Decision' });

/** A decision as it is stored, with what became of it. */
export const storedDecisionSchema = decisionSchema
  .extend({
    reason_code: z.string(),
    state: z.enum(['none', 'pending', 'executing', 'executed', 'failed', 'expired', 'superseded']),
    expires_at: z.string(),
    seq: z.number().describe('the order in which decisions were made'),
  })
  .meta({ id: 'StoredDecision' });

export const eventSchema = z
  .object({
    id: idSchema,
    resource_id: idSchema,
    decision_id: idSchema.nullable(),
    action: z.enum(['ScaleUp', 'ScaleDown']).nullable(),
    previous_instances: z.int().nullable(),
    new_instances: z.int().nullable(),
    success: z.boolean().nullable(),
    error_message: z.string().nullable(),
    execution_time_ms: z.int().nullable(),
    created_at: z.string(),
  })
  .meta({ id: 'Event' });

/** An event as history shows it: also of what was begun, refused or only observed. */
export const storedEventSchema = eventSchema
  .extend({
    phase: z.enum(['intent', 'outcome', 'late_report', 'observed', 'control']),
    outcome: z.string().nullable(),
    error_code: z.string().nullable(),
    actor: z.string(),
    seq: z.number(),
  })
  .meta({ id: 'StoredEvent' });

export const executionSchema = z
  .object({ success: z.boolean(), event: eventSchema.nullable(), message: z.string().optional() })
  .meta({ id: 'Execution' });

export const historyQuery = z.strictObject({
  resource_id: idSchema.optional(),
  limit: limitSchema,
  offset: z.coerce.number().int().min(0).max(100_000).default(0),
  cursor: cursorSchema,
});
export const decisionsQuery = z.strictObject({
  resource_id: idSchema.optional(),
  limit: limitSchema,
  cursor: cursorSchema,
});
export const jobsQuery = z.strictObject({
  status: z.enum(['queued', 'active', 'retrying', 'completed', 'failed']).optional(),
  kind: z.enum(jobKinds).optional(),
  resource_id: idSchema.optional(),
  limit: limitSchema,
  cursor: cursorSchema,
});

export const estimateSchema = z
  .object({
    hourly_price: z.string().describe('of one instance, exact'),
    hourly_cost: z.number(),
    daily_cost: z.number(),
    monthly_cost: z.number(),
    delta_hourly_cost: z.number(),
    delta_daily_cost: z.number(),
    delta_monthly_cost: z.number(),
    instance_type: z.string().nullable(),
    instance_count: z.int(),
    current_instances: z.int(),
    currency: z.literal('USD'),
    price_source: z.string(),
    priced_at: z.string().nullable(),
    price_note: z.string(),
  })
  .meta({ id: 'CostEstimate' });

export const jobSchema = z
  .object({
    id: idSchema,
    kind: z.enum(jobKinds),
    status: z.enum(['queued', 'active', 'retrying', 'completed', 'failed']),
    outcome: z.string().nullable(),
    attempts: z.int(),
    resource_id: idSchema,
    decision_id: idSchema.nullable(),
    replay_of: idSchema.nullable().describe('the failed job that this one does again'),
    available_at: z.string().optional().describe('while it is retrying: when it is tried again'),
    result: z.record(z.string(), z.unknown()).nullable(),
    error: z.record(z.string(), z.unknown()).nullable(),
    created_at: z.string(),
    started_at: z.string().nullable(),
    finished_at: z.string().nullable(),
  })
  .meta({ id: 'Job' });
