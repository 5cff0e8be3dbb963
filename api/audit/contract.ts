import { z } from 'zod';
import { cursorSchema, idSchema, limitSchema } from '../http/contract.ts';
import { pageSchema } from '../http/list-response.ts';
import { historyTables } from './hash-chain.ts';

const tables = { events: historyTables[0], audit: historyTables[1] } as const;

export const auditQuery = z.strictObject({
  resource_id: idSchema.optional(),
  actor: z.string().min(1).max(200).optional(),
  action: z.string().min(1).max(200).optional(),
  limit: limitSchema,
  cursor: cursorSchema,
});

export const auditEntrySchema = z
  .object({
    id: z.int(),
    at: z.string(),
    actor: z.string(),
    action: z.string(),
    resource_id: idSchema.nullable(),
    subject: z.string().nullable(),
    request_id: z.string().nullable(),
    remote_address: z.string().nullable(),
    detail: z.record(z.string(), z.unknown()),
    chain_no: z.int(),
    hash: z.string(),
  })
  .meta({ id: 'AuditEntry' });

export const exportQuery = z.strictObject({
  table: z.enum(['events', 'audit']).transform((name) => tables[name]),
  resource_id: z
    .union([idSchema, z.literal('global')])
    .optional()
    .describe('`global`: the rows without a resource'),
  after: z
    .string()
    .regex(/^\d{1,18}$/, 'must be the seq of an event or the id of an entry')
    .default('0')
    .describe('Begin behind the row with this `seq` (events) or `id` (audit)'),
  limit: z.coerce.number().int().min(1).max(100_000_000).default(100_000_000),
});

export const auditPageSchema = pageSchema('entries', auditEntrySchema);
