import type { Dice } from './dice.ts';
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

export interface Shot {
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

type Draft = { -readonly [K in keyof Shot]: Shot[K] };

export class ShotMaker {
  readonly #dice: Dice;
  readonly #api: Api;
  readonly #pools: Pools;
  readonly #keys: Keys;
  readonly #urls: readonly string[];

  constructor(dice: Dice, api: Api, pools: Pools, keys: Keys, canary: string) {
    this.#dice = dice;
    this.#api = api;
    this.#pools = pools;
    this.#keys = keys;
    this.#urls = hostileUrls(canary);
  }

  /** A request the document allows. */
  valid(): Shot {
    const operation = this.#dice.pick(this.#api.operations);
    return this.#build(operation, this.#keys.full, 'own').shot;
  }

  /** A request that changes nothing: for want of a right, or of a body that can be read. */
  refusable(): Shot {
    const operation = this.#dice.pick(this.#api.operations);
    switch (this.#dice.pick(['key', 'foreign', 'body'])) {
      case 'key':
        return this.#withBadKey(operation);
      case 'foreign':
        return { ...this.#build(operation, this.#keys.limited, 'foreign').shot, label: 'foreign ids' };
      default:
        return this.#withBody(operation.body === null ? this.#dice.pick(this.#withBodies()) : operation);
    }
  }

  /** A request that should be refused, or at least surprises. */
  hostile(): Shot {
    const dice = this.#dice;
    const operation = dice.pick(this.#api.operations);
    const kind = dice.pick([
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
        return { ...this.#build(operation, this.#keys.limited, 'foreign').shot, label: 'foreign ids' };
      case 'body':
        return this.#withBody(operation);
      case 'leaf':
        return this.#withHostileLeaf(operation);
      case 'path':
        return this.#withPath(operation);
      case 'type':
        return this.#withoutType(
          dice.pick(this.#withBodies().filter(({ path }) => !path.includes('{scope}'))),
        );
      case 'bounds':
        return this.#withBoundsReversed();
      case 'query': {
        const { shot } = this.#build(operation, this.#keys.full, 'own');
        const query = dice.pick(hostileQueries);
        return { ...shot, label: `query ${query.slice(0, 40)}`, path: `${shot.path.split('?')[0]}${query}` };
      }
      case 'header': {
        const { shot } = this.#build(operation, this.#keys.full, 'own');
        const extra = dice.pick(hostileHeaders);
        return {
          ...shot,
          label: `header ${Object.keys(extra).join()}`,
          headers: { ...shot.headers, ...extra },
        };
      }
      default: {
        const { shot } = this.#build(operation, this.#keys.full, 'own');
        const method = dice.pick([
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
          ...shot,
          operation:
            method === shot.method || (method === 'HEAD' && shot.method === 'GET') ? shot.operation : null,
          label: `method ${method}`,
          method,
        };
      }
    }
  }

  /** The same request body with one part replaced, under a text of its own. */
  #withHostileLeaf(operation: Operation): Shot {
    const { shot, value } = this.#build(operation, this.#keys.full, 'own');
    const dice = this.#dice;
    const [texts, numbers, others] = [
      [...hostileTexts, ...this.#urls],
      hostileNumbers,
      [null, [], {}, true, [[]], { a: { b: 1 } }, new RawJson('{"__proto__":{"x":1}}')],
    ];
    const hostile = dice.pick([dice.pick(texts), dice.pick(texts), dice.pick(numbers), dice.pick(others)]);
    if (value === null) {
      const text = encodeURIComponent(typeof hostile === 'string' && hostile.isWellFormed() ? hostile : 'x');
      const names = operation.parameters.filter((parameter) => parameter.in === 'query');
      const name = names.length > 0 ? dice.pick(names).name : 'x';
      return { ...shot, label: `query ${name}`, path: `${shot.path.split('?')[0]}?${name}=${text}` };
    }
    const mutated = replaceSomewhere(value, hostile, dice);
    return { ...shot, label: `leaf ${stringify(hostile).slice(0, 40)}`, body: stringify(mutated) };
  }

  #withBody(operation: Operation): Shot {
    const { shot, value } = this.#build(operation, this.#keys.full, 'own');
    const fields = stringify(value ?? { a: 1 }).slice(1, -1) || '"a":1';
    const which = this.#dice.below(wholeBodies.length);
    const body = (wholeBodies[which] as (typeof wholeBodies)[number])(fields, this.#dice);
    return {
      ...shot,
      label: `body ${which}`,
      headers: { ...shot.headers, 'content-type': 'application/json' },
      body,
    };
  }

  /** A body that nobody says is JSON. Give it an operation whose address cannot be refused first. */
  #withoutType(operation: Operation): Shot {
    const { shot } = this.#build(operation, this.#keys.full, 'own');
    const { 'content-type': _, ...headers } = shot.headers;
    return { ...shot, label: 'no content type', headers, expected: [415] };
  }

  /** More instances at least than at most: a new resource, or the change of one that others may have deleted meanwhile. */
  #withBoundsReversed(): Shot {
    const dice = this.#dice;
    const operationId = dice.pick(['createResource', 'updateResource']);
    const operation = this.#api.operations.find((its) => its.operationId === operationId);
    if (operation === undefined) throw new Error(`the document has no ${operationId}`);
    const { shot, value } = this.#build(operation, this.#keys.full, 'own');
    const most = dice.pick([0, 1, dice.below(1_000)]);
    const body = { ...(value as object), max_instances: most, min_instances: most + 1 + dice.below(1_000) };
    return {
      ...shot,
      label: 'min over max',
      headers: operationId === 'createResource' ? shot.headers : { ...shot.headers, 'if-match': '"1"' },
      body: stringify(body),
      expected: operationId === 'createResource' ? [400] : [400, 404],
    };
  }

  #withBodies(): readonly Operation[] {
    return this.#api.operations.filter((operation) => operation.body !== null);
  }

  #withPath(operation: Operation): Shot {
    const { shot } = this.#build(operation, this.#keys.full, 'own');
    const parts = shot.path.split('/');
    parts[1 + this.#dice.below(parts.length - 1)] = this.#dice.pick(hostilePathParts);
    return { ...shot, operation: null, label: 'path', path: parts.join('/') };
  }

  #withBadKey(operation: Operation): Shot {
    const wrongScope = this.#dice.pick(
      Object.entries(this.#keys.byScope).filter(([scope]) => scope !== operation.scope),
    )[1];
    const key = this.#dice.pick([null, wrongScope, ...this.#keys.refused]);
    const { shot } = this.#build(operation, this.#keys.full, 'own');
    const { authorization: _, ...headers } = shot.headers;
    const schemes = ['Bearer ', 'Bearer ', 'bearer ', 'Basic ', 'Bearer  ', ''];
    return {
      ...shot,
      label: 'key',
      headers: key === null ? headers : { ...headers, authorization: `${this.#dice.pick(schemes)}${key}` },
    };
  }

  #build(operation: Operation, key: string, whose: 'own' | 'foreign'): { shot: Draft; value: unknown } {
    const dice = this.#dice;
    const ids = (name: string) => this.#idFor(operation, name, whose);
    const make = (schema: Parameters<typeof makeValue>[0], name: string) =>
      makeValue(schema, name, dice, this.#api, ids);
    let path = operation.path;
    const query: string[] = [];
    const headers: Record<string, string> = { authorization: `Bearer ${key}` };
    for (const parameter of operation.parameters) {
      const { name, schema } = parameter;
      if (parameter.in === 'path')
        path = path.replace(`{${name}}`, encodeURIComponent(String(make(schema, name))));
      else if (!parameter.required && !dice.chance(0.4)) continue;
      else if (parameter.in === 'query')
        query.push(`${name}=${encodeURIComponent(String(name === 'cursor' ? '' : make(schema, name)))}`);
      else headers[name.toLowerCase()] = headerValue(name, dice);
    }
    const value = operation.body === null ? null : make(operation.body, 'body');
    if (value !== null) headers['content-type'] = 'application/json';
    return {
      shot: {
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
    const dice = this.#dice;
    if (operation.operationId === 'deleteResource' && whose === 'own')
      return dice.pick(this.#pools.expendable) ?? dice.uuid();
    if (name === 'decision_id') return dice.pick(pools.decision);
    if (name !== 'id') return dice.pick(pools.resource);
    if (operation.path.startsWith('/jobs')) return dice.pick(pools.job);
    if (operation.path.startsWith('/keys')) return dice.pick(pools.key);
    return dice.pick(operation.path.includes('/decisions') ? pools.decision : pools.resource);
  }
}

function headerValue(name: string, dice: Dice): string {
  switch (name) {
    case 'If-Match':
      return dice.pick(['"1"', '"2"', '"3"']);
    case 'Prefer':
      // Nobody works on the jobs: a second is waited for nothing.
      return dice.chance(0.1) ? 'respond-async, wait=1' : dice.pick(['wait=0', 'respond-async']);
    default:
      return dice.text(8);
  }
}

/** A copy in which one value, or the name of one field, is another. */
function replaceSomewhere(value: unknown, hostile: unknown, dice: Dice): unknown {
  if (Array.isArray(value) && value.length > 0 && dice.chance(0.8)) {
    const at = dice.below(value.length);
    return value.map((item, index) => (index === at ? replaceSomewhere(item, hostile, dice) : item));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return hostile;
  const names = Object.keys(value);
  if (names.length === 0) return { [typeof hostile === 'string' ? hostile.slice(0, 300) : 'x']: 1 };
  const chosen = dice.pick(names);
  const entries = Object.entries(value);
  if (dice.chance(0.1)) return Object.fromEntries(entries.filter(([name]) => name !== chosen));
  return Object.fromEntries(
    entries.map(([name, inner]) => [name, name === chosen ? replaceSomewhere(inner, hostile, dice) : inner]),
  );
}
