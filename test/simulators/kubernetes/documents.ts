import type { Answer } from '../core/answer.ts';
import { jsonAnswer } from './answer.ts';
import {
  aggregatedDiscovery,
  apiGroup,
  apiGroupList,
  apiResourceList,
  coreVersions,
  SERVER_VERSION,
} from './discovery.ts';
import type { Exchange } from './exchange.ts';
import type { JsonObject } from './json.ts';
import { negotiateDiscovery } from './media-types.ts';
import { openApiDocument, openApiEtag, openApiIndex } from './openapi.ts';
import type { Simulation } from './simulation.ts';

const HEALTH_PATHS = ['/readyz', '/livez', '/healthz'];

/** What the anonymous user may read on a real cluster too. */
export function isPublicPath(path: string): boolean {
  return path === '/version' || HEALTH_PATHS.includes(path);
}

/** Everything that is GET and no resource: versions, health, discovery, OpenAPI. */
export function answerDocument(exchange: Exchange): Answer | undefined {
  const { url, request, simulation } = exchange;
  if (request.method !== 'GET' && request.method !== 'HEAD') return undefined;
  const path = url.pathname.replace(/(.)\/$/, '$1');
  if (HEALTH_PATHS.includes(path)) {
    return { status: 200, body: 'ok', contentType: 'text/plain; charset=utf-8', outcome: '200' };
  }
  if (path === '/api' || path === '/apis') {
    return discoveryRoot(path === '/api' ? 'api' : 'apis', request.headers.accept, simulation);
  }
  if (path.startsWith('/openapi/v3/')) return openApiV3(path.slice('/openapi/v3/'.length), exchange);
  const group = /^\/apis\/([^/]+)/.exec(path)?.[1] ?? '';
  if (simulation.missingGroups.has(group)) return undefined;
  const document = plainDocument(path);
  return document === undefined ? undefined : jsonAnswer(200, document);
}

function plainDocument(path: string): JsonObject | undefined {
  const [, root, first = '', second, ...rest] = path.split('/');
  if (path === '/version') return SERVER_VERSION;
  if (path === '/openapi/v3') return openApiIndex();
  if (rest.length > 0) return undefined;
  if (root === 'api' && second === undefined) return apiResourceList('', first);
  if (root !== 'apis') return undefined;
  if (second !== undefined) return apiResourceList(first, second);
  const group = apiGroup(first);
  return group === undefined ? undefined : { kind: 'APIGroup', apiVersion: 'v1', ...group };
}

function discoveryRoot(
  root: 'api' | 'apis',
  accept: string | undefined,
  { address, missingGroups }: Simulation,
): Answer {
  const version = negotiateDiscovery(accept);
  if (version === undefined) {
    return jsonAnswer(200, root === 'api' ? coreVersions(address()) : apiGroupList(missingGroups));
  }
  const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
  return jsonAnswer(200, aggregatedDiscovery(root, version, missingGroups), contentType);
}

function openApiV3(path: string, { request }: Exchange): Answer | undefined {
  const document = openApiDocument(path);
  if (document === undefined) return undefined;
  const headers = { etag: openApiEtag() };
  if (request.headers['if-none-match'] === openApiEtag()) {
    return { status: 304, body: '', contentType: 'application/json', outcome: '304', headers };
  }
  return { ...jsonAnswer(200, document), headers };
}
