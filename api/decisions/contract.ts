import { z } from 'zod';
import { cursorSchema, idSchema, limitSchema } from '../http/contract.ts';
import { pageSchema } from '../http/list-response.ts';

export const decideBody = z.strictObject({
  resource_id: idSchema,
  use_prediction: z.boolean().default(false),
});
export const decideBatchBody = z.strictObject({
  resource_ids: z.array(idSchema).min(1).max(1_000),
  use_prediction: z.boolean().default(false),
});

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

export const decisionsQuery = z.strictObject({
  resource_id: idSchema.optional(),
  limit: limitSchema,
  cursor: cursorSchema,
});

export const decidedBatchSchema = z.object({ job_ids: z.array(z.uuid()), count: z.int() });
export const decisionPageSchema = pageSchema('decisions', storedDecisionSchema);

/** A decision made again from its stored inputs, compared with what was stored. */
export const decisionReplaySchema = z
  .object({
    decision_id: idSchema,
    equal: z.boolean().nullable(),
    engine_version: z.string(),
    running_engine_version: z.string().optional(),
    message: z.string().optional(),
    differences: z
      .array(z.object({ field: z.string(), stored: z.unknown(), recomputed: z.unknown() }))
      .optional(),
  })
  .meta({ id: 'DecisionReplay' });
