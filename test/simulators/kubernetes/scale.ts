import { type ApiResource, qualifiedName } from './api-resources.ts';
import { ApiError, badRequest, invalid } from './api-status.ts';
import { asObject, type Json, type JsonObject, type KubernetesObject, numberAt, valueAt } from './json.ts';
import { selectorString } from './selectors.ts';

export const SCALE = { group: 'autoscaling', kind: 'Scale' } as const;

/** The autoscaling/v1 Scale of a workload; its uid and resourceVersion are the workload's. */
export function scaleOf(workload: KubernetesObject): KubernetesObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = workload.metadata;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
      resourceVersion,
      creationTimestamp,
    },
    spec: { replicas: numberAt(workload, 'spec.replicas') },
    status: {
      replicas: numberAt(workload, 'status.replicas'),
      selector: selectorString(asObject(workload.spec).selector),
    },
  };
}

/** The replicas a Scale asks for. Absent means 0, as in the real server: the field has no default. */
export function replicasOf(scale: JsonObject): number {
  return numberAt(scale, 'spec.replicas');
}

/** Fails while decoding, before the object is even looked for. */
export function refuseUnreadableScale(scale: JsonObject): void {
  const replicas = valueAt(scale, 'spec.replicas');
  if (replicas === undefined || replicas === null || isInt32(replicas)) return;
  throw badRequest(
    'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal ' +
      `${goTypeName(replicas)} into Go struct field ScaleSpec.spec.replicas of type int32`,
  );
}

export function refuseNegativeScale(scale: JsonObject, name: string): void {
  const replicas = replicasOf(scale);
  if (replicas >= 0) return;
  const message = `Invalid value: ${replicas}: must be greater than or equal to 0`;
  throw invalid(SCALE, name, [{ reason: 'FieldValueInvalid', message, field: 'spec.replicas' }]);
}

export function isInt32(value: Json | undefined): value is number {
  return Number.isInteger(value) && Math.abs(value as number) <= 2 ** 31 - 1;
}

/** How Go's JSON decoder names what it could not store. */
export function goTypeName(value: Json): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return `number ${value}`;
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

/** A patch that changes the uid meets the scale handler's own check, worded unlike storage's. */
export function scaleUidConflict(resource: ApiResource, name: string, sent: string, uid: string): ApiError {
  const what = qualifiedName(resource).replace(resource.plural, `${resource.plural}/scale`);
  const why = `Precondition failed: UID in precondition: ${sent}, UID in object meta: ${uid}`;
  return new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${what} "${name}": ${why}`, {
    details: { name, group: resource.group, kind: `${resource.plural}/scale` },
  });
}

/** What the ledger calls capacity: replicas, or the floor an autoscaler keeps. */
export function capacityOf(resource: ApiResource, object: Json | undefined): number | null {
  const capacity = valueAt(object, `spec.${CAPACITY_FIELDS[resource.kind] ?? ''}`);
  return typeof capacity === 'number' ? capacity : null;
}

const CAPACITY_FIELDS: Readonly<Record<string, string>> = {
  Deployment: 'replicas',
  StatefulSet: 'replicas',
  ReplicaSet: 'replicas',
  HorizontalPodAutoscaler: 'minReplicas',
  ScaledObject: 'minReplicaCount',
};
