import { applyConflict } from './api-status.ts';
import {
  asArray,
  asObject,
  asString,
  deepEqual,
  isArray,
  isObject,
  type Json,
  type JsonObject,
  without,
} from './json.ts';
import { isKeyedList, itemKey, listKeys } from './list-keys.ts';
import { overlay } from './patches.ts';

/** Who writes, as an entry of metadata.managedFields names it. */
export interface FieldManager {
  readonly manager: string;
  readonly apiVersion: string;
  readonly subresource: string | null;
  readonly time: string;
}

/** A leaf's path, its elements as in FieldsV1 (`f:spec`, `k:{"name":"web"}`, `.`), joined by line feeds. */
type FieldPath = string;
type Leaves = ReadonlyMap<FieldPath, Json>;

const SEPARATOR = '\n';
const UNTRACKED_METADATA = [
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'managedFields',
  'selfLink',
  'generateName',
];

function leavesOf(object: JsonObject): Leaves {
  const tracked = without(object, 'apiVersion', 'kind');
  const leaves = new Map<FieldPath, Json>();
  const metadata = without(asObject(object.metadata), ...UNTRACKED_METADATA);
  collect(
    { ...tracked, metadata: Object.keys(metadata).length === 0 ? undefined : metadata },
    [],
    '',
    leaves,
  );
  return leaves;
}

function collect(value: Json, path: readonly string[], field: string, leaves: Map<FieldPath, Json>): void {
  const keys = listKeys(field);
  if (isObject(value) && Object.keys(value).length > 0) {
    for (const [key, child] of Object.entries(value)) {
      if (child !== undefined && child !== null) collect(child, [...path, `f:${key}`], key, leaves);
    }
  } else if (keys !== undefined && isKeyedList(field, value) && value.length > 0) {
    for (const item of value) {
      const itemPath = [...path, `k:${itemKey(keys, item)}`];
      leaves.set([...itemPath, '.'].join(SEPARATOR), true);
      collect(item, itemPath, '', leaves);
    }
  } else if (path.length > 0) leaves.set(path.join(SEPARATOR), value);
}

interface Entry {
  readonly json: JsonObject;
  readonly fields: Set<FieldPath>;
}

function decode(entries: Json | undefined): Entry[] {
  return asArray(entries)
    .map((each) => asObject(each))
    .filter((json) => asString(json.manager) !== '')
    .map((json) => ({ json, fields: decodeFields(asObject(json.fieldsV1)) }));
}

function decodeFields(node: JsonObject, path: readonly string[] = []): Set<FieldPath> {
  const found = new Set<FieldPath>();
  for (const [element, child] of Object.entries(node)) {
    const here = [...path, element];
    const below = decodeFields(asObject(child), here);
    if (below.size === 0) found.add(here.join(SEPARATOR));
    else for (const each of below) found.add(each);
  }
  return found;
}

function encode(entries: readonly Entry[]): readonly JsonObject[] {
  return entries
    .filter((entry) => entry.fields.size > 0)
    .map((entry) => ({ ...entry.json, fieldsType: 'FieldsV1', fieldsV1: encodeFields(entry.fields) }));
}

interface FieldTree {
  [element: string]: FieldTree;
}

function encodeFields(fields: ReadonlySet<FieldPath>): FieldTree {
  const root: FieldTree = {};
  for (const path of [...fields].sort()) {
    let node = root;
    for (const element of path.split(SEPARATOR)) {
      node[element] ??= {};
      node = node[element];
    }
  }
  return root;
}

function isEntryOf(entry: Entry, by: FieldManager, operation: 'Apply' | 'Update'): boolean {
  const { manager, apiVersion, subresource } = entry.json;
  return (
    entry.json.operation === operation &&
    manager === by.manager &&
    (operation === 'Apply' || apiVersion === by.apiVersion) &&
    (subresource ?? null) === by.subresource
  );
}

function newEntry(by: FieldManager, operation: 'Apply' | 'Update', fields: Set<FieldPath>): Entry {
  const { manager, apiVersion, time, subresource } = by;
  const json = { manager, operation, apiVersion, time, ...(subresource === null ? {} : { subresource }) };
  return { json, fields };
}

/** After a create, a PUT or a plain patch: what changed now belongs to whoever changed it. */
export function trackUpdate(before: JsonObject, after: JsonObject, by: FieldManager): readonly JsonObject[] {
  const [old, now] = [leavesOf(before), leavesOf(after)];
  const changed = [...now].filter(([path, value]) => !deepEqual(old.get(path), value)).map(([path]) => path);
  const sent = asObject(after.metadata).managedFields;
  // A client may rewrite the owners themselves: kubectl does, on its way to server-side apply.
  const entries = decode(isArray(sent) ? sent : asObject(before.metadata).managedFields);
  for (const { fields } of entries) {
    for (const path of changed) fields.delete(path);
    for (const path of fields) {
      if (old.has(path) && !now.has(path)) fields.delete(path);
    }
  }
  if (changed.length > 0) {
    const own = entries.find((entry) => isEntryOf(entry, by, 'Update'));
    const fields = new Set([...(own?.fields ?? []), ...changed]);
    const others = entries.filter((entry) => entry !== own);
    return encode([...others, newEntry(by, 'Update', fields)]);
  }
  return encode(entries);
}

/** Server-side apply: the new object, or the conflict with those who own what it would change. */
export function applyConfiguration(
  live: JsonObject,
  config: JsonObject,
  by: FieldManager,
  force: boolean,
): JsonObject {
  const wanted = leavesOf(config);
  const current = leavesOf(live);
  const entries = decode(asObject(live.metadata).managedFields);
  const own = entries.find((entry) => isEntryOf(entry, by, 'Apply'));
  const others = entries.filter((entry) => entry !== own);

  const conflicts: Conflict[] = [];
  for (const [path, value] of wanted) {
    if (deepEqual(current.get(path), value)) continue;
    for (const entry of others.filter(({ fields }) => fields.has(path))) {
      if (force) entry.fields.delete(path);
      else conflicts.push({ owner: describeOwner(entry.json), path: displayPath(path) });
    }
  }
  if (conflicts.length > 0) throw conflictError(conflicts);

  const abandoned = [...(own?.fields ?? [])].filter(
    (path) => !wanted.has(path) && !others.some(({ fields }) => isOwned(fields, path)),
  );
  const pruned = abandoned.reduce<Json>((object, path) => dropPath(object, path.split(SEPARATOR)), live);
  const merged = asObject(overlay(pruned, config));
  const managedFields = encode([...others, newEntry(by, 'Apply', new Set(wanted.keys()))]);
  return { ...merged, metadata: { ...asObject(merged.metadata), managedFields } };
}

interface Conflict {
  readonly owner: string;
  readonly path: string;
}

function conflictError(conflicts: readonly Conflict[]): Error {
  const causes = conflicts.map(({ owner, path }) => {
    return { reason: 'FieldManagerConflict', message: `conflict with ${owner}`, field: path };
  });
  const [first] = conflicts;
  if (conflicts.length === 1 && first !== undefined) {
    const message = `Apply failed with 1 conflict: conflict with ${first.owner}: ${first.path}`;
    return applyConflict(causes, message);
  }
  const owners = [...new Set(conflicts.map(({ owner }) => owner))].sort();
  const lines = owners.flatMap((owner) => [
    `conflicts with ${owner}:`,
    ...conflicts.filter((each) => each.owner === owner).map(({ path }) => `- ${path}`),
  ]);
  return applyConflict(causes, `Apply failed with ${conflicts.length} conflicts: ${lines.join('\n')}`);
}

function describeOwner(entry: JsonObject): string {
  const subresource = asString(entry.subresource);
  const who =
    JSON.stringify(asString(entry.manager)) +
    (subresource === '' ? '' : ` with subresource "${subresource}"`);
  if (entry.operation !== 'Update') return who;
  const at = asString(entry.time) === '' ? '' : ` at ${asString(entry.time)}`;
  return `${who} using ${asString(entry.apiVersion)}${at}`;
}

/** `.spec.template.spec.containers[name="web"].image` */
function displayPath(path: FieldPath): string {
  return path
    .split(SEPARATOR)
    .filter((element) => element !== '.')
    .map((element) => {
      if (element.startsWith('f:')) return `.${element.slice(2)}`;
      const keys = Object.entries(JSON.parse(element.slice(2)) as JsonObject);
      return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`;
    })
    .join('');
}

/** A list item stays while anybody else owns any part of it. */
function isOwned(fields: ReadonlySet<FieldPath>, path: FieldPath): boolean {
  if (!path.endsWith(`${SEPARATOR}.`)) return fields.has(path);
  return [...fields].some((each) => each.startsWith(path.slice(0, -1)));
}

function dropPath(value: Json, [element = '', ...rest]: readonly string[]): Json {
  if (isArray(value)) {
    const wanted = element.slice(2);
    const keys = Object.keys(JSON.parse(wanted) as JsonObject);
    const isIt = (item: Json): boolean => itemKey(keys, asObject(item)) === wanted;
    if (rest[0] === '.') return value.filter((item) => !isIt(item));
    return value.map((item) => (isIt(item) ? dropPath(item, rest) : item));
  }
  if (!isObject(value)) return value;
  const key = element.slice(2);
  const child = value[key];
  if (child === undefined) return value;
  return rest.length === 0 ? without(value, key) : { ...value, [key]: dropPath(child, rest) };
}
