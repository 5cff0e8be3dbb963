import { z } from 'zod';
import { idSchema, instancesSchema } from '../http/contract.ts';

export const estimateBody = z.strictObject({ resource_id: idSchema, instance_count: instancesSchema });

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
