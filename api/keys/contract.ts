import { z } from 'zod';
import { type Selector, scopes } from '../../shared/domain/api-key.ts';
import { idSchema } from '../http/contract.ts';

const printable = (maxLength: number) =>
  z
    .string()
    .min(1)
    .max(maxLength)
    .regex(/^[\x20-\x7e]+$/, 'must be printable ASCII');

const selectorSchema = z
  .strictObject({
    provider: z.enum(['aws', 'kubernetes']).optional(),
    /** A region or a cluster. */
    scope: printable(255).optional(),
    name: printable(255)
      .refine((name) => (name.match(/\*/g) ?? []).length <= 5, 'must have at most 5 of *')
      .optional(),
    resource_id: idSchema.optional(),
  })
  .refine(
    (selector) => Object.values(selector).some((value) => value !== undefined),
    'must name something: leave selectors away for a key to everything',
  ) satisfies z.ZodType<Selector>;

const selectorsSchema = z.array(selectorSchema).min(1).max(50).nullable();

/** Keys that can act are rotated at least this often. */
const maxDaysOfActingKey = 90;

export const createKeyBody = z
  .strictObject({
    name: printable(100),
    scopes: z.array(z.enum(scopes)).min(1).max(4),
    /** The key covers resources that match every field of one of these; null: all resources. */
    selectors: selectorsSchema.default(null),
    expires_days: z.int().min(1).max(365).default(90),
  })
  .refine(
    (key) =>
      key.expires_days <= maxDaysOfActingKey ||
      key.scopes.every((scope) => scope === 'read' || scope === 'decide'),
    {
      path: ['expires_days'],
      message: `must be at most ${maxDaysOfActingKey} for a key that may execute or administer: rotate it`,
    },
  );
export const rotateKeyBody = z.strictObject({ overlap_seconds: z.int().min(0).max(86_400).default(3_600) });
export const keyParams = z.strictObject({ id: z.string().regex(/^[0-9A-Za-z]{12}$/) });

export const keySchema = z
  .object({
    id: z.string(),
    name: z.string(),
    scopes: z.array(z.enum(scopes)),
    selectors: z.array(z.record(z.string(), z.string())).nullable(),
    created_at: z.string(),
    expires_at: z.string(),
    revoked_at: z.string().nullable(),
    last_used_at: z.string().nullable(),
  })
  .meta({ id: 'Key' });
export const newKeySchema = keySchema.extend({ key: z.string() }).meta({ id: 'NewKey' });
