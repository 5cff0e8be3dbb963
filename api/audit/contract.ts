import { z } from 'zod';
import { workerVersion } from '../../shared/domain/worker-version.ts';
import { cursorSchema, idSchema, limitSchema } from '../http/contract.ts';
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

const workerVersionSchema = z.int().min(1);
export const minWorkerVersionBody = z.strictObject({
  min_worker_version: workerVersionSchema.max(
    workerVersion,
    `must be at most ${workerVersion}, the version of this release's workers: upgrade the API and the workers first`,
  ),
  reason: z.string().min(3).max(500),
});
export const minWorkerVersionSchema = z
  .object({
    min_worker_version: workerVersionSchema,
    reason: z.string(),
    actor: z.string(),
    updated_at: z.string(),
    release_worker_version: workerVersionSchema.describe("What this release's workers are"),
    workers: z.array(
      z.object({
        worker_id: z.string(),
        queues: z.array(z.string()),
        age_seconds: z.number().describe('Since it last reported'),
        worker_version: workerVersionSchema,
        outdated: z.boolean(),
        stopped: z.boolean().describe('By SCALER_STOP in its environment'),
      }),
    ),
  })
  .meta({ id: 'MinWorkerVersion' });
