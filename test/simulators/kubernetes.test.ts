import {
  KubernetesObjectApi,
  makeInformer,
  PatchStrategy,
  setHeaderOptions,
  type V1Deployment,
  type V1Pod,
  type V1Scale,
} from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type KubernetesClients, kubernetesClients, refusalOf } from './kubernetes/clients.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from './kubernetes/server.ts';

const WEB = { namespace: 'default', name: 'web' };
const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
const strategic = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
const MODIFIED =
  'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; ' +
  'please apply your changes to the latest version and try again';

let simulator: KubernetesSimulator;
let clients: KubernetesClients;

async function start(options: Parameters<typeof startKubernetesSimulator>[0] = {}): Promise<void> {
  await simulator?.close();
  // No jitter and a frozen clock: nothing happens until a test advances it.
  simulator = await startKubernetesSimulator({
    timeScale: 0,
    startDelayMs: 10_000,
    startJitter: 0,
    stopDelayMs: 5_000,
    ...options,
  });
  clients = kubernetesClients(simulator.kubeconfig);
}

beforeEach(async () => {
  await start();
  simulator.createDeployment({ name: 'web', replicas: 3, requests: { cpu: '500m', memory: '1Gi' } });
});

afterEach(() => simulator.close());

function readScale(): Promise<V1Scale> {
  return clients.apps.readNamespacedDeploymentScale(WEB);
}

function writeScale(metadata: V1Scale['metadata'], replicas: number, options: { dryRun?: string } = {}) {
  const body: V1Scale = {
    apiVersion: 'autoscaling/v1',
    kind: 'Scale',
    metadata: { ...WEB, ...metadata },
    spec: { replicas },
  };
  return clients.apps.replaceNamespacedDeploymentScale({ ...WEB, body, ...options });
}

function patchScale(body: unknown, contentType?: string, more: object = {}): Promise<V1Scale> {
  const options = contentType === undefined ? undefined : setHeaderOptions('Content-Type', contentType);
  return clients.apps.patchNamespacedDeploymentScale({ ...WEB, body, ...more }, options);
}

const web = () => simulator.workload('default', 'web');

function desired(name = 'web'): number | undefined {
  return simulator.workload('default', name)?.replicas;
}

describe('the scale subresource', () => {
  it("carries the workload's uid and resourceVersion, and the selector as text", async () => {
    const scale = await readScale();
    const deployment = await clients.apps.readNamespacedDeployment(WEB);
    expect(scale).toMatchObject({ apiVersion: 'autoscaling/v1', kind: 'Scale', spec: { replicas: 3 } });
    expect(scale.status).toMatchObject({ replicas: 3, selector: 'app=web' });
    expect(scale.metadata?.uid).toBe(deployment.metadata?.uid);
    expect(scale.metadata?.resourceVersion).toBe(deployment.metadata?.resourceVersion);
  });

  it('is written when the resourceVersion and uid are current, and raises the generation', async () => {
    const { metadata } = await readScale();
    const written = await writeScale(metadata, 5);
    expect(written.spec?.replicas).toBe(5);
    expect(Number(written.metadata?.resourceVersion)).toBeGreaterThan(Number(metadata?.resourceVersion));
    expect(web()).toMatchObject({ replicas: 5, generation: 2 });
  });

  it('refuses an old resourceVersion with a conflict, in a PUT and in a merge patch', async () => {
    const { metadata } = await readScale();
    simulator.changeExternally('default', 'web', { replicas: 4 });
    const conflict = { code: 409, reason: 'Conflict', message: MODIFIED };
    expect(await refusalOf(writeScale(metadata, 5))).toMatchObject(conflict);
    const patch = { metadata: { resourceVersion: metadata?.resourceVersion }, spec: { replicas: 5 } };
    expect(await refusalOf(patchScale(patch, PatchStrategy.MergePatch))).toMatchObject(conflict);
    expect(desired()).toBe(4);
  });

  it('refuses the uid of an object that was deleted and made again', async () => {
    const { metadata } = await readScale();
    simulator.changeExternally('default', 'web', { recreate: true });
    const refusal = await refusalOf(writeScale({ ...(metadata?.uid && { uid: metadata.uid }) }, 5));
    expect(refusal).toMatchObject({ code: 409, reason: 'Conflict' });
    expect(refusal.message).toMatch(/^Operation cannot be .* Precondition failed: UID in precondition: /);
    expect(desired()).toBe(3);
  });

  it('takes the last write when no resourceVersion is sent', async () => {
    simulator.changeExternally('default', 'web', { replicas: 4 });
    await writeScale({}, 6);
    expect(desired()).toBe(6);
  });

  it.each([
    [PatchStrategy.MergePatch, { spec: { replicas: 7 } }],
    [PatchStrategy.StrategicMergePatch, { spec: { replicas: 7 } }],
    [
      PatchStrategy.JsonPatch,
      [
        { op: 'test', path: '/spec/replicas', value: 3 },
        { op: 'replace', path: '/spec/replicas', value: 7 },
      ],
    ],
  ])('takes a %s', async (contentType, body) => {
    expect((await patchScale(body, contentType)).spec?.replicas).toBe(7);
    expect(desired()).toBe(7);
  });

  it('answers a failed JSON patch test with 422, not 409', async () => {
    const body = [
      { op: 'test', path: '/spec/replicas', value: 9 },
      { op: 'replace', path: '/spec/replicas', value: 7 },
    ];
    expect(await refusalOf(patchScale(body))).toMatchObject({
      code: 422,
      reason: 'Invalid',
      message: 'the server rejected our request due to an error in our request',
    });
    expect(desired()).toBe(3);
  });

  it('takes an object sent as a JSON patch for a bad request: client-node sends that by default', async () => {
    expect(await refusalOf(patchScale({ spec: { replicas: 7 } }))).toMatchObject({ code: 400 });
  });

  it('names the cause when replicas are negative', async () => {
    const { metadata } = await readScale();
    expect(await refusalOf(writeScale(metadata, -1))).toMatchObject({
      code: 422,
      reason: 'Invalid',
      message:
        'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0',
      causes: [{ reason: 'FieldValueInvalid', field: 'spec.replicas' }],
    });
  });

  it.each([1.5, 2 ** 53, '5', true])('takes %j replicas for a bad request', async (replicas) => {
    const refusal = await refusalOf(patchScale({ spec: { replicas } }, PatchStrategy.MergePatch));
    expect(refusal).toMatchObject({ code: 400, reason: 'BadRequest' });
    expect(desired()).toBe(3);
  });

  it('moves neither version nor generation when nothing changes', async () => {
    const before = await readScale();
    const after = await writeScale(before.metadata, 3);
    expect(after.metadata?.resourceVersion).toBe(before.metadata?.resourceVersion);
    expect(simulator.ledger.writes().at(-1)).toMatchObject({ from: 3, to: 3, outcome: 'unchanged' });
  });

  it('changes nothing in a dry run', async () => {
    const { metadata } = await readScale();
    expect((await writeScale(metadata, 9, { dryRun: 'All' })).spec?.replicas).toBe(9);
    expect(desired()).toBe(3);
    expect(await refusalOf(writeScale(metadata, -1, { dryRun: 'All' }))).toMatchObject({ code: 422 });
  });

  it('is owned by whoever applied it, until somebody forces it', async () => {
    const apply = (manager: string, replicas: number, force?: boolean) =>
      patchScale(
        { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: WEB, spec: { replicas } },
        PatchStrategy.ServerSideApply,
        { fieldManager: manager, ...(force && { force }) },
      );
    await apply('first', 4, true);
    const refusal = await refusalOf(apply('second', 6));
    expect(refusal).toMatchObject({
      code: 409,
      reason: 'Conflict',
      message: 'Apply failed with 1 conflict: conflict with "first" with subresource "scale": .spec.replicas',
      causes: [{ reason: 'FieldManagerConflict', field: '.spec.replicas' }],
    });
    expect((await apply('second', 4)).spec?.replicas).toBe(4);
    await apply('second', 6, true);
    expect(desired()).toBe(6);
  });

  it('makes most of 8 callers that read and then write meet a conflict', async () => {
    const once = async (replicas: number): Promise<number> => {
      const { metadata } = await readScale();
      return writeScale(metadata, replicas).then(
        () => 200,
        (error: { code: number }) => error.code,
      );
    };
    const codes = await Promise.all([11, 12, 13, 14, 15, 16, 17, 18].map(once));
    expect(new Set(codes)).toEqual(new Set([200, 409]));
    const writes = simulator.ledger.writes().filter((entry) => entry.action === 'update deployments/scale');
    expect(writes).toHaveLength(codes.filter((code) => code === 200).length);
  });
});

describe('requests the server refuses', () => {
  it('tells an unknown object from an unknown API group', async () => {
    const missing = clients.apps.readNamespacedDeploymentScale({ ...WEB, name: 'nope' });
    expect(await refusalOf(missing)).toMatchObject({
      code: 404,
      reason: 'NotFound',
      message: 'deployments.apps "nope" not found',
    });
    const strange = clients.custom.listClusterCustomObject({
      group: 'no.such',
      version: 'v1',
      plural: 'things',
    });
    const refusal = await refusalOf(strange);
    expect(refusal).toMatchObject({ code: 404, reason: undefined });
    expect(refusal.contentType).toMatch(/^text\/plain/);
    expect(refusal.text).toBe('404 page not found\n');
  });

  it('refuses a body whose name is not the one in the URL', async () => {
    const body = { metadata: { ...WEB, name: 'other' }, spec: { replicas: 1 } };
    expect(await refusalOf(clients.apps.replaceNamespacedDeploymentScale({ ...WEB, body }))).toMatchObject({
      code: 400,
      message: 'the name of the object (other) does not match the name on the URL (web)',
    });
  });

  it('refuses plain JSON as a patch and an unknown Accept', async () => {
    expect(await refusalOf(patchScale({ spec: { replicas: 1 } }, 'application/json'))).toMatchObject({
      code: 415,
      reason: 'UnsupportedMediaType',
    });
    const answer = await fetch(`${simulator.url}/apis/apps/v1/deployments`, {
      headers: { accept: 'text/csv' },
    });
    expect(answer.status).toBe(406);
    expect(await answer.json()).toMatchObject({ kind: 'Status', reason: 'NotAcceptable' });
  });

  it('refuses malformed JSON and a method nobody serves', async () => {
    const scale = `${simulator.url}/apis/apps/v1/namespaces/default/deployments/web/scale`;
    const headers = { 'content-type': 'application/json' };
    expect((await fetch(scale, { method: 'PUT', body: '{"spec":', headers })).status).toBe(400);
    const deleted = await fetch(scale, { method: 'DELETE' });
    expect(deleted.status).toBe(405);
    expect(await deleted.json()).toMatchObject({ reason: 'MethodNotAllowed' });
  });

  it('tells a taken name from a conflict by the reason alone', async () => {
    const body = deployment('web', 1);
    const refusal = await refusalOf(clients.apps.createNamespacedDeployment({ namespace: 'default', body }));
    expect(refusal).toMatchObject({
      code: 409,
      reason: 'AlreadyExists',
      message: 'deployments.apps "web" already exists',
    });
  });

  it('validates what is created', async () => {
    const create = (body: V1Deployment) =>
      refusalOf(clients.apps.createNamespacedDeployment({ namespace: 'default', body }));
    expect(await create(deployment('Bad_Name', 1))).toMatchObject({
      code: 422,
      causes: [{ field: 'metadata.name' }],
    });
    expect(await create(deployment('api', 1, { app: 'other' }))).toMatchObject({
      code: 422,
      causes: [{ field: 'spec.template.metadata.labels' }],
    });
    const nowhere = clients.apps.createNamespacedDeployment({
      namespace: 'nowhere',
      body: deployment('api', 1),
    });
    expect(await refusalOf(nowhere)).toMatchObject({ code: 404, message: 'namespaces "nowhere" not found' });
  });
});

function deployment(name: string, replicas: number, podLabels = { app: name }): V1Deployment {
  const labels = { app: name };
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, labels },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: { metadata: { labels: podLabels }, spec: { containers: [{ name, image: `${name}:1` }] } },
    },
  };
}

describe('objects', () => {
  it('are created with defaults, replaced, patched by container name and deleted', async () => {
    const created = await clients.apps.createNamespacedDeployment({
      namespace: 'default',
      body: deployment('api', 2),
    });
    expect(created.spec).toMatchObject({ revisionHistoryLimit: 10, strategy: { type: 'RollingUpdate' } });
    expect(created.metadata).toMatchObject({ generation: 1, managedFields: [{ operation: 'Update' }] });

    const at = { namespace: 'default', name: 'api' };
    const patch = {
      metadata: { annotations: { note: 'x' } },
      spec: { template: { spec: { containers: [{ name: 'api', env: [{ name: 'A', value: '1' }] }] } } },
    };
    const patched = await clients.apps.patchNamespacedDeployment({ ...at, body: patch }, strategic);
    const [container] = patched.spec?.template.spec?.containers ?? [];
    expect(container).toMatchObject({ name: 'api', image: 'api:1', env: [{ name: 'A', value: '1' }] });
    expect(patched.metadata?.generation).toBe(2);

    const labelled = { ...patched, metadata: { ...patched.metadata, labels: { app: 'api', tier: 'front' } } };
    const replaced = await clients.apps.replaceNamespacedDeployment({ ...at, body: labelled });
    expect(replaced.metadata?.generation).toBe(2); // labels are no spec

    const gone = await clients.apps.deleteNamespacedDeployment(at);
    expect(gone.status).toBe('Success');
    expect(await refusalOf(clients.apps.readNamespacedDeployment(at))).toMatchObject({ code: 404 });
  });

  it('change their status through /status only', async () => {
    const before = await clients.apps.readNamespacedDeployment(WEB);
    const body = {
      ...before,
      spec: { ...before.spec, replicas: 9 },
      status: { readyReplicas: 1 },
    } as V1Deployment;
    const after = await clients.apps.replaceNamespacedDeploymentStatus({ ...WEB, body });
    expect(after.status?.readyReplicas).toBe(1);
    expect(after.spec?.replicas).toBe(3);
  });

  it('are listed by labels, by name and in pages', async () => {
    for (const name of ['a', 'b', 'c', 'd']) {
      simulator.createDeployment({
        name,
        namespace: 'shop',
        labels: { app: name, team: name < 'c' ? 'x' : 'y' },
      });
    }
    const names = (list: { items: { metadata?: { name?: string } }[] }) =>
      list.items.map((o) => o.metadata?.name);
    const namespace = 'shop';
    const list = clients.apps.listNamespacedDeployment.bind(clients.apps);
    expect(names(await list({ namespace, labelSelector: 'team=x' }))).toEqual(['a', 'b']);
    expect(names(await list({ namespace, labelSelector: 'team in (x,y),app notin (a),app!=b' }))).toEqual([
      'c',
      'd',
    ]);
    expect(names(await list({ namespace, labelSelector: '!team' }))).toEqual([]);
    expect(names(await list({ namespace, fieldSelector: 'metadata.name=c' }))).toEqual(['c']);
    expect(await refusalOf(list({ namespace, fieldSelector: 'spec.replicas=1' }))).toMatchObject({
      code: 400,
      message: 'field label not supported: spec.replicas',
    });
    const first = await list({ namespace, limit: 3 });
    expect(names(first)).toEqual(['a', 'b', 'c']);
    expect(first.metadata?.remainingItemCount).toBe(1);
    const rest = await list({ namespace, limit: 3, _continue: first.metadata?._continue ?? '' });
    expect(names(rest)).toEqual(['d']);
    expect(rest.metadata?._continue).toBeUndefined();
    expect(names(await clients.apps.listDeploymentForAllNamespaces())).toEqual(['web', 'a', 'b', 'c', 'd']);
  });

  it('include KEDA scaled objects, as plain custom resources', async () => {
    simulator.createScaledObject({ name: 'web', target: { name: 'web' }, minReplicaCount: 2 });
    const at = {
      group: 'keda.sh',
      version: 'v1alpha1',
      namespace: 'default',
      plural: 'scaledobjects',
      name: 'web',
    };
    const body = { spec: { minReplicaCount: 4 } };
    const patched = (await clients.custom.patchNamespacedCustomObject({ ...at, body }, merge)) as typeof body;
    expect(patched.spec).toMatchObject({ minReplicaCount: 4, scaleTargetRef: { name: 'web' } });
    expect(
      await refusalOf(clients.custom.patchNamespacedCustomObject({ ...at, body }, strategic)),
    ).toMatchObject({ code: 415 });
    expect(simulator.ledger.writes().at(-1)).toMatchObject({ resource: 'scaledobjects', from: 2, to: 4 });
  });
});

describe('KEDA', () => {
  const list = { group: 'keda.sh', version: 'v1alpha1', namespace: 'default', plural: 'scaledobjects' };

  it('shows itself by an autoscaler that a ScaledObject owns', async () => {
    simulator.createScaledObject({ name: 'web', target: { name: 'web' }, withHpa: true });
    const hpas = await clients.autoscaling.listNamespacedHorizontalPodAutoscaler({ namespace: 'default' });
    expect(hpas.items[0]?.metadata?.ownerReferences).toMatchObject([{ kind: 'ScaledObject', name: 'web' }]);
  });

  it('may not be installed: then its group is unknown', async () => {
    await start({ keda: false });
    expect(await refusalOf(clients.custom.listNamespacedCustomObject(list))).toMatchObject({
      code: 404,
      text: '404 page not found\n',
    });
    const groups = await (await fetch(`${simulator.url}/apis`)).text();
    expect(groups).toContain('autoscaling');
    expect(groups).not.toContain('keda');
  });
});

describe('access', () => {
  const tokens = {
    reader: { user: 'reader', rules: [{ verbs: ['get', 'list'], resources: ['*'] }] },
    scaler: {
      user: 'scaler',
      rules: [{ verbs: ['get', 'update'], resources: ['*/scale'], namespaces: ['default'] }],
    },
  };

  beforeEach(async () => {
    await start({ tokens });
    simulator.createDeployment({ name: 'web', replicas: 3 });
  });

  it('lets a token do what its rules say, and names what they do not', async () => {
    expect((await readScale()).spec?.replicas).toBe(3);
    const denied = {
      code: 403,
      reason: 'Forbidden',
      message:
        'deployments.apps "web" is forbidden: User "reader" cannot patch resource "deployments/scale" ' +
        'in API group "apps" in the namespace "default"',
    };
    expect(await refusalOf(patchScale({ spec: { replicas: 4 } }, PatchStrategy.MergePatch))).toMatchObject(
      denied,
    );
    clients = kubernetesClients(simulator.kubeconfigFor('scaler'));
    await writeScale({}, 4);
    expect(desired()).toBe(4);
    expect(await refusalOf(clients.apps.listDeploymentForAllNamespaces())).toMatchObject({
      message:
        'deployments.apps is forbidden: User "scaler" cannot list resource "deployments" in API group "apps" at the cluster scope',
    });
  });

  it('answers 401 to an unknown token and 403 to nobody', async () => {
    clients = kubernetesClients(simulator.kubeconfigFor('stolen'));
    expect(await refusalOf(readScale())).toMatchObject({ code: 401 });
    simulator.tokens.delete('reader');
    const answer = await fetch(`${simulator.url}/apis/apps/v1/deployments`);
    expect(answer.status).toBe(403);
    expect(await answer.text()).toContain('system:anonymous');
    expect((await fetch(`${simulator.url}/version`)).status).toBe(200);
  });

  it('tells a client what it may do', async () => {
    const review = (verb: string) =>
      clients.authorization.createSelfSubjectAccessReview({
        body: {
          spec: {
            resourceAttributes: {
              verb,
              group: 'apps',
              resource: 'deployments',
              subresource: 'scale',
              namespace: 'default',
            },
          },
        },
      });
    const [get, update] = [await review('get'), await review('update')];
    expect(get.status).toMatchObject({ allowed: true, reason: expect.stringContaining('RBAC: allowed by') });
    expect(update.status).toEqual({ allowed: false });
  });
});

describe('controllers', () => {
  it('let pods follow replicas after the start delay, and the status follow the pods', async () => {
    await writeScale({}, 5);
    expect((await clients.apps.readNamespacedDeployment(WEB)).status?.observedGeneration).toBe(1);
    simulator.clock.advance(1_000);
    const started = await clients.apps.readNamespacedDeployment(WEB);
    expect(started.status).toMatchObject({
      observedGeneration: 2,
      replicas: 5,
      readyReplicas: 3,
      unavailableReplicas: 2,
    });
    simulator.clock.advance(10_000);
    expect((await clients.apps.readNamespacedDeployment(WEB)).status).toMatchObject({
      replicas: 5,
      readyReplicas: 5,
    });
    const pods = await clients.core.listNamespacedPod({ namespace: 'default', labelSelector: 'app=web' });
    expect(pods.items.map((pod) => pod.status?.phase)).toEqual(Array(5).fill('Running'));
  });

  it('let pods go when replicas fall: not counted at once, gone after the stop delay', async () => {
    await writeScale({}, 1);
    simulator.clock.advance(1_000);
    expect(web()).toMatchObject({ currentReplicas: 1, readyReplicas: 1 });
    expect(Object.values(web()?.pods ?? {}).sort()).toEqual(['Running', 'Terminating', 'Terminating']);
    simulator.clock.advance(5_000);
    expect(Object.keys(web()?.pods ?? {})).toHaveLength(1);
  });

  it('leave pods pending that do not fit, and start them when there is room', async () => {
    simulator.setCapacity({ cpu: '2' });
    await writeScale({}, 6);
    simulator.clock.advance(60_000);
    expect(web()).toMatchObject({ currentReplicas: 6, readyReplicas: 4 });
    const pending = await clients.core.listNamespacedPod({
      namespace: 'default',
      fieldSelector: 'status.phase=Pending',
    });
    const why = (pod: V1Pod | undefined) =>
      pod?.status?.conditions?.find(({ type }) => type === 'PodScheduled');
    expect(pending.items).toHaveLength(2);
    expect(why(pending.items[0])).toMatchObject({ status: 'False', reason: 'Unschedulable' });
    expect(why(pending.items[0])?.message).toContain('1 Insufficient cpu');
    const events = await clients.core.listNamespacedEvent({
      namespace: 'default',
      fieldSelector: 'reason=FailedScheduling',
    });
    expect(events.items).toHaveLength(2);
    simulator.setCapacity({});
    simulator.clock.advance(10_000);
    simulator.clock.advance(100);
    expect(web()?.readyReplicas).toBe(6);
  });

  it('start a StatefulSet in order, and end it from the highest', async () => {
    simulator.createStatefulSet({ name: 'db', replicas: 1 });
    const at = { namespace: 'default', name: 'db' };
    await clients.apps.patchNamespacedStatefulSetScale({ ...at, body: { spec: { replicas: 3 } } }, merge);
    const pods = () => simulator.workload('default', 'db', 'StatefulSet')?.pods;
    simulator.clock.advance(100);
    expect(pods()).toEqual({ 'db-0': 'Running', 'db-1': 'Pending' });
    simulator.clock.advance(10_100);
    expect(pods()).toEqual({ 'db-0': 'Running', 'db-1': 'Running', 'db-2': 'Pending' });
    simulator.clock.advance(10_100);
    await clients.apps.patchNamespacedStatefulSetScale({ ...at, body: { spec: { replicas: 1 } } }, merge);
    simulator.clock.advance(100);
    expect(pods()).toEqual({ 'db-0': 'Running', 'db-1': 'Running', 'db-2': 'Terminating' });
    simulator.clock.advance(20_000);
    expect(pods()).toEqual({ 'db-0': 'Running' });
  });

  it('roll a new template out without losing readiness, one ReplicaSet per template', async () => {
    const body = { spec: { template: { spec: { containers: [{ name: 'web', image: 'web:2' }] } } } };
    await clients.apps.patchNamespacedDeployment({ ...WEB, body }, strategic);
    simulator.clock.advance(1_000);
    expect(web()?.readyReplicas).toBe(3);
    expect((await clients.apps.listNamespacedReplicaSet({ namespace: 'default' })).items).toHaveLength(2);
    simulator.clock.advance(30_000);
    const after = await clients.apps.readNamespacedDeployment(WEB);
    expect(after.status).toMatchObject({ replicas: 3, updatedReplicas: 3, readyReplicas: 3 });
    expect(after.metadata?.annotations?.['deployment.kubernetes.io/revision']).toBe('2');
    expect((await clients.apps.listNamespacedReplicaSet({ namespace: 'default' })).items).toHaveLength(1);
  });

  it('replace a deleted pod, and remove the pods of a deleted workload', async () => {
    const [name = ''] = Object.keys(web()?.pods ?? {});
    await clients.core.deleteNamespacedPod({ namespace: 'default', name });
    simulator.clock.advance(15_000);
    expect(Object.keys(web()?.pods ?? {})).toHaveLength(3);
    expect(web()?.pods).not.toHaveProperty(name);
    await clients.apps.deleteNamespacedDeployment(WEB);
    simulator.clock.advance(15_000);
    expect((await clients.core.listNamespacedPod({ namespace: 'default' })).items).toEqual([]);
  });

  it('let an autoscaler undo what others wrote, and let it rest at 0 replicas', async () => {
    simulator.createHpa({
      name: 'web',
      target: { name: 'web' },
      minReplicas: 2,
      maxReplicas: 8,
      targetCpuPercent: 50,
    });
    simulator.setLoad('default', 'web', 300);
    await writeScale({}, 2);
    simulator.clock.advance(15_000);
    expect(desired()).toBe(6);
    const hpaWrite = simulator.ledger.writes().at(-1);
    expect(hpaWrite).toMatchObject({
      requestId: null,
      from: 2,
      to: 6,
      user: 'system:serviceaccount:kube-system:horizontal-pod-autoscaler',
    });
    await writeScale({}, 0);
    simulator.clock.advance(30_000);
    expect(desired()).toBe(0);
    const hpa = await clients.autoscaling.readNamespacedHorizontalPodAutoscaler(WEB);
    expect(hpa.status?.conditions?.find(({ type }) => type === 'ScalingActive')).toMatchObject({
      status: 'False',
      reason: 'ScalingDisabled',
    });
  });
});

describe('autoscalers', () => {
  it('are served as v1 and v2, with defaults and limits', async () => {
    const body = {
      metadata: { name: 'web' },
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
        maxReplicas: 9,
        behavior: {},
      },
    };
    const namespace = 'default';
    const created = await clients.autoscaling.createNamespacedHorizontalPodAutoscaler({ namespace, body });
    expect(created.spec).toMatchObject({
      minReplicas: 1,
      metrics: [{ resource: { name: 'cpu', target: { averageUtilization: 80 } } }],
      behavior: { scaleUp: { stabilizationWindowSeconds: 0, policies: [{ value: 4 }, { value: 100 }] } },
    });
    const v1 = await fetch(
      `${simulator.url}/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/web`,
    );
    expect(await v1.json()).toMatchObject({
      apiVersion: 'autoscaling/v1',
      spec: { maxReplicas: 9, targetCPUUtilizationPercentage: 80 },
    });
    const raise = (minReplicas: number) =>
      clients.autoscaling.patchNamespacedHorizontalPodAutoscaler(
        { ...WEB, body: { spec: { minReplicas } } },
        merge,
      );
    expect((await raise(4)).spec?.minReplicas).toBe(4);
    expect(await refusalOf(raise(10))).toMatchObject({ code: 422, causes: [{ field: 'spec.maxReplicas' }] });
    expect(simulator.ledger.writes().at(-1)).toMatchObject({ from: 1, to: 4 });
  });
});

describe("client-node's helpers", () => {
  it('find resources by discovery and follow them with an informer', async () => {
    const objects = KubernetesObjectApi.makeApiClient(clients.config);
    const web = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: WEB };
    expect(await objects.read<V1Deployment>(web)).toMatchObject({ spec: { replicas: 3 } });
    const seen: string[] = [];
    const list = () => clients.apps.listNamespacedDeployment({ namespace: 'default' });
    const informer = makeInformer(clients.config, '/apis/apps/v1/namespaces/default/deployments', list);
    for (const event of ['add', 'update', 'delete'] as const) {
      informer.on(event, (object) => seen.push(`${event} ${object.spec?.replicas}`));
    }
    await informer.start();
    await writeScale({}, 4);
    await clients.apps.deleteNamespacedDeployment(WEB);
    await vi.waitFor(() => expect(seen).toEqual(['add 3', 'update 4', 'delete 4']));
    await informer.stop();
  });
});

describe('watch', () => {
  const path = '/apis/apps/v1/namespaces/default/deployments';
  let seen: { type: string; object: V1Deployment & { code?: number; message?: string } }[];
  let ended: Promise<unknown>;

  async function open(query: Record<string, string | number | boolean> = {}): Promise<AbortController> {
    seen = [];
    let finish: (error: unknown) => void = () => {};
    ended = new Promise((resolve) => {
      finish = resolve;
    });
    return clients.watch.watch(path, query, (type, object) => seen.push({ type, object }), finish);
  }

  const types = () => seen.map(({ type }) => type);

  it('answers its headers at once, then adds, changes and deletes as they happen', async () => {
    const { metadata } = await clients.apps.listNamespacedDeployment({ namespace: 'default' });
    const controller = await open({ resourceVersion: metadata?.resourceVersion ?? '' });
    expect(seen).toEqual([]);
    await writeScale({}, 4);
    await clients.apps.deleteNamespacedDeployment(WEB);
    await vi.waitFor(() => expect(types()).toEqual(['MODIFIED', 'DELETED']));
    expect(seen[0]?.object.spec?.replicas).toBe(4);
    controller.abort();
  });

  it('begins with what is there when no resourceVersion is given, filtered by selectors', async () => {
    const controller = await open({ labelSelector: 'app=api' });
    simulator.createDeployment({ name: 'api', replicas: 1 });
    await vi.waitFor(() => expect(types()).toContain('ADDED'));
    expect(seen.every(({ object }) => object.metadata?.name === 'api')).toBe(true);
    controller.abort();
  });

  it('resumes from a resourceVersion without losing anything', async () => {
    const { metadata } = await readScale();
    await writeScale({}, 4);
    await writeScale({}, 5);
    const controller = await open({ resourceVersion: metadata?.resourceVersion ?? '' });
    await vi.waitFor(() => expect(seen.map(({ object }) => object.spec?.replicas)).toEqual([4, 5]));
    controller.abort();
  });

  it('answers a forgotten resourceVersion with 200 and one ERROR event holding 410', async () => {
    await open({ resourceVersion: 1 });
    await ended;
    expect(types()).toEqual(['ERROR']);
    expect(seen[0]?.object).toMatchObject({ code: 410, reason: 'Expired' });
    expect(seen[0]?.object.message).toMatch(/^too old resource version: 1 \(\d+\)$/);
  });

  it('ends after timeoutSeconds, and sends bookmarks to those who allow them', async () => {
    await start({ bookmarkIntervalMs: 200 });
    await open({ timeoutSeconds: 1, allowWatchBookmarks: true });
    await ended;
    expect(types().filter((type) => type === 'BOOKMARK').length).toBeGreaterThanOrEqual(2);
    expect(seen.at(-1)?.object.metadata?.resourceVersion).toMatch(/^\d+$/);
  });
});

describe('the ledger', () => {
  it('holds every request as received, applied and answered, with who asked for what', async () => {
    const { metadata } = await readScale();
    const before = simulator.ledger.entries().length;
    await writeScale(metadata, 5);
    const [received, applied, answered] = simulator.ledger.entries(before);
    expect(received).toMatchObject({
      event: 'received',
      action: 'update deployments/scale',
      namespace: 'default',
      name: 'web',
      to: 5,
      sentResourceVersion: metadata?.resourceVersion,
      user: 'system:admin',
    });
    expect(applied).toMatchObject({ event: 'applied', from: 3, to: 5, requestId: received?.requestId });
    expect(applied?.uid).toBe(metadata?.uid);
    expect(answered).toMatchObject({ event: 'answered', outcome: '200', requestId: received?.requestId });
  });

  it('is read and steered from other processes', async () => {
    const control = async (method: string, path: string, body?: unknown) => {
      const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
      return (await fetch(`${simulator.url}/_simulator/${path}`, init)).json() as Promise<
        Record<string, never>
      >;
    };
    await control('POST', 'workloads', { name: 'api', namespace: 'shop', replicas: 2, startDelayMs: 1_000 });
    await control('POST', 'external', { name: 'api', namespace: 'shop', replicas: 4 });
    await control('POST', 'clock', { advanceMs: 2_000 });
    const { workloads } = await control('GET', 'state');
    expect(workloads).toContainEqual(expect.objectContaining({ name: 'api', replicas: 4, readyReplicas: 4 }));
    const { entries } = await control('GET', 'ledger?event=applied');
    expect(entries).toContainEqual(expect.objectContaining({ action: 'ExternalWriter', from: 2, to: 4 }));
    const { ids } = await control('POST', 'faults', { effect: { kind: 'throttle' }, count: 1 });
    expect(ids).toEqual(['fault-1']);
    expect(await refusalOf(readScale())).toMatchObject({ code: 429 });
    expect(await control('DELETE', 'faults')).toEqual({ faults: [] });
    expect(await control('GET', 'nonsense')).toHaveProperty('error');
  });
});
