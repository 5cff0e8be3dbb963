import { defaulted } from './admission.ts';
import { type ApiAnswer, type ApiCall, present } from './api-call.ts';
import { ApiError, badRequest, conflict, notFound } from './api-status.ts';
import { asObject, isArray, type JsonObject, type KubernetesObject, stringAt, without } from './json.ts';
import { applyConfiguration } from './managed-fields.ts';
import { createObject, identity, managerOf, storable, storeChange } from './object-writes.ts';
import { refuseForeignBody, refuseOtherName } from './request-bodies.ts';
import { refuseNegativeScale, refuseUnreadableScale, replicasOf, scaleOf } from './scale.ts';

/** PATCH with an apply configuration: makes the object, or lays the configuration over it field by field. */
export function apply(call: ApiCall, sent: JsonObject): ApiAnswer {
  const { resource, version, namespace, subresource } = call.target;
  const name = call.target.name ?? '';
  refuseBadConfiguration(call, sent);
  const config = { ...sent, metadata: { name, ...asObject(sent.metadata) } };
  refuseOtherName(config, name, namespace);
  if (subresource === null) refuseForeignBody(call, config);
  const before = call.store.get(resource, namespace, name);
  if (before === undefined) {
    if (subresource !== null) throw notFound(resource, name);
    const object = createApplied(call, config);
    return { kind: 'object', status: 201, resource, object: present(resource, version, object) };
  }
  const sentVersion = stringAt(config, 'metadata.resourceVersion');
  if (sentVersion !== '' && sentVersion !== before.metadata.resourceVersion) throw conflict(resource, name);
  const after = storeChange(call, before, overlaid(call, before, config));
  if (subresource === 'scale') return { kind: 'plain', status: 200, body: scaleOf(after) };
  return { kind: 'object', status: 200, resource, object: present(resource, version, after) };
}

function refuseBadConfiguration(call: ApiCall, config: JsonObject): void {
  if ((call.query.get('fieldManager') ?? '') === '') {
    const why = 'fieldManager: Required value: is required for apply patch';
    throw new ApiError(422, 'Invalid', `PatchOptions.meta.k8s.io "" is invalid: ${why}`);
  }
  if (stringAt(config, 'apiVersion') === '' || stringAt(config, 'kind') === '') {
    throw badRequest("error decoding YAML: Object 'Kind' is missing");
  }
  if (isArray(asObject(config.metadata).managedFields)) {
    throw badRequest('metadata.managedFields must be nil');
  }
}

function isForced(call: ApiCall): boolean {
  return call.query.get('force') === 'true';
}

function createApplied(call: ApiCall, config: JsonObject): KubernetesObject {
  return createObject(call, config, (draft) => {
    const owned = applyConfiguration(without(draft, 'spec'), config, managerOf(call), isForced(call));
    const { managedFields } = asObject(owned.metadata);
    return { ...draft, metadata: { ...draft.metadata, managedFields } };
  });
}

function overlaid(call: ApiCall, before: KubernetesObject, config: JsonObject): KubernetesObject {
  const applied = applyConfiguration(before, scoped(call, before, config), managerOf(call), isForced(call));
  const filled = call.target.subresource === null ? defaulted(call.target.resource, applied) : applied;
  const { apiVersion, kind, metadata } = before;
  return { ...filled, apiVersion, kind, metadata: { ...asObject(applied.metadata), ...identity(metadata) } };
}

/** The part of a configuration that the addressed subresource may change. */
function scoped(call: ApiCall, before: KubernetesObject, config: JsonObject): JsonObject {
  const { resource, version, subresource } = call.target;
  switch (subresource) {
    case 'scale':
      refuseUnreadableScale(config);
      refuseNegativeScale(config, before.metadata.name);
      return { spec: { replicas: replicasOf(config) } };
    case 'status':
      return { status: config.status };
    default:
      return storable(resource, version, without(config, 'status'), before);
  }
}
