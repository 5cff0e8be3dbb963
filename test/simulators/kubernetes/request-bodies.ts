import { type ApiCall, requestedApiVersion } from './api-call.ts';
import { badRequest, unsupportedMediaType } from './api-status.ts';
import { isObject, type Json, type JsonObject, stringAt } from './json.ts';
import { parseJsonBody } from './patches.ts';
import { decodeProtobufBody, PROTOBUF_TYPE } from './protobuf.ts';

export function bodyObject(call: ApiCall, kind: string): JsonObject {
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

export function patchBody(call: ApiCall): Json {
  try {
    return JSON.parse(call.body.toString('utf8')) as Json;
  } catch (error) {
    throw badRequest(`error decoding patch: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export function refuseOtherName(sent: JsonObject, name: string, namespace: string | null): void {
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

export function refuseForeignBody(call: ApiCall, sent: JsonObject): void {
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
