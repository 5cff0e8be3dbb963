import { EVENTS } from './api-resources.ts';
import type { KubernetesObject } from './json.ts';
import type { ObjectStore } from './object-store.ts';

/** A real server forgets events after an hour; we forget the oldest. */
const KEPT_EVENTS = 500;

export interface ClusterEvent {
  readonly about: KubernetesObject;
  readonly type: 'Normal' | 'Warning';
  readonly reason: string;
  readonly message: string;
  readonly component: string;
}

export type EventRecorder = (event: ClusterEvent) => void;

/** Writes the Event objects `kubectl describe` shows at its end. */
export function createEventRecorder(store: ObjectStore): EventRecorder {
  const names: { namespace: string; name: string }[] = [];
  let count = 0;
  return ({ about, type, reason, message, component }) => {
    count += 1;
    const namespace = about.metadata.namespace ?? 'default';
    const name = `${about.metadata.name}.${count.toString(16).padStart(16, '0')}`;
    const time = store.timestamp();
    const { uid, resourceVersion } = about.metadata;
    store.put(EVENTS, {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name, namespace, uid: store.newUid(), resourceVersion: '', creationTimestamp: time },
      involvedObject: {
        kind: about.kind,
        namespace,
        name: about.metadata.name,
        uid,
        apiVersion: about.apiVersion,
        resourceVersion,
      },
      reason,
      message,
      source: { component },
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
      type,
      eventTime: null,
      reportingComponent: component,
      reportingInstance: '',
    });
    names.push({ namespace, name });
    const oldest = names.length > KEPT_EVENTS ? names.shift() : undefined;
    if (oldest !== undefined) store.remove(EVENTS, oldest.namespace, oldest.name);
  };
}
