import { z } from 'zod';
import { eventSchema } from '../events/contract.ts';
import { idSchema } from '../http/contract.ts';

export const executeBody = z.strictObject({ decision_id: idSchema });

export const executionSchema = z
  .object({ success: z.boolean(), event: eventSchema.nullable(), message: z.string().optional() })
  .meta({ id: 'Execution' });
