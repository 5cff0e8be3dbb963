import { invalidValue } from './admission.ts';
import { type ApiAnswer, type ApiCall, isDryRun, present, requestedApiVersion } from './api-call.ts';
import { NAMESPACES } from './api-resources.ts';
import { conflict, invalid, notFound, uidConflict, unsupportedMediaType } from './api-status.ts';
import { asObject, isArray, type Json, type JsonObject, type KubernetesObject, stringAt } from './json.ts';
import { trackUpdate } from './managed-fields.ts';
import { createObject, existing, managerOf, replace } from './object-writes.ts';
import { jsonPatch, mergePatch, parseJsonBody, strategicMergePatch } from './patches.ts';
import { bodyObject, patchBody, refuseForeignBody, refuseOtherName } from './request-bodies.ts';
import { refuseUnreadableScale, scaleOf, scaleUidConflict } from './scale.ts';
import { apply } from './server-side-apply.ts';

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
  if (subresource === 'scale') refuseUnreadableScale(sent);
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
  if (!isDryRun(call) && !asksForDryRun(options)) {
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

function asksForDryRun(options: JsonObject): boolean {
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

function named(call: ApiCall, sent: JsonObject): JsonObject {
  const prefix = stringAt(sent, 'metadata.generateName');
  if (prefix === '' || stringAt(sent, 'metadata.name') !== '') return sent;
  const suffix = call.store.newUid().slice(0, 5);
  return { ...sent, metadata: { ...asObject(sent.metadata), name: `${prefix}${suffix}` } };
}
