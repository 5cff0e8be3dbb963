import { z } from 'zod';
import { cursorSchema, idSchema, limitSchema } from '../http/contract.ts';
import { pageSchema } from '../http/list-response.ts';

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

export const historyQuery = z.strictObject({
  resource_id: idSchema.optional(),
  limit: limitSchema,
  offset: z.coerce.number().int().min(0).max(100_000).default(0),
  cursor: cursorSchema,
});

export const historyPageSchema = pageSchema('events', storedEventSchema, { limit: z.int(), offset: z.int() });
