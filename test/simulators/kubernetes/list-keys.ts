import { isArray, isObject, type Json, type JsonObject } from './json.ts';

/** Lists whose items are matched by key, in strategic merge patches and in server-side apply. Others are one value. */
const LIST_KEYS: Readonly<Record<string, readonly string[]>> = {
  containers: ['name'],
  initContainers: ['name'],
  ephemeralContainers: ['name'],
  volumes: ['name'],
  env: ['name'],
  imagePullSecrets: ['name'],
  ports: ['containerPort', 'protocol'],
  volumeMounts: ['mountPath'],
  conditions: ['type'],
  ownerReferences: ['uid'],
  hostAliases: ['ip'],
};

/** Some key fields have a default and may be left out. */
const KEY_DEFAULTS: Readonly<Record<string, Json>> = { protocol: 'TCP' };

export function listKeys(field: string): readonly string[] | undefined {
  return LIST_KEYS[field];
}

/** True when every item carries the list's keys, so that the list can be merged item by item. */
export function isKeyedList(field: string, list: Json | undefined): list is readonly JsonObject[] {
  const keys = LIST_KEYS[field];
  if (keys === undefined || !isArray(list)) return false;
  return list.every((item) => isObject(item) && itemKey(keys, item) !== undefined);
}

/** The item's identity in the form managedFields uses: `{"name":"web"}`. */
export function itemKey(keys: readonly string[], item: JsonObject): string | undefined {
  const entries = keys.map((key) => [key, item[key] ?? KEY_DEFAULTS[key]] as const);
  if (entries.some(([, value]) => value === undefined)) return undefined;
  return JSON.stringify(Object.fromEntries(entries));
}
