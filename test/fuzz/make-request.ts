import {
  hostileHeaders,
  hostileNumbers,
  hostilePathParts,
  hostileQueries,
  hostileTexts,
  hostileUrls,
  RawJson,
  stringify,
  wholeBodies,
} from './hostile.ts';
import { makeValue } from './make-value.ts';
import type { Api, Operation } from './openapi.ts';
import type { RandomGenerator } from './random-generator.ts';

export interface Pools {
  readonly own: { resource: string[]; decision: string[]; job: string[]; key: string[] };
  /** Of a tenant that the fuzzer's own key may not see. */
  readonly foreign: { resource: string[]; decision: string[]; job: string[]; key: string[] };
  /** Resources that may be deleted. */
  readonly expendable: string[];
}

export interface Keys {
  readonly full: string;
  /** Of the tenant whose resources are in `own`, and of the one whose are in `foreign`. */
  readonly limited: string;
  readonly foreign: string;
  /** Each must be refused wherever a key is needed. */
  readonly refused: readonly string[];
  readonly byScope: Readonly<Record<string, string>>;
}

export interface FuzzRequest {
  readonly label: string;
  /** Null where the address was mutated: then only problems can be checked. */
  readonly operation: Operation | null;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer | null;
  /** Where only these statuses (or a refusal for overload) will do. */
  readonly expected?: readonly number[];
}

type Draft = { -readonly [K in keyof FuzzRequest]: FuzzRequest[K] };

/** Makes requests from the OpenAPI document: the same seed makes the same ones. */
export class RequestMaker {
  readonly #random: RandomGenerator;
  readonly #api: Api;
  readonly #pools: Pools;
  readonly #keys: Keys;
  readonly #urls: readonly string[];

  constructor(random: RandomGenerator, api: Api, pools: Pools, keys: Keys, canary: string) {
    this.#random = random;
    this.#api = api;
    this.#pools = pools;
    this.#keys = keys;
    this.#urls = hostileUrls(canary);
  }

  /** A request the document allows. */
  valid(): FuzzRequest {
    const operation = this.#random.pick(this.#api.operations);
    return this.#build(operation, this.#keys.full, 'own').request;
  }

  /** A request that changes nothing: for want of a right, or of a body that can be read. */
  refusable(): FuzzRequest {
    const operation = this.#random.pick(this.#api.operations);
    switch (this.#random.pick(['key', 'foreign', 'body'])) {
      case 'key':
        return this.#withBadKey(operation);
      case 'foreign':
        return { ...this.#build(operation, this.#keys.limited, 'foreign').request, label: 'foreign ids' };
      default:
        return this.#withBody(operation.body === null ? this.#random.pick(this.#withBodies()) : operation);
    }
  }

  /** A request that should be refused, or at least surprises. */
  hostile(): FuzzRequest {
    const random = this.#random;
    const operation = random.pick(this.#api.operations);
    const kind = random.pick([
      'key',
      'foreign',
      'body',
      'body',
      'body',
      'leaf',
      'leaf',
      'leaf',
      'path',
      'query',
      'header',
      'method',
      'type',
      'bounds',
    ]);
    switch (kind) {
      case 'key':
        return this.#withBadKey(operation);
      case 'foreign':
        return { ...this.#build(operation, this.#keys.limited, 'foreign').request, label: 'foreign ids' };
      case 'body':
        return this.#withBody(operation);
      case 'leaf':
        return this.#withHostileLeaf(operation);
      case 'path':
        return this.#withPath(operation);
      case 'type':
        return this.#withoutType(
          random.pick(this.#withBodies().filter(({ path }) => !path.includes('{scope}'))),
        );
      case 'bounds':
        return this.#withBoundsReversed();
      case 'query': {
        const { request } = this.#build(operation, this.#keys.full, 'own');
        const query = random.pick(hostileQueries);
        return {
          ...request,
          label: `query ${query.slice(0, 40)}`,
          path: `${request.path.split('?')[0]}${query}`,
        };
      }
      case 'header': {
        const { request } = this.#build(operation, this.#keys.full, 'own');
        const extra = random.pick(hostileHeaders);
        return {
          ...request,
          label: `header ${Object.keys(extra).join()}`,
          headers: { ...request.headers, ...extra },
        };
      }
      default: {
        const { request } = this.#build(operation, this.#keys.full, 'own');
        const method = random.pick([
          'GET',
          'PUT',
          'PATCH',
          'DELETE',
          'POST',
          'HEAD',
          'OPTIONS',
          'TRACE',
          'LINK',
        ]);
        return {
          ...request,
          operation:
            method === request.method || (method === 'HEAD' && request.method === 'GET')
              ? request.operation
              : null,
          label: `method ${method}`,
          method,
        };
      }
    }
  }

  /** The same request body with one part replaced, under a text of its own. */
  #withHostileLeaf(operation: Operation): FuzzRequest {
    const { request, value } = this.#build(operation, this.#keys.full, 'own');
    const random = this.#random;
    const [texts, numbers, others] = [
      [...hostileTexts, ...this.#urls],
      hostileNumbers,
      [null, [], {}, true, [[]], { a: { b: 1 } }, new RawJson('{"__proto__":{"x":1}}')],
    ];
    const hostile = random.pick([
      random.pick(texts),
      random.pick(texts),
      random.pick(numbers),
      random.pick(others),
    ]);
    if (value === null) {
      const text = encodeURIComponent(typeof hostile === 'string' && hostile.isWellFormed() ? hostile : 'x');
      const names = operation.parameters.filter((parameter) => parameter.in === 'query');
      const name = names.length > 0 ? random.pick(names).name : 'x';
      return { ...request, label: `query ${name}`, path: `${request.path.split('?')[0]}?${name}=${text}` };
    }
    const mutated = replaceSomewhere(value, hostile, random);
    return { ...request, label: `leaf ${stringify(hostile).slice(0, 40)}`, body: stringify(mutated) };
  }

  #withBody(operation: Operation): FuzzRequest {
    const { request, value } = this.#build(operation, this.#keys.full, 'own');
    const fields = stringify(value ?? { a: 1 }).slice(1, -1) || '"a":1';
    const which = this.#random.below(wholeBodies.length);
    const body = (wholeBodies[which] as (typeof wholeBodies)[number])(fields, this.#random);
    return {
      ...request,
      label: `body ${which}`,
      headers: { ...request.headers, 'content-type': 'application/json' },
      body,
    };
  }

  /** A body that nobody says is JSON. Give it an operation whose address cannot be refused first. */
  #withoutType(operation: Operation): FuzzRequest {
    const { request } = this.#build(operation, this.#keys.full, 'own');
    const { 'content-type': _, ...headers } = request.headers;
    return { ...request, label: 'no content type', headers, expected: [415] };
  }

  /** More instances at least than at most: a new resource, or the change of one that others may have deleted meanwhile. */
  #withBoundsReversed(): FuzzRequest {
    const random = this.#random;
    const operationId = random.pick(['createResource', 'updateResource']);
    const operation = this.#api.operations.find((its) => its.operationId === operationId);
    if (operation === undefined) throw new Error(`the document has no ${operationId}`);
    const { request, value } = this.#build(operation, this.#keys.full, 'own');
    const most = random.pick([0, 1, random.below(1_000)]);
    const body = { ...(value as object), max_instances: most, min_instances: most + 1 + random.below(1_000) };
    return {
      ...request,
      label: 'min over max',
      headers: operationId === 'createResource' ? request.headers : { ...request.headers, 'if-match': '"1"' },
      body: stringify(body),
      expected: operationId === 'createResource' ? [400] : [400, 404],
    };
  }

  #withBodies(): readonly Operation[] {
    return this.#api.operations.filter((operation) => operation.body !== null);
  }

  #withPath(operation: Operation): FuzzRequest {
    const { request } = this.#build(operation, this.#keys.full, 'own');
    const parts = request.path.split('/');
    parts[1 + this.#random.below(parts.length - 1)] = this.#random.pick(hostilePathParts);
    return { ...request, operation: null, label: 'path', path: parts.join('/') };
  }

  #withBadKey(operation: Operation): FuzzRequest {
    const wrongScope = this.#random.pick(
      Object.entries(this.#keys.byScope).filter(([scope]) => scope !== operation.scope),
    )[1];
    const key = this.#random.pick([null, wrongScope, ...this.#keys.refused]);
    const { request } = this.#build(operation, this.#keys.full, 'own');
    const { authorization: _, ...headers } = request.headers;
    const schemes = ['Bearer ', 'Bearer ', 'bearer ', 'Basic ', 'Bearer  ', ''];
    return {
      ...request,
      label: 'key',
      headers: key === null ? headers : { ...headers, authorization: `${this.#random.pick(schemes)}${key}` },
    };
  }

  #build(operation: Operation, key: string, whose: 'own' | 'foreign'): { request: Draft; value: unknown } {
    const random = this.#random;
    const ids = (name: string) => this.#idFor(operation, name, whose);
    const make = (schema: Parameters<typeof makeValue>[0], name: string) =>
      makeValue(schema, name, random, this.#api, ids);
    let path = operation.path;
    const query: string[] = [];
    const headers: Record<string, string> = { authorization: `Bearer ${key}` };
    for (const parameter of operation.parameters) {
      const { name, schema } = parameter;
      if (parameter.in === 'path')
        path = path.replace(`{${name}}`, encodeURIComponent(String(make(schema, name))));
      else if (!parameter.required && !random.chance(0.4)) continue;
      else if (parameter.in === 'query')
        query.push(`${name}=${encodeURIComponent(String(name === 'cursor' ? '' : make(schema, name)))}`);
      else headers[name.toLowerCase()] = headerValue(name, random);
    }
    const value = operation.body === null ? null : make(operation.body, 'body');
    if (value !== null) headers['content-type'] = 'application/json';
    return {
      request: {
        label: 'valid',
        operation,
        method: operation.method,
        path: query.length === 0 ? path : `${path}?${query.join('&')}`,
        headers,
        body: value === null ? null : stringify(value),
      },
      value,
    };
  }

  #idFor(operation: Operation, name: string, whose: 'own' | 'foreign'): string {
    const pools = this.#pools[whose];
    const random = this.#random;
    if (operation.operationId === 'deleteResource' && whose === 'own')
      return random.pick(this.#pools.expendable) ?? random.uuid();
    if (name === 'decision_id') return random.pick(pools.decision);
    if (name !== 'id') return random.pick(pools.resource);
    if (operation.path.startsWith('/jobs')) return random.pick(pools.job);
    if (operation.path.startsWith('/keys')) return random.pick(pools.key);
    return random.pick(operation.path.includes('/decisions') ? pools.decision : pools.resource);
  }
}

function headerValue(name: string, random: RandomGenerator): string {
  switch (name) {
    case 'If-Match':
      return random.pick(['"1"', '"2"', '"3"']);
    case 'Prefer':
      // Nobody works on the jobs: a second is waited for nothing.
      return random.chance(0.1) ? 'respond-async, wait=1' : random.pick(['wait=0', 'respond-async']);
    default:
      return random.text(8);
  }
}

/** A copy in which one value, or the name of one field, is another. */
function replaceSomewhere(value: unknown, hostile: unknown, random: RandomGenerator): unknown {
  if (Array.isArray(value) && value.length > 0 && random.chance(0.8)) {
    const at = random.below(value.length);
    return value.map((item, index) => (index === at ? replaceSomewhere(item, hostile, random) : item));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return hostile;
  const names = Object.keys(value);
  if (names.length === 0) return { [typeof hostile === 'string' ? hostile.slice(0, 300) : 'x']: 1 };
  const chosen = random.pick(names);
  const entries = Object.entries(value);
  if (random.chance(0.1)) return Object.fromEntries(entries.filter(([name]) => name !== chosen));
  return Object.fromEntries(
    entries.map(([name, inner]) => [
      name,
      name === chosen ? replaceSomewhere(inner, hostile, random) : inner,
    ]),
  );
}
