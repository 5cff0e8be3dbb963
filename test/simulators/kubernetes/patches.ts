import { ApiError, badRequest, rejectedPatch } from './api-status.ts';
import {
  asArray,
  asObject,
  deepEqual,
  isArray,
  isObject,
  type Json,
  type JsonObject,
  without,
} from './json.ts';
import { isKeyedList, itemKey, listKeys } from './list-keys.ts';

/** RFC 7386 */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: Record<string, Json | undefined> = { ...asObject(target) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null || value === undefined) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** A merge patch that knows which lists have keys, and the directives kubectl sends along. */
export function strategicMergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  if (patch.$patch === 'replace') return without(patch, '$patch');
  if (patch.$patch === 'delete') return {};
  const retained = isArray(patch.$retainKeys) ? patch.$retainKeys : undefined;
  const base = asObject(target);
  const kept =
    retained === undefined ? Object.keys(base) : Object.keys(base).filter((key) => retained.includes(key));
  const result: Record<string, Json | undefined> = Object.fromEntries(kept.map((key) => [key, base[key]]));
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$')) continue;
    if (value === null || value === undefined) delete result[key];
    else if (isArray(value)) result[key] = mergeList(key, asArray(result[key]), value);
    else result[key] = strategicMergePatch(result[key], value);
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const field = key.slice('$deleteFromPrimitiveList/'.length);
      result[field] = asArray(result[field]).filter((item) => !asArray(value).includes(item));
    } else if (key.startsWith('$setElementOrder/')) {
      const field = key.slice('$setElementOrder/'.length);
      result[field] = reorder(field, asArray(result[field]), asArray(value));
    }
  }
  return result;
}

function mergeList(field: string, current: readonly Json[], patch: readonly Json[]): readonly Json[] {
  const keys = patchKeys(field, patch);
  if (field === 'finalizers') return [...new Set([...current, ...patch])];
  if (keys === undefined || patch.some((item) => asObject(item).$patch === 'replace')) {
    return patch.filter((item) => asObject(item).$patch === undefined);
  }
  const result = [...current];
  for (const item of patch.map((each) => asObject(each))) {
    const index = result.findIndex((each) => sameItem(keys, asObject(each), item));
    if (item.$patch === 'delete') {
      if (index >= 0) result.splice(index, 1);
    } else if (index >= 0) result[index] = strategicMergePatch(result[index], item);
    else result.push(strategicMergePatch({}, item));
  }
  return result;
}

/** Kubernetes patches container ports by `containerPort` alone, whatever the protocol. */
function patchKeys(field: string, patch: readonly Json[]): readonly string[] | undefined {
  const keys = listKeys(field)?.slice(0, 1);
  return keys !== undefined && patch.every((item) => isObject(item)) ? keys : undefined;
}

function sameItem(keys: readonly string[], left: JsonObject, right: JsonObject): boolean {
  return keys.every((key) => deepEqual(left[key], right[key]));
}

function reorder(field: string, list: readonly Json[], order: readonly Json[]): readonly Json[] {
  const keys = listKeys(field)?.slice(0, 1) ?? [];
  const rank = (item: Json): number => {
    const index = order.findIndex((each) =>
      isObject(each) && isObject(item) ? sameItem(keys, each, item) : deepEqual(each, item),
    );
    return index < 0 ? order.length : index;
  };
  return [...list].sort((left, right) => rank(left) - rank(right));
}

/** RFC 6902. Like the real server, a failing operation of any kind is 422 and names nothing. */
export function jsonPatch(target: JsonObject, patch: Json): Json {
  if (!isArray(patch)) {
    throw badRequest(
      'error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp',
    );
  }
  return patch.reduce<Json>((document, operation) => applyOperation(document, asObject(operation)), target);
}

function applyOperation(document: Json, operation: JsonObject): Json {
  const path = pointer(operation.path);
  switch (operation.op) {
    case 'test':
      if (!deepEqual(lookUp(document, path), operation.value ?? null)) throw rejectedPatch();
      return document;
    case 'add':
      return insert(document, path, operation.value ?? null);
    case 'replace':
      lookUp(document, path);
      return path.length === 0
        ? (operation.value ?? null)
        : insert(drop(document, path), path, operation.value ?? null);
    case 'remove':
      return drop(document, path);
    case 'move': {
      const from = pointer(operation.from);
      return insert(drop(document, from), path, lookUp(document, from));
    }
    case 'copy':
      return insert(document, path, lookUp(document, pointer(operation.from)));
    default:
      throw rejectedPatch();
  }
}

function pointer(path: Json | undefined): readonly string[] {
  if (path === '') return [];
  if (typeof path !== 'string' || !path.startsWith('/')) throw rejectedPatch();
  return path
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function lookUp(document: Json, path: readonly string[]): Json {
  let value: Json | undefined = document;
  for (const token of path) {
    if (isArray(value)) value = value[Number(token)];
    else value = isObject(value) && Object.hasOwn(value, token) ? value[token] : undefined;
    if (value === undefined) throw rejectedPatch();
  }
  return value;
}

function insert(document: Json, path: readonly string[], value: Json): Json {
  const [token, ...rest] = path;
  if (token === undefined) return value;
  if (isArray(document)) {
    const index = token === '-' ? document.length : Number(token);
    if (!Number.isInteger(index) || index < 0 || index > document.length) throw rejectedPatch();
    if (rest.length === 0) return [...document.slice(0, index), value, ...document.slice(index)];
    return document.map((item, at) => (at === index ? insert(item, rest, value) : item));
  }
  if (!isObject(document)) throw rejectedPatch();
  const child = document[token];
  if (rest.length > 0 && child === undefined) throw rejectedPatch();
  return { ...document, [token]: rest.length === 0 ? value : insert(child as Json, rest, value) };
}

function drop(document: Json, path: readonly string[]): Json {
  lookUp(document, path);
  const [token = '', ...rest] = path;
  if (isArray(document)) {
    const index = Number(token);
    if (rest.length === 0) return document.filter((_, at) => at !== index);
    return document.map((item, at) => (at === index ? drop(item, rest) : item));
  }
  const object = asObject(document);
  return rest.length === 0
    ? without(object, token)
    : { ...object, [token]: drop(object[token] as Json, rest) };
}

/** How server-side apply lays a configuration over an object: maps and keyed lists merge, the rest is replaced. */
export function overlay(target: Json | undefined, config: Json, field = ''): Json {
  if (isObject(config)) {
    const result: Record<string, Json | undefined> = { ...asObject(target) };
    for (const [key, value] of Object.entries(config)) {
      if (value !== undefined) result[key] = overlay(result[key], value, key);
    }
    return result;
  }
  const keys = listKeys(field);
  if (keys === undefined || !isKeyedList(field, config)) return config;
  const result = [...asArray(target)];
  for (const item of config) {
    const index = result.findIndex((each) => itemKey(keys, asObject(each)) === itemKey(keys, item));
    if (index < 0) result.push(item);
    else result[index] = overlay(result[index], item);
  }
  return result;
}

/** Malformed bodies never reach a handler. */
export function parseJsonBody(body: Buffer, what: string): Json {
  try {
    return JSON.parse(body.toString('utf8')) as Json;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ApiError(
      400,
      'BadRequest',
      `the object provided is unrecognized (must be of type ${what}): couldn't get version/kind; ` +
        `json parse error: ${why} (${body.subarray(0, 16).toString('hex')} ...)`,
    );
  }
}
