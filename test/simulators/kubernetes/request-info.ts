import { type ApiResource, findResource, type Subresource, type Verb } from './api-resources.ts';

/** What a URL and method ask for, in the words access rules, faults and the ledger use. */
export interface ResourceRequest {
  readonly verb: Verb;
  readonly resource: ApiResource;
  readonly version: string;
  readonly namespace: string | null;
  readonly name: string | null;
  readonly subresource: Subresource | null;
}

/** `undefined` is no resource at all (discovery or an unknown path); the third case is a wrong method. */
export type RequestTarget = ResourceRequest | 'method-not-allowed' | undefined;

export function resolveTarget(method: string, path: string, query: URLSearchParams): RequestTarget {
  const segments = path.split('/').filter((segment) => segment !== '');
  const located = locate(segments.map(decodeSegment));
  if (located === undefined) return undefined;
  const { resource, subresource, name } = located;
  const verb = verbOf(method, name, query);
  if (verb === undefined) return 'method-not-allowed';
  const allowed = subresource === null ? resource.verbs.includes(verb) : SUBRESOURCE_VERBS.includes(verb);
  return allowed ? { ...located, verb } : 'method-not-allowed';
}

const SUBRESOURCE_VERBS: readonly Verb[] = ['get', 'update', 'patch'];

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

type Location = Omit<ResourceRequest, 'verb'>;

function locate(segments: readonly string[]): Location | undefined {
  const [root, ...rest] = segments;
  if (root === 'api') return locateInGroup('', rest);
  if (root === 'apis') return locateInGroup(rest[0] ?? '', rest.slice(1));
  return undefined;
}

function locateInGroup(group: string, [version, ...rest]: readonly string[]): Location | undefined {
  if (version === undefined || rest[0] === undefined) return undefined;
  // `namespaces/x` is the namespace itself; `namespaces/x/pods` is what lives in it.
  const scoped = rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status';
  const namespace = scoped ? (rest[1] ?? null) : null;
  const [plural = '', name = null, subresource = null, ...beyond] = scoped ? rest.slice(2) : rest;
  const resource = findResource(group, version, plural);
  if (resource === undefined || beyond.length > 0) return undefined;
  if (resource.namespaced && namespace === null && name !== null) return undefined;
  if (!resource.namespaced && namespace !== null) return undefined;
  const known = resource.subresources.find((each) => each === subresource) ?? null;
  if (subresource !== null && known === null) return undefined;
  return { resource, version, namespace, name, subresource: known };
}

function verbOf(method: string, name: string | null, query: URLSearchParams): Verb | undefined {
  switch (method) {
    case 'GET':
    case 'HEAD':
      if (isTrue(query.get('watch'))) return 'watch';
      return name === null ? 'list' : 'get';
    case 'POST':
      return name === null ? 'create' : undefined;
    case 'PUT':
      return name === null ? undefined : 'update';
    case 'PATCH':
      return name === null ? undefined : 'patch';
    case 'DELETE':
      return name === null ? 'deletecollection' : 'delete';
    default:
      return undefined;
  }
}

export function isTrue(value: string | null): boolean {
  return value === 'true' || value === '1';
}

/** `deployments/scale` */
export function resourcePath(resource: ApiResource, subresource: Subresource | null): string {
  return subresource === null ? resource.plural : `${resource.plural}/${subresource}`;
}

/** `update deployments/scale`: the action a fault rule names and the ledger records. */
export function actionName(request: ResourceRequest): string {
  return `${request.verb} ${resourcePath(request.resource, request.subresource)}`;
}
