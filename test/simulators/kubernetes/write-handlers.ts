import { defaulted, invalidValue, refuseWrongTypes, violations } from './admission.ts';
import {
  type ApiAnswer,
  type ApiCall,
  fieldManagerOf,
  isDryRun,
  present,
  requestedApiVersion,
} from './api-call.ts';
import {
  type ApiResource,
  HORIZONTAL_POD_AUTOSCALERS,
  NAMESPACES,
  storedApiVersion,
} from './api-resources.ts';
import {
  ApiError,
  alreadyExists,
  badRequest,
  conflict,
  invalid,
  notFound,
  uidConflict,
  unsupportedMediaType,
} from './api-status.ts';
import { fromAutoscalingV1 } from './hpa-versions.ts';
import {
  asObject,
  deepEqual,
  isArray,
  isObject,
  type Json,
  type JsonObject,
  type KubernetesObject,
  type ObjectMeta,
  stringAt,
  without,
} from './json.ts';
import { applyConfiguration, type FieldManager, trackUpdate } from './managed-fields.ts';
import { jsonPatch, mergePatch, parseJsonBody, strategicMergePatch } from './patches.ts';
import { decodeProtobufBody, PROTOBUF_TYPE } from './protobuf.ts';
import { replicasFromScale, scaleOf, scaleUidConflict } from './scale.ts';

export function create(call: ApiCall): ApiAnswer {
  const { resource, version, namespace } = call.target;
  const sent = named(call, bodyObject(call, resource.kind));
  refuseForeignBody(call, sent);
  if (namespace !== null && call.store.get(NAMESPACES, null, namespace) === undefined) {
    throw notFound(NAMESPACES, namespace);
  }
  const object = createObject(call, sent, (draft) => {
    return {
      ...draft,
      metadata: { ...draft.metadata, managedFields: trackUpdate({}, draft, managerOf(call)) },
    };
  });
  return { kind: 'object', status: 201, resource, object: present(resource, version, object) };
}

export function update(call: ApiCall): ApiAnswer {
  const { resource, namespace, subresource } = call.target;
  const name = call.target.name ?? '';
  const sent = bodyObject(call, subresource === 'scale' ? 'Scale' : resource.kind);
  refuseOtherName(sent, name, namespace);
  const before = existing(call);
  const sentUid = stringAt(sent, 'metadata.uid');
  if (sentUid !== '' && sentUid !== before.metadata.uid) {
    throw uidConflict(resource, { namespace, name, sentUid, uid: before.metadata.uid });
  }
  return replace(call, before, sent);
}

export function patch(call: ApiCall): ApiAnswer {
  const { resource, version, namespace, subresource } = call.target;
  const name = call.target.name ?? '';
  const accepted = resource.custom && subresource === null ? CUSTOM_PATCH_TYPES : PATCH_TYPES;
  if (!accepted.includes(call.contentType)) throw unsupportedMediaType(accepted);
  const body = patchBody(call);
  if (call.contentType === APPLY) return apply(call, asObject(body));

  const before = existing(call);
  const current = subresource === 'scale' ? scaleOf(before) : present(resource, version, before);
  const patched = asObject(applyPatch(call.contentType, current, body));
  refuseOtherName(patched, name, namespace);
  const patchedUid = stringAt(patched, 'metadata.uid');
  if (patchedUid !== before.metadata.uid && patchedUid !== '') {
    if (subresource === 'scale') throw scaleUidConflict(resource, name, patchedUid, before.metadata.uid);
    throw invalid(resource, name, [invalidValue('metadata.uid', patchedUid, 'field is immutable')]);
  }
  return replace(call, before, patched);
}

export function remove(call: ApiCall): ApiAnswer {
  const { resource, namespace } = call.target;
  const before = existing(call);
  const { name, uid, resourceVersion } = before.metadata;
  const options = call.body.length === 0 ? {} : asObject(parseJsonBody(call.body, 'DeleteOptions'));
  const preconditions = asObject(options.preconditions);
  if (preconditions.uid !== undefined && preconditions.uid !== uid) {
    throw uidConflict(resource, { namespace, name, sentUid: String(preconditions.uid), uid });
  }
  if (preconditions.resourceVersion !== undefined && preconditions.resourceVersion !== resourceVersion) {
    const [sent, now] = [String(preconditions.resourceVersion), resourceVersion];
    throw conflict(
      resource,
      name,
      `Precondition failed: ResourceVersion in precondition: ${sent}, ResourceVersion in object meta: ${now}`,
    );
  }
  if (!isDryRun(call) && !asJsonDryRun(options)) {
    call.store.remove(resource, namespace, name);
    call.applied({ resource, before, after: undefined });
  }
  const details = {
    name,
    ...(resource.group === '' ? {} : { group: resource.group }),
    kind: resource.plural,
    uid,
  };
  const body = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
  return { kind: 'plain', status: 200, body };
}

function asJsonDryRun(options: JsonObject): boolean {
  return isArray(options.dryRun) && options.dryRun.includes('All');
}

export function removeCollection(call: ApiCall, matches: (object: KubernetesObject) => boolean): ApiAnswer {
  const { resource, namespace, version } = call.target;
  const doomed = call.store.list(resource, namespace).filter(matches);
  if (!isDryRun(call)) {
    for (const before of doomed) {
      call.store.remove(resource, before.metadata.namespace ?? null, before.metadata.name);
      call.applied({ resource, before, after: undefined });
    }
  }
  return {
    kind: 'list',
    resource,
    apiVersion: requestedApiVersion(call.target),
    items: doomed.map((object) => present(resource, version, object)),
    metadata: { resourceVersion: String(call.store.resourceVersion()) },
  };
}

const APPLY = 'application/apply-patch+yaml';
const PATCH_TYPES: readonly string[] = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  APPLY,
];
const CUSTOM_PATCH_TYPES = PATCH_TYPES.filter((type) => !type.includes('strategic'));

function applyPatch(contentType: string, current: JsonObject, patchJson: Json): Json {
  switch (contentType) {
    case 'application/json-patch+json':
      return jsonPatch(current, patchJson);
    case 'application/merge-patch+json':
      return mergePatch(current, patchJson);
    default:
      return strategicMergePatch(current, patchJson);
  }
}

function patchBody(call: ApiCall): Json {
  try {
    return JSON.parse(call.body.toString('utf8')) as Json;
  } catch (error) {
    throw badRequest(`error decoding patch: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function bodyObject(call: ApiCall, kind: string): JsonObject {
  if (call.contentType === PROTOBUF_TYPE) return decodeProtobufBody(kind, call.body);
  if (call.contentType !== 'application/json' && call.contentType !== '') {
    throw unsupportedMediaType(['application/json', 'application/yaml', PROTOBUF_TYPE]);
  }
  const parsed = parseJsonBody(call.body, kind);
  if (!isObject(parsed)) throw badRequest(`the object provided is unrecognized (must be of type ${kind})`);
  return withoutNulls(parsed);
}

/** To the real server a null is a field that was not sent. */
function withoutNulls(value: JsonObject): JsonObject {
  const entries = Object.entries(value).filter(([, child]) => child !== null && child !== undefined);
  return Object.fromEntries(
    entries.map(([key, child]) => [key, isObject(child) ? withoutNulls(child) : child]),
  );
}

function existing(call: ApiCall): KubernetesObject {
  const { resource, namespace } = call.target;
  const name = call.target.name ?? '';
  const object = call.store.get(resource, namespace, name);
  if (object === undefined) throw notFound(resource, name);
  return object;
}

function managerOf(call: ApiCall): FieldManager {
  return {
    manager: fieldManagerOf(call),
    apiVersion: requestedApiVersion(call.target),
    subresource: call.target.subresource,
    time: call.store.timestamp(),
  };
}

/** The common end of PUT and of every patch but apply: lock, validate, keep what a client may not change, store. */
function replace(call: ApiCall, before: KubernetesObject, sent: JsonObject): ApiAnswer {
  const { resource, version, subresource } = call.target;
  const { name, resourceVersion } = before.metadata;
  const sentVersion = stringAt(sent, 'metadata.resourceVersion');
  if (resource.custom && sentVersion === '' && subresource !== 'scale') {
    throw invalid(resource, name, [
      invalidValue('metadata.resourceVersion', 0, 'must be specified for an update'),
    ]);
  }
  // Validation of a Scale comes before the lock is looked at; of an object, after.
  const replicas = subresource === 'scale' ? replicasFromScale(sent, name) : undefined;
  if (sentVersion !== '' && sentVersion !== resourceVersion) throw conflict(resource, name);

  const candidate =
    replicas === undefined ? candidateFrom(call, before, sent) : withReplicas(before, replicas);
  const managedFields = trackUpdate(before, candidate, managerOf(call));
  const after = store(call, before, { ...candidate, metadata: { ...candidate.metadata, managedFields } });
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
  const converted = converted_(resource, version, sent, before);
  const filled = resource.custom ? converted : defaulted(resource, converted);
  const { apiVersion, kind, metadata, status } = before;
  return {
    ...filled,
    apiVersion,
    kind,
    metadata: { ...asObject(sent.metadata), ...identity(metadata) },
    ...(resource.subresources.includes('status') && status !== undefined ? { status } : {}),
  };
}

function identity({
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

function converted_(
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
function store(call: ApiCall, before: KubernetesObject, candidate: KubernetesObject): KubernetesObject {
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

function createObject(
  call: ApiCall,
  sent: JsonObject,
  owned: (draft: KubernetesObject) => KubernetesObject,
): KubernetesObject {
  const { resource, version, namespace } = call.target;
  const name = stringAt(sent, 'metadata.name');
  const filled = defaulted(resource, converted_(resource, version, without(sent, 'status'), undefined));
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

function named(call: ApiCall, sent: JsonObject): JsonObject {
  const prefix = stringAt(sent, 'metadata.generateName');
  if (prefix === '' || stringAt(sent, 'metadata.name') !== '') return sent;
  const suffix = call.store.newUid().slice(0, 5);
  return { ...sent, metadata: { ...asObject(sent.metadata), name: `${prefix}${suffix}` } };
}

function apply(call: ApiCall, config: JsonObject): ApiAnswer {
  const { resource, version, namespace, subresource } = call.target;
  const name = call.target.name ?? '';
  if ((call.query.get('fieldManager') ?? '') === '') {
    const message =
      'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch';
    throw new ApiError(422, 'Invalid', message);
  }
  if (stringAt(config, 'apiVersion') === '' || stringAt(config, 'kind') === '') {
    throw badRequest("error decoding YAML: Object 'Kind' is missing");
  }
  if (isArray(asObject(config.metadata).managedFields))
    throw badRequest('metadata.managedFields must be nil');
  const named = { ...config, metadata: { ...asObject(config.metadata), name } };
  refuseOtherName({ ...config, metadata: { name, ...asObject(config.metadata) } }, name, namespace);
  const force = call.query.get('force') === 'true';
  const by = { ...managerOf(call) };
  const before = call.store.get(resource, namespace, name);
  if (before === undefined) {
    if (subresource !== null) throw notFound(resource, name);
    refuseForeignBody(call, config);
    const object = createObject(call, named, (draft) => {
      const managed = applyConfiguration(without(draft, 'spec'), named, by, force);
      return {
        ...draft,
        metadata: { ...draft.metadata, managedFields: asObject(managed.metadata).managedFields },
      };
    });
    return { kind: 'object', status: 201, resource, object: present(resource, version, object) };
  }
  const sentVersion = stringAt(config, 'metadata.resourceVersion');
  if (sentVersion !== '' && sentVersion !== before.metadata.resourceVersion) throw conflict(resource, name);
  if (subresource === null) refuseForeignBody(call, config);
  const wanted =
    subresource === 'scale'
      ? { spec: { replicas: replicasFromScale(config, name) } }
      : converted_(
          resource,
          version,
          subresource === 'status' ? { status: config.status } : without(named, 'status'),
          before,
        );
  const applied = applyConfiguration(before, wanted, by, force);
  const filled = subresource === null ? defaulted(resource, applied) : applied;
  const { apiVersion, kind, metadata } = before;
  const candidate: KubernetesObject = {
    ...filled,
    apiVersion,
    kind,
    metadata: { ...asObject(applied.metadata), ...identity(metadata) },
  };
  const after = store(call, before, candidate);
  if (subresource === 'scale') return { kind: 'plain', status: 200, body: scaleOf(after) };
  return { kind: 'object', status: 200, resource, object: present(resource, version, after) };
}

function refuseOtherName(sent: JsonObject, name: string, namespace: string | null): void {
  const sentName = stringAt(sent, 'metadata.name');
  if (sentName !== name) {
    throw badRequest(`the name of the object (${sentName}) does not match the name on the URL (${name})`);
  }
  const sentNamespace = stringAt(sent, 'metadata.namespace');
  if (namespace !== null && sentNamespace !== '' && sentNamespace !== namespace) {
    throw badRequest(
      `the namespace of the object (${sentNamespace}) does not match the namespace on the request (${namespace})`,
    );
  }
}

function refuseForeignBody(call: ApiCall, sent: JsonObject): void {
  const { resource, namespace } = call.target;
  const expected = requestedApiVersion(call.target);
  const [apiVersion, kind] = [stringAt(sent, 'apiVersion', expected), stringAt(sent, 'kind', resource.kind)];
  if (apiVersion !== expected || kind !== resource.kind) {
    throw badRequest(
      `${kind} in version "${apiVersion.split('/').at(-1) ?? ''}" cannot be handled as a ${resource.kind}: ` +
        `no kind "${kind}" is registered for version "${apiVersion}"`,
    );
  }
  const sentNamespace = stringAt(sent, 'metadata.namespace');
  if (namespace !== null && sentNamespace !== '' && sentNamespace !== namespace) {
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  }
}
