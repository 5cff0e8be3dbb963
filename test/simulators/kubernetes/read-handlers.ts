import { type ApiAnswer, type ApiCall, present, requestedApiVersion } from './api-call.ts';
import { ApiError, badRequest, expired, notFound } from './api-status.ts';
import { asNumber, asString, isObject, type JsonObject, type KubernetesObject } from './json.ts';
import { scaleOf } from './scale.ts';
import { matcherFrom } from './selectors.ts';

export function get(call: ApiCall): ApiAnswer {
  const { resource, version, namespace, subresource } = call.target;
  const name = call.target.name ?? '';
  const object = call.reader.get(resource, namespace, name);
  if (object === undefined) throw notFound(resource, name);
  if (subresource === 'scale') return { kind: 'plain', status: 200, body: scaleOf(object) };
  return { kind: 'object', status: 200, resource, object: present(resource, version, object) };
}

export function list(call: ApiCall): ApiAnswer {
  const { resource, version, namespace } = call.target;
  const matches = matcherFrom(resource, call.query);
  const page = pageOf(call);
  const all = call.reader.list(resource, namespace).filter(matches);
  const start = page.after === '' ? 0 : all.findIndex((object) => orderKey(object) > page.after);
  const from = start < 0 ? all.length : start;
  const items = all.slice(from, page.limit > 0 ? from + page.limit : undefined);
  const remaining = all.length - from - items.length;
  const last = items.at(-1);
  const metadata: JsonObject = {
    resourceVersion: String(page.resourceVersion),
    ...(remaining > 0 && last !== undefined
      ? { continue: continueToken(page.resourceVersion, orderKey(last)), remainingItemCount: remaining }
      : {}),
  };
  return {
    kind: 'list',
    resource,
    apiVersion: requestedApiVersion(call.target),
    items: items.map((object) => present(resource, version, object)),
    metadata,
  };
}

function orderKey(object: KubernetesObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

interface Page {
  readonly limit: number;
  /** The last page's last key. */
  readonly after: string;
  readonly resourceVersion: number;
}

function pageOf({ query, store, target }: ApiCall): Page {
  const limit = Number(query.get('limit') ?? 0);
  const token = query.get('continue') ?? '';
  if (token === '') return { limit, after: '', resourceVersion: store.resourceVersion() };
  const page = parseContinueToken(token);
  const oldest = store.oldestResourceVersion(target.resource);
  if (page.resourceVersion < oldest) throw expired(page.resourceVersion, oldest);
  return { limit, ...page };
}

function continueToken(resourceVersion: number, after: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: resourceVersion, start: after })).toString(
    'base64url',
  );
}

function parseContinueToken(token: string): { resourceVersion: number; after: string } {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (isObject(parsed)) return { resourceVersion: asNumber(parsed.rv), after: asString(parsed.start) };
  } catch (error) {
    if (error instanceof ApiError) throw error;
  }
  throw badRequest('continue key is not valid: illegal base64 data');
}
