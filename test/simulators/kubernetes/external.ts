import { defaulted } from './admission.ts';
import {
  type ApiResource,
  DEPLOYMENTS,
  HORIZONTAL_POD_AUTOSCALERS,
  NAMESPACES,
  SCALED_OBJECTS,
  STATEFUL_SETS,
  storedApiVersion,
} from './api-resources.ts';
import { notFound } from './api-status.ts';
import { LOAD_ANNOTATION } from './hpa-controller.ts';
import { cpuMetric } from './hpa-versions.ts';
import { asObject, type JsonObject, type KubernetesObject, ownerReference } from './json.ts';
import { trackUpdate } from './managed-fields.ts';
import { START_DELAY_ANNOTATION } from './pods.ts';
import { type ExternalChange, internalRequester, recordApplied, type Simulation } from './simulation.ts';

export interface WorkloadSeed {
  /** Default: `default`; made when it is missing. */
  readonly namespace?: string;
  readonly name: string;
  /** Default: 1. They are there and ready at once. */
  readonly replicas?: number;
  readonly requests?: { readonly cpu?: string; readonly memory?: string };
  /** Of the pods too, and selected by. Default: `app: name`. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly image?: string;
  /** Instead of the cluster's, for pods started later. */
  readonly startDelayMs?: number;
}

export interface StatefulSetSeed extends WorkloadSeed {
  readonly podManagementPolicy?: 'OrderedReady' | 'Parallel';
}

export interface HpaSeed {
  readonly namespace?: string;
  readonly name: string;
  readonly target: { readonly kind?: 'Deployment' | 'StatefulSet'; readonly name: string };
  readonly minReplicas?: number;
  readonly maxReplicas: number;
  /** Default: 80. */
  readonly targetCpuPercent?: number;
}

export interface ScaledObjectSeed {
  readonly namespace?: string;
  readonly name: string;
  readonly target: { readonly kind?: 'Deployment' | 'StatefulSet'; readonly name: string };
  readonly minReplicaCount?: number;
  readonly maxReplicaCount?: number;
  /** KEDA makes an autoscaler of its own for each of them; default false, as nothing here plays KEDA. */
  readonly withHpa?: boolean;
}

const SEEDER = 'simulator';

export function seedDeployment(simulation: Simulation, seed: WorkloadSeed): KubernetesObject {
  return seedWorkload(simulation, DEPLOYMENTS, seed, {});
}

export function seedStatefulSet(simulation: Simulation, seed: StatefulSetSeed): KubernetesObject {
  const { podManagementPolicy = 'OrderedReady' } = seed;
  return seedWorkload(simulation, STATEFUL_SETS, seed, { serviceName: seed.name, podManagementPolicy });
}

function seedWorkload(
  simulation: Simulation,
  resource: ApiResource,
  seed: WorkloadSeed,
  spec: JsonObject,
): KubernetesObject {
  const labels = seed.labels ?? { app: seed.name };
  const { startDelayMs, replicas = 1, image = 'registry.example/app:1.0', requests = {} } = seed;
  const annotations: Readonly<Record<string, string>> = {
    ...seed.annotations,
    ...(startDelayMs === undefined ? {} : { [START_DELAY_ANNOTATION]: String(startDelayMs) }),
  };
  const container = { name: seed.name, image, resources: { requests: { ...requests } } };
  const workload = seedObject(simulation, resource, seed, {
    metadata: { labels, ...(Object.keys(annotations).length === 0 ? {} : { annotations }) },
    spec: {
      ...spec,
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [container] } },
    },
    status: {},
  });
  simulation.workloads.settle(resource, workload);
  return (
    simulation.store.get(resource, workload.metadata.namespace ?? null, workload.metadata.name) ?? workload
  );
}

export function seedHpa(simulation: Simulation, seed: HpaSeed, owner?: KubernetesObject): KubernetesObject {
  const { target, minReplicas = 1, maxReplicas, targetCpuPercent = 80 } = seed;
  const ownerReferences = owner === undefined ? [] : [ownerReference(owner)];
  return seedObject(simulation, HORIZONTAL_POD_AUTOSCALERS, seed, {
    ...(owner === undefined ? {} : { metadata: { ownerReferences } }),
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: target.kind ?? 'Deployment', name: target.name },
      minReplicas,
      maxReplicas,
      metrics: [cpuMetric(targetCpuPercent)],
    },
    status: { currentReplicas: 0, desiredReplicas: 0 },
  });
}

export function seedScaledObject(simulation: Simulation, seed: ScaledObjectSeed): KubernetesObject {
  const { target, minReplicaCount = 0, maxReplicaCount = 100 } = seed;
  const scaledObject = seedObject(simulation, SCALED_OBJECTS, seed, {
    spec: {
      scaleTargetRef: { kind: target.kind ?? 'Deployment', name: target.name },
      minReplicaCount,
      maxReplicaCount,
      triggers: [{ type: 'cpu', metricType: 'Utilization', metadata: { value: '80' } }],
    },
  });
  if (seed.withHpa === true) {
    const limits = { minReplicas: Math.max(1, minReplicaCount), maxReplicas: maxReplicaCount };
    const { namespace = 'default', name } = seed;
    seedHpa(simulation, { namespace, name: `keda-hpa-${name}`, target, ...limits }, scaledObject);
  }
  return scaledObject;
}

export function seedNamespace(simulation: Simulation, name: string): void {
  if (simulation.store.get(NAMESPACES, null, name) !== undefined) return;
  const labels = { 'kubernetes.io/metadata.name': name };
  seedObject(simulation, NAMESPACES, { name }, { metadata: { labels }, status: { phase: 'Active' } });
}

function seedObject(
  simulation: Simulation,
  resource: ApiResource,
  { namespace = 'default', name }: { readonly namespace?: string; readonly name: string },
  content: JsonObject,
): KubernetesObject {
  const { store } = simulation;
  if (resource.namespaced) seedNamespace(simulation, namespace);
  const draft: KubernetesObject = {
    ...defaulted(resource, content),
    apiVersion: storedApiVersion(resource),
    kind: resource.kind,
    metadata: {
      ...asObject(content.metadata),
      name,
      ...(resource.namespaced ? { namespace } : {}),
      uid: store.newUid(),
      resourceVersion: '',
      generation: 1,
      creationTimestamp: store.timestamp(),
    },
  };
  const managedFields = trackUpdate({}, draft, managerOf(simulation, resource, SEEDER));
  const seeded = store.put(resource, { ...draft, metadata: { ...draft.metadata, managedFields } });
  recordApplied(simulation, internalRequester('Seed', SEEDER), resource, undefined, seeded);
  return seeded;
}

function managerOf(
  { store }: Simulation,
  resource: ApiResource,
  manager: string,
  subresource: string | null = null,
) {
  return { manager, apiVersion: storedApiVersion(resource), subresource, time: store.timestamp() };
}

export interface ObjectName {
  readonly resource: ApiResource;
  readonly namespace: string;
  readonly name: string;
}

/** Changes a workload as its owner would beside us. @throws ApiError when it is not there. */
export function changeExternally(simulation: Simulation, at: ObjectName, change: ExternalChange): void {
  const { resource, namespace, name } = at;
  const user = change.user ?? 'external-writer';
  const requester = internalRequester('ExternalWriter', user);
  const before = simulation.store.get(resource, namespace, name);
  if (before === undefined) throw notFound(resource, name);
  if (change.remove === true || change.recreate === true) {
    simulation.store.remove(resource, namespace, name);
    recordApplied(simulation, requester, resource, before, undefined);
  }
  if (change.recreate === true) {
    const { uid: _, generation: __, managedFields: ___, annotations, ...kept } = before.metadata;
    const metadata = {
      ...kept,
      ...(annotations === undefined ? {} : { annotations: withoutRevision(annotations) }),
    };
    const spec = {
      ...asObject(before.spec),
      ...(change.replicas === undefined ? {} : { replicas: change.replicas }),
    };
    seedObject(simulation, resource, { namespace, name }, { metadata, spec, status: {} });
  } else if (change.remove !== true && change.replicas !== undefined) {
    setReplicas(simulation, at, change.replicas, user, requester);
  }
}

function withoutRevision(annotations: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(annotations).filter(([key]) => !key.startsWith('deployment.kubernetes.io/')),
  );
}

/** What a controller or a person does through `scale`, without HTTP. */
export function setReplicas(
  simulation: Simulation,
  { resource, namespace, name }: ObjectName,
  replicas: number,
  manager: string,
  requester = internalRequester('ExternalWriter', manager),
): void {
  const before = simulation.store.get(resource, namespace, name);
  if (before === undefined) throw notFound(resource, name);
  const generation = (before.metadata.generation ?? 0) + 1;
  const changed = { ...before, spec: { ...asObject(before.spec), replicas } };
  const managedFields = trackUpdate(before, changed, managerOf(simulation, resource, manager, 'scale'));
  const after = simulation.store.put(resource, {
    ...changed,
    metadata: { ...before.metadata, generation, managedFields },
  });
  recordApplied(simulation, requester, resource, before, after);
}

/** Says how busy a workload is, for the simulated autoscaler: percent of one pod's CPU request, over all pods. */
export function setLoad(
  simulation: Simulation,
  { resource, namespace, name }: ObjectName,
  percent: number,
): void {
  const before = simulation.store.get(resource, namespace, name);
  if (before === undefined) throw notFound(resource, name);
  const annotations = { ...before.metadata.annotations, [LOAD_ANNOTATION]: String(percent) };
  simulation.store.put(resource, { ...before, metadata: { ...before.metadata, annotations } });
}
