export type Json = string | number | boolean | null | readonly Json[] | JsonObject;

/** Objects in the store are shared and never changed in place; a write makes a new object. */
export interface JsonObject {
  readonly [key: string]: Json | undefined;
}

export interface ObjectMeta extends JsonObject {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation?: number;
  readonly creationTimestamp: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface KubernetesObject extends JsonObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function isArray(value: Json | undefined): value is readonly Json[] {
  return Array.isArray(value);
}

export function asObject(value: Json | undefined): JsonObject {
  return isObject(value) ? value : {};
}

export function asArray(value: Json | undefined): readonly Json[] {
  return isArray(value) ? value : [];
}

export function asNumber(value: Json | undefined, otherwise = 0): number {
  return typeof value === 'number' ? value : otherwise;
}

export function asString(value: Json | undefined, otherwise = ''): string {
  return typeof value === 'string' ? value : otherwise;
}

/** The value at `a.b.c`, or undefined where the way ends. */
export function valueAt(root: Json | undefined, path: string): Json | undefined {
  let value = root;
  for (const key of path.split('.')) value = isObject(value) ? value[key] : undefined;
  return value;
}

export function numberAt(root: Json | undefined, path: string, otherwise = 0): number {
  return asNumber(valueAt(root, path), otherwise);
}

export function stringAt(root: Json | undefined, path: string, otherwise = ''): string {
  return asString(valueAt(root, path), otherwise);
}

export function without(object: JsonObject, ...keys: readonly string[]): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

/** Fills in what is missing; what is there stays. */
export function withDefaults(value: Json | undefined, defaults: JsonObject): JsonObject {
  const given = Object.fromEntries(Object.entries(asObject(value)).filter(([, each]) => each !== undefined));
  return { ...defaults, ...given };
}

export function deepEqual(left: Json | undefined, right: Json | undefined): boolean {
  if (left === right) return true;
  if (isArray(left) && isArray(right)) {
    return left.length === right.length && left.every((item, index) => deepEqual(item, right[index]));
  }
  if (!isObject(left) || !isObject(right)) return false;
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].every((key) => deepEqual(left[key], right[key]));
}

/** As its children name their controller. */
export function ownerReference({ apiVersion, kind, metadata }: KubernetesObject): JsonObject {
  const { name, uid } = metadata;
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}
