import { z } from 'zod';
import { isTimeZone, scheduleMistake } from '../../shared/domain/freeze-window.ts';
import { protectionScopePattern } from '../../shared/domain/protection-scope.ts';
import { idSchema, timestampSchema } from '../http/contract.ts';

export const reasonSchema = z.string().trim().min(3).max(500);

export const protectionScope = z
  .string()
  .max(300)
  .regex(
    protectionScopePattern,
    'must be global, provider:aws or provider:kubernetes, scope:<provider>:<region or cluster>, or resource:<id>',
  );
/** Limits and holds apply to many resources together. */
const fleetScope = protectionScope.refine(
  (scope) => !scope.startsWith('resource:'),
  'must be global, provider:… or scope:…:…',
);
export const scopeParams = z.strictObject({ scope: protectionScope });
export const limitsParams = z.strictObject({ scope: z.literal('default').or(fleetScope) });
export const holdParams = z.strictObject({
  scope: fleetScope.refine(
    (scope) => scope.startsWith('scope:'),
    'must be scope:<provider>:<region or cluster>',
  ),
});

export const controlBody = z
  .strictObject({
    stopped: z.boolean(),
    reason: reasonSchema,
    /** From the response to the first step of a release. */
    release_code: z.string().min(1).max(64).optional(),
    /** How long the scope only observes after a release. */
    observe_seconds: z.int().min(0).max(86_400).optional(),
  })
  .refine(
    (body) => !body.stopped || (body.release_code === undefined && body.observe_seconds === undefined),
    'release_code and observe_seconds go with stopped: false',
  );

export const freezeBody = z
  .strictObject({
    scope: protectionScope,
    direction: z.enum(['up', 'down', 'both']).default('down'),
    /** Five cron fields, in `time_zone`: when a window begins. */
    schedule: z.string().max(200).nullable().default(null),
    time_zone: z.string().max(64).default('UTC'),
    duration_minutes: z.int().min(1).max(44_640).nullable().default(null),
    starts_at: timestampSchema.nullable().default(null),
    ends_at: timestampSchema.nullable().default(null),
    reason: reasonSchema,
  })
  .superRefine((body, context) => {
    const refuse = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (!isTimeZone(body.time_zone)) refuse('time_zone', 'must be an IANA time zone such as Europe/Berlin');
    if (body.schedule === null) {
      if (body.starts_at === null || body.ends_at === null)
        refuse('schedule', 'give schedule with duration_minutes, or starts_at with ends_at');
      else if (Date.parse(body.ends_at) <= Date.parse(body.starts_at))
        refuse('ends_at', 'must be later than starts_at');
      if (body.duration_minutes !== null) refuse('duration_minutes', 'goes with schedule');
      return;
    }
    const mistake = scheduleMistake(body.schedule);
    if (mistake !== null) refuse('schedule', mistake);
    if (body.duration_minutes === null) refuse('duration_minutes', 'is needed with schedule');
    if (body.starts_at !== null || body.ends_at !== null)
      refuse('starts_at', 'a window has either a schedule or starts_at and ends_at');
  });

export const fleetLimitsBody = z.strictObject({
  window_seconds: z.int().min(1).max(86_400).default(600),
  scale_in_percent: z.number().min(0).max(100).default(10),
  scale_in_floor: z.int().min(0).max(100_000).default(4),
  change_percent: z.number().min(0).max(100_000).default(200),
  change_floor: z.int().min(0).max(1_000_000).default(100),
  correlated_percent: z.number().min(0).max(100).default(60),
  correlated_minimum: z.int().min(2).max(100_000).default(10),
  hold_seconds: z.int().min(0).max(86_400).default(1_800),
  reason: reasonSchema,
});

export const releaseHoldBody = z.strictObject({
  reason: reasonSchema,
  /** How long the scope is not held again after the release. */
  quiet_seconds: z.int().min(0).max(86_400).default(3_600),
});

export const reasonQuery = z.strictObject({ reason: reasonSchema });

export const controlSchema = z.looseObject({
  scope: z.string(),
  state: z.enum(['stopped', 'observing', 'released']),
  reason: z.string(),
  actor: z.string(),
});
export const freezeSchema = z.looseObject({ id: idSchema, scope: z.string(), direction: z.string() });
export const fleetLimitsSchema = z.looseObject({ scope: z.string(), window_seconds: z.int() });
export const protectionSchema = z.object({
  stops: z.array(controlSchema),
  freezes: z.array(freezeSchema),
  holds: z.array(z.looseObject({ scope: z.string(), held_until: z.string() })),
  circuits: z.array(z.looseObject({ scope: z.string(), failures: z.int() })),
  flapping: z.array(z.looseObject({ resource_id: idSchema, name: z.string(), reversals: z.int() })),
  stopped_workers: z.array(z.looseObject({ worker_id: z.string() })),
  budgets: z.array(z.looseObject({ scope: z.string() })),
});
