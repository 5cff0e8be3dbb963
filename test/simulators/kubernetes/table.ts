import {
  type ApiResource,
  DEPLOYMENTS,
  EVENTS,
  HORIZONTAL_POD_AUTOSCALERS,
  NAMESPACES,
  POD_DISRUPTION_BUDGETS,
  PODS,
  REPLICA_SETS,
  SCALED_OBJECTS,
  STATEFUL_SETS,
} from './api-resources.ts';
import {
  asArray,
  asObject,
  asString,
  type Json,
  type JsonObject,
  type KubernetesObject,
  numberAt,
  stringAt,
  valueAt,
} from './json.ts';
import { selectorString } from './selectors.ts';

type Cell = (object: KubernetesObject, now: number) => Json;

interface Column {
  readonly name: string;
  readonly type: 'string' | 'integer';
  /** Shown with `-o wide` only. */
  readonly wide?: boolean;
  readonly cell: Cell;
}

const text = (name: string, cell: Cell): Column => ({ name, type: 'string', cell });
const wide = (name: string, cell: Cell): Column => ({ name, type: 'string', wide: true, cell });
const count = (name: string, path: string): Column => ({
  name,
  type: 'integer',
  cell: (object) => numberAt(object, path),
});

const NAME = text('Name', (object) => object.metadata.name);
const AGE = text('Age', (object, now) => age(object.metadata.creationTimestamp, now));
const CONTAINERS = wide('Containers', (object) => containersOf(object, 'name'));
const IMAGES = wide('Images', (object) => containersOf(object, 'image'));
const SELECTOR = wide('Selector', (object) => selectorString(valueAt(object, 'spec.selector')));
const READY_REPLICAS = text(
  'Ready',
  (object) => `${numberAt(object, 'status.readyReplicas')}/${numberAt(object, 'spec.replicas')}`,
);

const COLUMNS = new Map<ApiResource, readonly Column[]>([
  [NAMESPACES, [NAME, text('Status', (object) => stringAt(object, 'status.phase', 'Active')), AGE]],
  [
    DEPLOYMENTS,
    [
      NAME,
      READY_REPLICAS,
      count('Up-to-date', 'status.updatedReplicas'),
      count('Available', 'status.availableReplicas'),
      AGE,
      CONTAINERS,
      IMAGES,
      SELECTOR,
    ],
  ],
  [STATEFUL_SETS, [NAME, READY_REPLICAS, AGE, CONTAINERS, IMAGES]],
  [
    REPLICA_SETS,
    [
      NAME,
      count('Desired', 'spec.replicas'),
      count('Current', 'status.replicas'),
      count('Ready', 'status.readyReplicas'),
      AGE,
      CONTAINERS,
      IMAGES,
      SELECTOR,
    ],
  ],
  [
    PODS,
    [
      NAME,
      text('Ready', (pod) => `${isReady(pod) ? 1 : 0}/${asArray(valueAt(pod, 'spec.containers')).length}`),
      text('Status', podStatus),
      count('Restarts', 'status.restarts'),
      AGE,
      wide('IP', (pod) => stringAt(pod, 'status.podIP', '<none>')),
      wide('Node', (pod) => stringAt(pod, 'spec.nodeName', '<none>')),
    ],
  ],
  [
    HORIZONTAL_POD_AUTOSCALERS,
    [
      NAME,
      text('Reference', (hpa) =>
        ['kind', 'name'].map((key) => stringAt(hpa, `spec.scaleTargetRef.${key}`)).join('/'),
      ),
      text('Targets', autoscalerTargets),
      text('MinPods', (hpa) => String(numberAt(hpa, 'spec.minReplicas', 1))),
      count('MaxPods', 'spec.maxReplicas'),
      count('Replicas', 'status.currentReplicas'),
      AGE,
    ],
  ],
  [
    EVENTS,
    [
      text('Last Seen', (event, now) => age(stringAt(event, 'lastTimestamp'), now)),
      text('Type', (event) => stringAt(event, 'type')),
      text('Reason', (event) => stringAt(event, 'reason')),
      text('Object', (event) => {
        const kind = stringAt(event, 'involvedObject.kind').toLowerCase();
        return `${kind}/${stringAt(event, 'involvedObject.name')}`;
      }),
      text('Message', (event) => stringAt(event, 'message')),
    ],
  ],
  [
    POD_DISRUPTION_BUDGETS,
    [
      NAME,
      text('Min Available', (budget) => orNotApplicable(valueAt(budget, 'spec.minAvailable'))),
      text('Max Unavailable', (budget) => orNotApplicable(valueAt(budget, 'spec.maxUnavailable'))),
      count('Allowed Disruptions', 'status.disruptionsAllowed'),
      AGE,
    ],
  ],
  [
    SCALED_OBJECTS,
    [
      NAME,
      text('ScaleTargetKind', (object) => stringAt(object, 'spec.scaleTargetRef.kind', 'Deployment')),
      text('ScaleTargetName', (object) => stringAt(object, 'spec.scaleTargetRef.name')),
      count('Min', 'spec.minReplicaCount'),
      count('Max', 'spec.maxReplicaCount'),
      AGE,
    ],
  ],
]);

export interface TableRequest {
  readonly resource: ApiResource;
  readonly items: readonly KubernetesObject[];
  readonly metadata: JsonObject;
  /** `None`, `Metadata` (the default) or `Object`: what each row carries beside its cells. */
  readonly includeObject: string;
  readonly now: number;
}

/** The server prints, kubectl aligns: what `kubectl get` shows is decided here. */
export function tableOf({ resource, items, metadata, includeObject, now }: TableRequest): JsonObject {
  const columns = COLUMNS.get(resource) ?? [NAME, AGE];
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns.map(({ name, type, wide: isWide }) => {
      const format = name === 'Name' ? 'name' : '';
      return { name, type, format, description: name, priority: isWide === true ? 1 : 0 };
    }),
    rows: items.map((object) => ({
      cells: columns.map(({ cell }) => cell(object, now)),
      ...rowObject(object, includeObject),
    })),
  };
}

function rowObject(object: KubernetesObject, includeObject: string): JsonObject {
  if (includeObject === 'None') return {};
  return { object: includeObject === 'Object' ? object : metadataOnly(object) };
}

export function metadataOnly(object: KubernetesObject): KubernetesObject {
  return { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata };
}

function containersOf(object: KubernetesObject, field: 'name' | 'image'): string {
  return asArray(valueAt(object, 'spec.template.spec.containers'))
    .map((container) => stringAt(container, field))
    .join(',');
}

function orNotApplicable(value: Json | undefined): string {
  return value === undefined || value === null ? 'N/A' : String(value);
}

export function isReady(pod: JsonObject): boolean {
  return asArray(valueAt(pod, 'status.conditions')).some(
    (condition) => stringAt(condition, 'type') === 'Ready' && stringAt(condition, 'status') === 'True',
  );
}

function podStatus(pod: KubernetesObject): string {
  if (pod.metadata.deletionTimestamp !== undefined) return 'Terminating';
  const scheduled = stringAt(pod, 'spec.nodeName') !== '';
  const phase = stringAt(pod, 'status.phase', 'Pending');
  return phase === 'Pending' && scheduled ? 'ContainerCreating' : phase;
}

function autoscalerTargets(hpa: KubernetesObject): string {
  const metrics = asArray(valueAt(hpa, 'spec.metrics'));
  const current = asArray(valueAt(hpa, 'status.currentMetrics'));
  const targets = metrics.map((metric, index) => {
    const name = asString(asObject(asObject(metric).resource).name, asString(asObject(metric).type));
    const target = numberAt(metric, 'resource.target.averageUtilization');
    const now = valueAt(current[index], 'resource.current.averageUtilization');
    return `${name}: ${typeof now === 'number' ? `${now}%` : '<unknown>'}/${target}%`;
  });
  return targets.length === 0 ? '<none>' : targets.join(', ');
}

/** kubectl's short durations: 59s, 5m30s, 45m, 7h12m, 3d4h, 40d. */
export function age(timestamp: string, now: number): string {
  const seconds = Math.floor((now - Date.parse(timestamp)) / 1000);
  if (Number.isNaN(seconds)) return '<unknown>';
  if (seconds < -1) return '<invalid>';
  if (seconds < 120) return `${Math.max(0, seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return pair(minutes, 'm', seconds % 60, 's');
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return pair(hours, 'h', minutes % 60, 'm');
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  return days < 8 ? pair(days, 'd', hours % 24, 'h') : `${days}d`;
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit}${small}${smallUnit}`;
}
