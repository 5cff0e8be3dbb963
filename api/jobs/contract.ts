import { z } from 'zod';
import { jobKinds } from '../../shared/domain/job.ts';
import { cursorSchema, idSchema, limitSchema } from '../http/contract.ts';
import { pageSchema } from '../http/list-response.ts';

const jobStatus = z.enum(['queued', 'active', 'retrying', 'completed', 'failed']);

export const jobsQuery = z.strictObject({
  status: jobStatus.optional(),
  kind: z.enum(jobKinds).optional(),
  resource_id: idSchema.optional(),
  limit: limitSchema,
  cursor: cursorSchema,
});

export const jobSchema = z
  .object({
    id: idSchema,
    kind: z.enum(jobKinds),
    status: jobStatus,
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

export const jobPageSchema = pageSchema('jobs', jobSchema);
