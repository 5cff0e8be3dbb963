import { defaulted, invalidValue, refuseWrongTypes, violations } from './admission.ts';
import {
  type ApiAnswer,
  type ApiCall,
  fieldManagerOf,
  isDryRun,
  present,
  requestedApiVersion,
} from './api-call.ts';
import { type ApiResource, HORIZONTAL_POD_AUTOSCALERS, storedApiVersion } from './api-resources.ts';
import { alreadyExists, conflict, invalid, notFound } from './api-status.ts';
import { fromAutoscalingV1 } from './hpa-versions.ts';
import {
  asObject,
  deepEqual,
  type Json,
  type JsonObject,
  type KubernetesObject,
  type ObjectMeta,
  stringAt,
  without,
} from './json.ts';
import { type FieldManager, trackUpdate } from './managed-fields.ts';
import { refuseForeignBody } from './request-bodies.ts';
import { refuseNegativeScale, refuseUnreadableScale, replicasOf, scaleOf } from './scale.ts';

export function existing(call: ApiCall): KubernetesObject {
  const { resource, namespace } = call.target;
  const name = call.target.name ?? '';
  const object = call.store.get(resource, namespace, name);
  if (object === undefined) throw notFound(resource, name);
  return object;
}

export function managerOf(call: ApiCall): FieldManager {
  return {
    manager: fieldManagerOf(call),
    apiVersion: requestedApiVersion(call.target),
    subresource: call.target.subresource,
    time: call.store.timestamp(),
  };
}

/** The common end of PUT and of every patch but apply: lock, validate, keep what a client may not change, store. */
export function replace(call: ApiCall, before: KubernetesObject, sent: JsonObject): ApiAnswer {
  const { resource, version, subresource } = call.target;
  const { name, resourceVersion } = before.metadata;
  const sentVersion = stringAt(sent, 'metadata.resourceVersion');
  if (resource.custom && sentVersion === '' && subresource !== 'scale') {
    throw invalid(resource, name, [
      invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
    ]);
  }
  // A Scale is validated before the lock is looked at; an object, after.
  if (subresource === 'scale') {
    refuseUnreadableScale(sent);
    refuseNegativeScale(sent, name);
  }
  if (sentVersion !== '' && sentVersion !== resourceVersion) throw conflict(resource, name);

  const candidate =
    subresource === 'scale' ? withReplicas(before, replicasOf(sent)) : candidateFrom(call, before, sent);
  const managedFields = trackUpdate(before, candidate, managerOf(call));
  const after = storeChange(call, before, {
    ...candidate,
    metadata: { ...candidate.metadata, managedFields },
  });
  if (subresource === 'scale') return { kind: 'plain', status: 200, body: scaleOf(after) };
  return { kind: 'object', status: 200, resource, object: present(resource, version, after) };
}

function withReplicas(before: KubernetesObject, replicas: number): KubernetesObject {
  return { ...before, spec: { ...asObject(before.spec), replicas } };
}

function candidateFrom(call: ApiCall, before: KubernetesObject, sent: JsonObject): KubernetesObject {
  const { resource, version, subresource } = call.target;
  refuseForeignBody(call, sent);
  if (subresource === 'status') return { ...before, status: asObject(sent.status) };
  const converted = storable(resource, version, sent, before);
  const filled = resource.custom ? converted : defaulted(resource, converted);
  const { apiVersion, kind, metadata, status } = before;
  const hasStatus = resource.subresources.includes('status');
  return {
    ...(hasStatus ? without(filled, 'status') : filled),
    apiVersion,
    kind,
    metadata: { ...asObject(sent.metadata), ...identity(metadata) },
    ...(hasStatus && status !== undefined ? { status } : {}),
  };
}

export function identity({
  name,
  namespace,
  uid,
  resourceVersion,
  generation,
  creationTimestamp,
}: ObjectMeta): ObjectMeta {
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    uid,
    resourceVersion,
    ...(generation === undefined ? {} : { generation }),
    creationTimestamp,
  };
}

export function storable(
  resource: ApiResource,
  version: string,
  sent: JsonObject,
  before: KubernetesObject | undefined,
): JsonObject {
  refuseWrongTypes(resource, version, sent);
  const isV1 = resource === HORIZONTAL_POD_AUTOSCALERS && version === 'v1';
  return isV1 ? fromAutoscalingV1(sent, before) : sent;
}

/** A write that changes nothing is answered like any other but moves no resourceVersion. */
export function storeChange(
  call: ApiCall,
  before: KubernetesObject,
  candidate: KubernetesObject,
): KubernetesObject {
  const { resource } = call.target;
  const causes = violations(resource, candidate, before);
  if (causes.length > 0) throw invalid(resource, before.metadata.name, causes);
  const specChanged = !deepEqual(before.spec, candidate.spec);
  const generation = before.metadata.generation;
  const after: KubernetesObject =
    specChanged && generation !== undefined
      ? { ...candidate, metadata: { ...candidate.metadata, generation: generation + 1 } }
      : candidate;
  if (isDryRun(call)) return after;
  const unchanged = deepEqual(comparable(before), comparable(after));
  const stored = unchanged ? before : call.store.put(resource, after);
  call.applied({ resource, before, after: stored });
  return stored;
}

function comparable(object: KubernetesObject): JsonObject {
  const managers = JSON.stringify(object.metadata.managedFields ?? [], (key, value) =>
    key === 'time' ? undefined : (value as Json),
  );
  return { ...object, metadata: { ...without(object.metadata, 'resourceVersion'), managedFields: managers } };
}

export function createObject(
  call: ApiCall,
  sent: JsonObject,
  owned: (draft: KubernetesObject) => KubernetesObject,
): KubernetesObject {
  const { resource, version, namespace } = call.target;
  const name = stringAt(sent, 'metadata.name');
  const filled = defaulted(resource, storable(resource, version, without(sent, 'status'), undefined));
  const metadata = without(
    asObject(sent.metadata),
    'resourceVersion',
    'selfLink',
    'managedFields',
    'generation',
  );
  const draft: KubernetesObject = {
    ...filled,
    apiVersion: storedApiVersion(resource),
    kind: resource.kind,
    metadata: {
      ...metadata,
      name,
      ...(namespace === null ? {} : { namespace }),
      uid: call.store.newUid(),
      resourceVersion: '',
      ...(filled.spec === undefined ? {} : { generation: 1 }),
      creationTimestamp: call.store.timestamp(),
    },
    ...(resource.subresources.includes('status') ? { status: {} } : {}),
  };
  const causes = name === '' ? [NAME_REQUIRED] : violations(resource, draft, undefined);
  if (causes.length > 0) throw invalid(resource, name, causes);
  if (call.store.get(resource, namespace, name) !== undefined) throw alreadyExists(resource, name);
  const complete = owned(draft);
  if (isDryRun(call)) return complete;
  const stored = call.store.put(resource, complete);
  call.applied({ resource, before: undefined, after: stored });
  return stored;
}

const NAME_REQUIRED = {
  reason: 'FieldValueRequired',
  message: 'Required value: name or generateName is required',
  field: 'metadata.name',
};
