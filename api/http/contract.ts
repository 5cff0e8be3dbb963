import { z } from 'zod';

export const idSchema = z.uuid();
export const idParams = z.strictObject({ id: idSchema });
export const instancesSchema = z.int().min(0).max(100_000);
export const limitSchema = z.coerce.number().int().min(1).max(100).default(50);
export const cursorSchema = z.string().min(1).max(500).optional();

/**
 * ISO 8601 with an offset, between 2000 and 2100 to catch wrong units and typing errors. Converted to UTC, because
 * PostgreSQL accepts fewer offsets than ISO 8601 has.
 */
export const timestampSchema = z.iso
  .datetime({ offset: true, error: 'must be a time in ISO 8601 with an offset, like 2026-01-31T12:00:00Z' })
  .refine((text) => text >= '2000' && text < '2100', 'must lie between 2000 and 2100')
  .transform((text) => new Date(text).toISOString());

export const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string(),
    request_id: z.string(),
    errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
    context: z.record(z.string(), z.unknown()).optional(),
  })
  .meta({ id: 'Problem' });

export const acceptedSchema = z
  .object({ job_id: idSchema, status: z.literal('queued'), status_url: z.string() })
  .meta({ id: 'Accepted' });
