import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isArray, type Json, stringAt, valueAt } from './json.ts';
import { baseType } from './media-types.ts';
import {
  actionName,
  type RequestTarget,
  type ResourceRequest,
  resolveTarget,
  resourcePath,
} from './request-info.ts';
import type { Requester, Simulation } from './simulation.ts';

/** One request, read and on its way to an answer. */
export interface Exchange {
  readonly simulation: Simulation;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly body: Buffer;
  readonly contentType: string;
  readonly target: RequestTarget;
  readonly action: string;
  /** The capacity the body asks for, for the ledger. */
  readonly asked: number | null;
  readonly requester: Requester;
}

export function openExchange(
  simulation: Simulation,
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
  user: string | null,
): Exchange {
  const url = new URL(request.url ?? '/', 'http://simulator');
  const method = request.method ?? 'GET';
  const target = installed(simulation, resolveTarget(method, url.pathname, url.searchParams));
  const action = isResource(target) ? actionName(target) : `${method.toLowerCase()} ${url.pathname}`;
  const sent = parseLeniently(body);
  return {
    simulation,
    request,
    response,
    url,
    body,
    contentType: baseType(request.headers['content-type']),
    target,
    action,
    asked: askedCapacity(sent),
    requester: {
      requestId: randomUUID(),
      action,
      verb: isResource(target) ? target.verb : method.toLowerCase(),
      path: `${url.pathname}${url.search}`,
      receivedAt: Date.now(),
      user,
      userAgent: request.headers['user-agent'] ?? null,
      invocationId: headerText(request.headers['audit-id']),
      sentResourceVersion: stringAt(sent, 'metadata.resourceVersion') || null,
    },
  };
}

function installed({ missingGroups }: Simulation, target: RequestTarget): RequestTarget {
  return isResource(target) && missingGroups.has(target.resource.group) ? undefined : target;
}

export function isResource(target: RequestTarget): target is ResourceRequest {
  return target !== undefined && target !== 'method-not-allowed';
}

/** `namespace/name`, for the fault script. */
export function targetName({ target }: Exchange): string | null {
  if (!isResource(target) || target.name === null) return null;
  return target.namespace === null ? target.name : `${target.namespace}/${target.name}`;
}

export function record(exchange: Exchange, event: 'received' | 'answered', outcome: string): void {
  const { simulation, target, requester, asked } = exchange;
  simulation.ledger.append(event, {
    ...requester,
    appliedAt: null,
    virtualAt: simulation.clock.now(),
    resource: isResource(target) ? resourcePath(target.resource, target.subresource) : null,
    namespace: isResource(target) ? target.namespace : null,
    name: isResource(target) ? target.name : null,
    uid: null,
    resourceVersion: null,
    from: null,
    to: asked,
    outcome,
  });
}

function askedCapacity(sent: Json | undefined): number | null {
  const fields = ['spec.replicas', 'spec.minReplicas', 'spec.minReplicaCount'];
  const direct = fields.map((field) => valueAt(sent, field)).find((value) => typeof value === 'number');
  if (typeof direct === 'number') return direct;
  if (!isArray(sent)) return null;
  const operation = sent.findLast((each) => stringAt(each, 'path') === '/spec/replicas');
  const value = valueAt(operation, 'value');
  return typeof value === 'number' ? value : null;
}

/** For the ledger only: what does not parse is refused later, in the handler. */
function parseLeniently(body: Buffer): Json | undefined {
  if (body.length === 0) return undefined;
  try {
    return JSON.parse(body.toString('utf8')) as Json;
  } catch {
    return undefined;
  }
}

function headerText(header: string | string[] | undefined): string | null {
  return header === undefined ? null : String(header);
}
