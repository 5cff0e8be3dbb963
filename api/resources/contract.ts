import { z } from 'zod';
import {
  autoScalingGroupNamePattern,
  awsRegionPattern,
  kubernetesNamePattern,
} from '../../shared/domain/resource.ts';
import { cursorSchema, idSchema, instancesSchema, limitSchema, timestampSchema } from '../http/contract.ts';
import { listSchema, pageSchema } from '../http/list-response.ts';

/** Above 1: a target of 0.7 % is nobody's wish, but a ratio typed for a percentage. */
const percent = z
  .number()
  .gt(1, {
    error: ({ input }) => {
      const meant = Number((Number(input) * 100).toPrecision(6));
      return meant > 0
        ? `must be a percentage above 1: did you mean ${meant}?`
        : 'must be a percentage above 1';
    },
  })
  .max(100);
const seconds = (max: number, min = 0) => z.int().min(min).max(max);
/** A context of the worker's kubeconfig; never an address (SSRF). */
const clusterName = z
  .string()
  .min(1)
  .max(255)
  .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII without spaces');

const regionName = z.string().regex(awsRegionPattern, 'must be an AWS region, like us-east-1');

const policyFields = {
  min_instances: instancesSchema,
  max_instances: instancesSchema,
  target_cpu: percent,
  target_memory: percent,
  cooldown_period: seconds(86_400),
  max_scale_up_step: z.int().min(1).max(100_000),
  max_scale_down_step: z.int().min(1).max(100_000),
  scale_down_cooldown: seconds(86_400).nullable(),
  max_actions_per_hour: z.int().min(1).max(3_600),
  max_reversals_per_half_hour: z.int().min(1).max(3_600),
  tolerance: z.number().min(0).lt(1),
  stabilization_window: seconds(3_600),
  provisioning_delay: seconds(3_600),
  decision_interval: seconds(3_600, 5),
  utilization_unit: z
    .enum(['percent', 'ratio'])
    .nullable()
    .describe(
      'what posted CPU and memory are in: 82 or 0.82; null: not declared, taken as percent and doubted',
    ),
  max_sample_age: seconds(86_400, 1)
    .nullable()
    .describe('how old the newest sample may be before it is stale; null: what its rhythm suggests'),
  scale_to_zero_after: seconds(86_400).describe(
    'with min_instances 0: how long requests and predictions must be silent',
  ),
  hourly_price: z.number().min(0).max(1_000_000).nullable(),
  mode: z.enum(['manual', 'recommend', 'auto']),
  actuation: z.enum(['desired', 'floor']),
  planning: z.enum(['target', 'risk']),
  max_utilization: percent,
  tolerated_risk: z.number().min(0.001).max(0.5),
  shortage_price: z.number().min(1).max(999).nullable(),
  scale_up_paused_until: timestampSchema.nullable(),
  scale_down_paused_until: timestampSchema.nullable(),
};

export const createResourceBody = z
  .strictObject({
    name: z.string().min(1).max(255),
    resource_type: z.enum(['ec2', 'kubernetes']),
    cloud_provider: z.enum(['aws', 'kubernetes']),
    region: regionName.nullable().default(null),
    cluster: clusterName.nullable().default(null),
    ...z.object(policyFields).partial().shape,
    min_instances: policyFields.min_instances,
    max_instances: policyFields.max_instances,
    current_instances: instancesSchema,
    target_cpu: percent.default(70),
    target_memory: percent.default(80),
    cooldown_period: policyFields.cooldown_period.default(300),
    instance_type: z.string().min(1).max(64).nullable().optional(),
  })
  .superRefine((body, context) => {
    const refuse = (path: string, message: string) =>
      context.addIssue({ code: 'custom', path: [path], message });
    if ((body.resource_type === 'ec2') !== (body.cloud_provider === 'aws'))
      refuse('cloud_provider', 'must be aws for ec2 and kubernetes for kubernetes');
    if (body.min_instances > body.max_instances)
      refuse('max_instances', 'must not be less than min_instances');
    if (body.cloud_provider === 'aws' && !autoScalingGroupNamePattern.test(body.name))
      refuse('name', "must be an Auto Scaling group's name: printable ASCII without a colon");
    if (body.cloud_provider === 'kubernetes' && !kubernetesNamePattern.test(body.name))
      refuse('name', 'must be deployment:namespace/name or statefulset:namespace/name');
    if (body.cloud_provider === 'aws' && body.cluster !== null)
      refuse('cluster', 'is for Kubernetes: use region');
    if (body.cloud_provider === 'kubernetes' && body.region !== null)
      refuse('region', 'is for AWS: use cluster');
  });

export const patchResourceBody = z.strictObject(policyFields).partial();
export const resourcesQuery = z.strictObject({ limit: limitSchema, cursor: cursorSchema });

export const resourceSchema = z
  .looseObject({ id: z.uuid(), name: z.string(), version: z.int() })
  .meta({ id: 'Resource' });
export const resourcePageSchema = pageSchema('resources', resourceSchema);

/** Percent; may exceed 100, where usage is measured against a Kubernetes request. */
const usage = z.number().min(0).max(10_000).nullable();
const requests = z.number().min(0).max(1e12).nullable();

/** The instance size at the time, where it differs from the resource's present one: demand is converted by it. */
const instanceFields = {
  instance_type: z.string().min(1).max(64).nullable().default(null),
  cpu_request: z.number().positive().max(100_000).nullable().default(null).describe('vCPU per replica'),
  memory_request: z.number().positive().max(1_000_000).nullable().default(null).describe('GiB per replica'),
};

export const sampleSchema = z
  .strictObject({
    timestamp: timestampSchema,
    cpu: usage.default(null),
    memory: usage.default(null),
    requests: requests.default(null).describe('per second, of the whole resource'),
    requests_total: z
      .number()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .nullable()
      .default(null)
      .describe('in place of requests: a counter that only rises, and may begin anew'),
    instances: instancesSchema.nullable().default(null),
    ...instanceFields,
  })
  .refine(
    ({ cpu, memory, requests, requests_total }) =>
      cpu !== null || memory !== null || requests !== null || requests_total !== null,
    'needs cpu, memory, requests or requests_total',
  );
export const predictionSchema = z
  .strictObject({
    timestamp: timestampSchema,
    predicted_cpu: usage.default(null),
    predicted_memory: usage.default(null),
    predicted_requests: requests.default(null),
    confidence: z.number().min(0).max(1).nullable().default(null),
    model_version: z.string().max(100).nullable().default(null),
    instances: instancesSchema.nullable().default(null),
    ...instanceFields,
  })
  .refine(
    (row) => row.predicted_cpu !== null || row.predicted_memory !== null || row.predicted_requests !== null,
    'needs predicted_cpu, predicted_memory or predicted_requests',
  );

const batchSize = 10_000;
export const samplesBody = z.union([
  sampleSchema,
  z.strictObject({ samples: z.array(sampleSchema).min(1).max(batchSize) }),
]);
export const samplesOfManyBody = z.strictObject({
  samples: z
    .array(sampleSchema.safeExtend({ resource_id: idSchema }))
    .min(1)
    .max(batchSize),
});
export const predictionsBody = z.union([
  predictionSchema,
  z.strictObject({ predictions: z.array(predictionSchema).min(1).max(batchSize) }),
]);
export const rangeQuery = z.strictObject({
  from: timestampSchema.optional(),
  to: timestampSchema.optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(1_000),
});

export const sampleListSchema = listSchema('samples', z.unknown());
export const predictionListSchema = listSchema('predictions', z.unknown());
export const upsertedSchema = z.object({ inserted: z.int(), updated: z.int() });
