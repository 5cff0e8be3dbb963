import type { Answer } from '../core/answer.ts';
import { attemptOf, authenticate, isAllowed, reviewAccess, type TokenGrant } from './access.ts';
import { asApiError, errorAnswer, jsonAnswer } from './answer.ts';
import type { ApiAnswer, ApiCall } from './api-call.ts';
import { SELF_SUBJECT_ACCESS_REVIEWS, SELF_SUBJECT_RULES_REVIEWS } from './api-resources.ts';
import { forbidden, forbiddenPath, methodNotAllowed, pageNotFound } from './api-status.ts';
import { answerDocument, isPublicPath } from './documents.ts';
import { type Exchange, isResource } from './exchange.ts';
import type { JsonObject } from './json.ts';
import { negotiateShape } from './media-types.ts';
import type { ObjectReader } from './object-store.ts';
import { get, list } from './read-handlers.ts';
import type { ResourceRequest } from './request-info.ts';
import { matcherFrom } from './selectors.ts';
import { recordApplied } from './simulation.ts';
import { metadataOnly, tableOf } from './table.ts';
import { create, patch, remove, removeCollection, update } from './write-handlers.ts';

/** Carries a request out. Its changes are applied when this returns; what it throws becomes an answer. */
export function perform(exchange: Exchange, reader?: ObjectReader): Answer {
  const { simulation, target } = exchange;
  try {
    simulation.clock.runDue();
    const grant = authorize(exchange);
    if (target === 'method-not-allowed') throw methodNotAllowed();
    if (!isResource(target)) {
      const answer = answerDocument(exchange);
      if (answer === undefined) throw pageNotFound();
      return answer;
    }
    const shape = negotiateShape(exchange.request.headers.accept);
    return encode(exchange, handle(callFrom(exchange, target, reader), grant), shape);
  } catch (error) {
    return errorAnswer(asApiError(error));
  }
}

/** Throws 401 or 403; answers who it is. */
export function authorize({ simulation, request, target, url }: Exchange): TokenGrant {
  const grant = authenticate(simulation.tokens, request.headers.authorization);
  if (isResource(target)) {
    if (isAllowed(grant, attemptOf(target))) return grant;
    const { verb, resource, subresource, namespace, name } = target;
    throw forbidden({ user: grant.user, verb, resource, subresource, namespace, name });
  }
  const anonymous = grant.user === 'system:anonymous' && simulation.tokens.size > 0;
  if (anonymous && !isPublicPath(url.pathname)) throw forbiddenPath(grant.user, 'get', url.pathname);
  return grant;
}

export function userOf(
  exchange: Exchange['request'],
  tokens: ReadonlyMap<string, TokenGrant>,
): string | null {
  try {
    return authenticate(tokens, exchange.headers.authorization).user;
  } catch {
    return null;
  }
}

export function callFrom(exchange: Exchange, target: ResourceRequest, reader?: ObjectReader): ApiCall {
  const { simulation, url, body, contentType, requester } = exchange;
  return {
    target,
    query: url.searchParams,
    body,
    contentType,
    userAgent: requester.userAgent ?? '',
    reader: reader ?? simulation.store,
    store: simulation.store,
    applied: ({ resource, before, after }) => recordApplied(simulation, requester, resource, before, after),
  };
}

function handle(call: ApiCall, grant: TokenGrant): ApiAnswer {
  const { verb, resource } = call.target;
  switch (verb) {
    case 'get':
      return get(call);
    case 'list':
      return list(call);
    case 'create':
      return resource === SELF_SUBJECT_ACCESS_REVIEWS || resource === SELF_SUBJECT_RULES_REVIEWS
        ? reviewAccess(call, grant)
        : create(call);
    case 'update':
      return update(call);
    case 'patch':
      return patch(call);
    case 'delete':
      return remove(call);
    case 'deletecollection':
      return removeCollection(call, matcherFrom(resource, call.query));
    case 'watch':
      throw methodNotAllowed(); // watches are streamed, and never come here
  }
}

function encode(exchange: Exchange, answer: ApiAnswer, shape: ReturnType<typeof negotiateShape>): Answer {
  if (answer.kind === 'plain') return jsonAnswer(answer.status, answer.body);
  if (answer.kind === 'object') {
    const { object, resource, status } = answer;
    if (shape === 'object') return jsonAnswer(status, object);
    if (shape === 'metadata') return jsonAnswer(status, metadataOnly(object));
    const { resourceVersion } = object.metadata;
    return jsonAnswer(status, tableFor(exchange, resource, [object], { resourceVersion }));
  }
  const { resource, items, metadata, apiVersion } = answer;
  if (shape === 'table') return jsonAnswer(200, tableFor(exchange, resource, items, metadata));
  if (shape === 'metadata') {
    const list = { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1' };
    return jsonAnswer(200, { ...list, metadata, items: items.map(metadataOnly) });
  }
  return jsonAnswer(200, { kind: `${resource.kind}List`, apiVersion, metadata, items });
}

function tableFor(
  { simulation, url }: Exchange,
  resource: ResourceRequest['resource'],
  items: Parameters<typeof tableOf>[0]['items'],
  metadata: JsonObject,
): JsonObject {
  const includeObject = url.searchParams.get('includeObject') ?? 'Metadata';
  return tableOf({ resource, items, metadata, includeObject, now: simulation.clock.now() });
}
