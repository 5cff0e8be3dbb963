import { type ApiCall, present } from './api-call.ts';
import { type ApiError, expired } from './api-status.ts';
import { isObject, type JsonObject, type KubernetesObject } from './json.ts';
import type { StoreEvent } from './object-store.ts';
import { isTrue } from './request-info.ts';
import { matcherFrom } from './selectors.ts';

export interface WatchStream {
  readonly send: (type: string, object: JsonObject) => void;
  /** As `send`, for a whole object, which the client may want as a Table. */
  readonly sendObject: (type: string, object: KubernetesObject) => void;
  readonly end: () => void;
}

/** Feeds the stream until it is stopped or `timeoutSeconds` are over. Returns how to stop it. */
export function watch(call: ApiCall, stream: WatchStream, bookmarkIntervalMs: number): () => void {
  const { resource, version, namespace, name } = call.target;
  const { query, store } = call;
  const selected = matcherFrom(resource, query);
  const matches = (object: KubernetesObject): boolean =>
    (namespace === null || object.metadata.namespace === namespace) &&
    (name === null || object.metadata.name === name) &&
    selected(object);

  function forward(event: StoreEvent): void {
    const [was, is] = [event.previous !== undefined && matches(event.previous), matches(event.object)];
    const type = seenAs(event.type, was, is);
    if (type !== undefined) stream.sendObject(type, present(resource, version, event.object));
  }

  function bookmark(annotations?: JsonObject): void {
    const metadata = {
      resourceVersion: String(store.resourceVersion()),
      creationTimestamp: null,
      ...(annotations === undefined ? {} : { annotations }),
    };
    stream.send('BOOKMARK', { kind: resource.kind, apiVersion: call.target.version, metadata });
  }

  const wantsInitialEvents = isTrue(query.get('sendInitialEvents'));
  const since = Number(query.get('resourceVersion') ?? '') || 0;
  if (since === 0 || wantsInitialEvents) {
    for (const object of store.list(resource, namespace).filter(matches)) {
      stream.sendObject('ADDED', present(resource, version, object));
    }
    if (wantsInitialEvents) bookmark({ 'k8s.io/initial-events-end': 'true' });
  } else {
    const missed = store.eventsAfter(resource, since);
    if (missed === undefined) {
      sendError(stream, expired(since, store.oldestResourceVersion(resource)));
      stream.end();
      return () => {};
    }
    for (const event of missed) forward(event);
  }

  const unsubscribe = store.subscribe(resource, forward);
  const bookmarks = isTrue(query.get('allowWatchBookmarks'))
    ? setInterval(bookmark, bookmarkIntervalMs)
    : undefined;
  const timeoutSeconds = Number(query.get('timeoutSeconds') ?? 0);
  const timeout = timeoutSeconds > 0 ? setTimeout(finish, timeoutSeconds * 1000) : undefined;

  function stop(): void {
    unsubscribe();
    clearInterval(bookmarks);
    clearTimeout(timeout);
  }
  function finish(): void {
    stop();
    stream.end();
  }
  return stop;
}

/** An object that leaves the selection is deleted to this watcher, one that enters it is added. */
function seenAs(type: StoreEvent['type'], was: boolean, is: boolean): StoreEvent['type'] | undefined {
  if (type === 'ADDED') return is ? 'ADDED' : undefined;
  if (type === 'DELETED') return was ? 'DELETED' : undefined;
  if (was && is) return 'MODIFIED';
  if (is) return 'ADDED';
  return was ? 'DELETED' : undefined;
}

function sendError(stream: WatchStream, error: ApiError): void {
  stream.send('ERROR', isObject(error.body) ? error.body : { message: error.message });
}
