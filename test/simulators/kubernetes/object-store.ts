import type { Random } from '../core/seeded-random.ts';
import type { VirtualClock } from '../core/virtual-clock.ts';
import type { ApiResource } from './api-resources.ts';
import type { KubernetesObject } from './json.ts';

export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly resourceVersion: number;
  readonly object: KubernetesObject;
  readonly previous: KubernetesObject | undefined;
  /** Real epoch ms: staleness is a fact of transport, not of the simulated world. */
  readonly at: number;
}

/** What reads are answered from: the present, or a moment ago. */
export interface ObjectReader {
  get(resource: ApiResource, namespace: string | null, name: string): KubernetesObject | undefined;
  /** In key order, as etcd lists them. `null` means every namespace. */
  list(resource: ApiResource, namespace: string | null): readonly KubernetesObject[];
}

export interface ObjectStore extends ObjectReader {
  /** Creates or replaces; answers the object with its new resourceVersion. */
  put(resource: ApiResource, object: KubernetesObject): KubernetesObject;
  remove(resource: ApiResource, namespace: string | null, name: string): KubernetesObject | undefined;
  /** One counter for the whole cluster, as etcd's revision. */
  resourceVersion(): number;
  /** The events after a resourceVersion, or undefined when some of them are forgotten. */
  eventsAfter(resource: ApiResource, resourceVersion: number): readonly StoreEvent[] | undefined;
  oldestResourceVersion(resource: ApiResource): number;
  /** Forgets the events so far, as a compaction does: older watches are answered 410. */
  compact(): void;
  subscribe(resource: ApiResource, listener: (event: StoreEvent) => void): () => void;
  /** The world as a lagging watch cache still sees it. */
  asOf(realMs: number): ObjectReader;
  newUid(): string;
  /** Creation time stamps: virtual, in whole seconds. */
  timestamp(): string;
}

interface Shelf {
  readonly objects: Map<string, KubernetesObject>;
  readonly listeners: Set<(event: StoreEvent) => void>;
  events: StoreEvent[];
  oldest: number;
  /** In order; kept so by every addition and removal. */
  readonly keys: string[];
}

/** A fresh cluster's revision: everything below is compacted away, so an invented old version is "too old". */
const FIRST_RESOURCE_VERSION = 1000;

function keyOf(namespace: string | null, name: string): string {
  return namespace === null ? name : `${namespace}/${name}`;
}

function objectKey(object: KubernetesObject): string {
  return keyOf(object.metadata.namespace ?? null, object.metadata.name);
}

function inNamespace(object: KubernetesObject, namespace: string | null): boolean {
  return namespace === null || object.metadata.namespace === namespace;
}

/** An empty store; every write raises its resource version. */
export function createObjectStore(options: {
  readonly clock: VirtualClock;
  readonly random: Random;
  /** Events kept per resource for watches to resume from. */
  readonly watchHistory: number;
}): ObjectStore {
  const shelves = new Map<string, Shelf>();
  let revision = FIRST_RESOURCE_VERSION;

  function shelfOf(resource: ApiResource): Shelf {
    const key = `${resource.group}/${resource.plural}`;
    let shelf = shelves.get(key);
    if (shelf === undefined) {
      const empty = { objects: new Map(), listeners: new Set<(event: StoreEvent) => void>(), keys: [] };
      shelf = { ...empty, events: [], oldest: FIRST_RESOURCE_VERSION };
      shelves.set(key, shelf);
    }
    return shelf;
  }

  function record(shelf: Shelf, event: StoreEvent): void {
    shelf.events.push(event);
    if (shelf.events.length > 2 * options.watchHistory) forget(shelf, options.watchHistory);
    for (const listener of [...shelf.listeners]) listener(event);
  }

  function forget(shelf: Shelf, keep: number): void {
    const dropped = shelf.events.length - keep;
    if (dropped <= 0) return;
    shelf.oldest = shelf.events[dropped - 1]?.resourceVersion ?? revision;
    shelf.events = shelf.events.slice(dropped);
  }

  function list(resource: ApiResource, namespace: string | null): KubernetesObject[] {
    const shelf = shelfOf(resource);
    const all = shelf.keys.map((key) => shelf.objects.get(key) as KubernetesObject);
    return namespace === null ? all : all.filter((object) => inNamespace(object, namespace));
  }

  /** Undoes, newest first, what happened after that moment. */
  function objectsAsOf(resource: ApiResource, realMs: number): Map<string, KubernetesObject> {
    const shelf = shelfOf(resource);
    const past = new Map(shelf.objects);
    for (let index = shelf.events.length - 1; index >= 0; index -= 1) {
      const event = shelf.events[index] as StoreEvent;
      if (event.at <= realMs) break;
      if (event.previous === undefined) past.delete(objectKey(event.object));
      else past.set(objectKey(event.object), event.previous);
    }
    return past;
  }

  return {
    get: (resource, namespace, name) => shelfOf(resource).objects.get(keyOf(namespace, name)),
    list,
    put(resource, object) {
      const shelf = shelfOf(resource);
      const key = objectKey(object);
      const previous = shelf.objects.get(key);
      revision += 1;
      const metadata = { ...object.metadata, resourceVersion: String(revision) };
      const stored: KubernetesObject = { ...object, metadata };
      shelf.objects.set(key, stored);
      if (previous === undefined) shelf.keys.splice(positionOf(shelf.keys, key), 0, key);
      const type = previous === undefined ? 'ADDED' : 'MODIFIED';
      record(shelf, { type, resourceVersion: revision, object: stored, previous, at: Date.now() });
      return stored;
    },
    remove(resource, namespace, name) {
      const shelf = shelfOf(resource);
      const key = keyOf(namespace, name);
      const previous = shelf.objects.get(key);
      if (previous === undefined) return undefined;
      revision += 1;
      shelf.objects.delete(key);
      shelf.keys.splice(positionOf(shelf.keys, key), 1);
      const object = { ...previous, metadata: { ...previous.metadata, resourceVersion: String(revision) } };
      record(shelf, { type: 'DELETED', resourceVersion: revision, object, previous, at: Date.now() });
      return object;
    },
    resourceVersion: () => revision,
    eventsAfter(resource, resourceVersion) {
      const shelf = shelfOf(resource);
      if (resourceVersion < shelf.oldest) return undefined;
      return shelf.events.filter((event) => event.resourceVersion > resourceVersion);
    },
    oldestResourceVersion: (resource) => shelfOf(resource).oldest,
    compact() {
      for (const shelf of shelves.values()) {
        shelf.events = [];
        shelf.oldest = revision;
      }
    },
    subscribe(resource, listener) {
      const { listeners } = shelfOf(resource);
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    asOf: (realMs) => ({
      get: (resource, namespace, name) => objectsAsOf(resource, realMs).get(keyOf(namespace, name)),
      list: (resource, namespace) =>
        [...objectsAsOf(resource, realMs)]
          .sort(([left], [right]) => (left < right ? -1 : 1))
          .map(([, object]) => object)
          .filter((object) => inNamespace(object, namespace)),
    }),
    newUid: () => uuidFrom(options.random),
    timestamp: () => formatTimestamp(options.clock.now()),
  };
}

/** Where a key stands, or would have to stand, in an ordered list. */
function positionOf(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function formatTimestamp(epochMs: number): string {
  return `${new Date(epochMs).toISOString().slice(0, 19)}Z`;
}

function uuidFrom(random: Random): string {
  const hex = Array.from({ length: 32 }, () => Math.floor(random() * 16).toString(16)).join('');
  const variant = '89ab'[Math.floor(random() * 4)] ?? '8';
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `4${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20),
  ].join('-');
}
