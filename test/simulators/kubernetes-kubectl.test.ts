import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KubernetesSimulator, startKubernetesSimulator } from './kubernetes/server.ts';
import type { KubernetesEffect } from './kubernetes/simulation.ts';

const run = promisify(execFile);

function isInstalled(): boolean {
  try {
    execFileSync('kubectl', ['version', '--client'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const manifestOf = (image: string, replicas: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, labels: {app: api}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
      - name: api
        image: ${image}
        env: [{name: LEVEL, value: info}]
`;

describe.skipIf(!isInstalled())('kubectl', () => {
  let simulator: KubernetesSimulator;
  let folder: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'simulator-kubectl-'));
    simulator = await startKubernetesSimulator({ startDelayMs: 300, startJitter: 0, stopDelayMs: 100 });
    writeFileSync(join(folder, 'kubeconfig'), simulator.kubeconfig);
    simulator.createDeployment({ name: 'web', replicas: 3, requests: { cpu: '250m' } });
    simulator.createStatefulSet({ name: 'db', replicas: 2 });
    simulator.createHpa({
      name: 'db',
      target: { kind: 'StatefulSet', name: 'db' },
      minReplicas: 2,
      maxReplicas: 5,
    });
  });

  afterAll(async () => {
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Discovery is cached on disk: every run of the tests has a cache of its own. */
  async function kubectl(...args: string[]): Promise<string> {
    const flags = ['--kubeconfig', join(folder, 'kubeconfig'), '--cache-dir', join(folder, 'cache')];
    const { stdout } = await run('kubectl', [...flags, ...args], { timeout: 15_000 });
    return stdout;
  }

  async function failing(...args: string[]): Promise<string> {
    return kubectl(...args).then(
      () => '',
      (error: { stderr: string }) => error.stderr,
    );
  }

  function manifest(image: string, replicas: number): string {
    const file = join(folder, 'api.yaml');
    writeFileSync(file, manifestOf(image, replicas));
    return file;
  }

  it('gets tables, wide and watched, of everything that is simulated', async () => {
    const table = await kubectl('get', 'deployments,statefulsets,hpa,pods,replicasets', '-o', 'wide');
    expect(table).toMatch(
      /deployment\.apps\/web +3\/3 +3 +3 +\d+s +web +registry\.example\/app:1\.0 +app=web/,
    );
    expect(table).toMatch(/statefulset\.apps\/db +2\/2/);
    expect(table).toMatch(
      /horizontalpodautoscaler\.autoscaling\/db +StatefulSet\/db +cpu: <unknown>\/80% +2 +5/,
    );
    expect(table.match(/pod\/web-\w+-\w+ +1\/1 +Running/g)).toHaveLength(3);
    expect(await kubectl('get', 'deploy', 'web', '-w', '--request-timeout=1s')).toContain('3/3');
    expect(await failing('get', 'deploy', 'nope')).toContain(
      'Error from server (NotFound): deployments.apps "nope" not found',
    );
  });

  it('scales, with and without preconditions, and waits for the rollout', async () => {
    await kubectl('scale', 'deployment/web', '--replicas=5');
    expect(await failing('scale', 'deployment/web', '--current-replicas=3', '--replicas=6')).toContain(
      'Expected replicas to be 3, was 5',
    );
    await kubectl('scale', 'deployment/web', '--current-replicas=5', '--replicas=6');
    await kubectl('scale', 'statefulset/db', '--replicas=3');
    expect(await kubectl('rollout', 'status', 'deployment/web')).toContain('successfully rolled out');
    expect(simulator.workload('default', 'web')).toMatchObject({ replicas: 6, readyReplicas: 6 });
    const scaling = simulator.ledger.writes().filter(({ action }) => action.endsWith(' deployments/scale'));
    expect(scaling.map(({ from, to, userAgent }) => [from, to, userAgent?.split('/')[0]])).toEqual([
      [3, 5, 'kubectl'],
      [5, 6, 'kubectl'],
    ]);
  });

  it('patches in every way it knows', async () => {
    await kubectl('patch', 'deploy', 'web', '-p', '{"spec":{"replicas":4}}');
    await kubectl(
      'patch',
      'deploy',
      'web',
      '--type=merge',
      '--subresource=scale',
      '-p',
      '{"spec":{"replicas":5}}',
    );
    const replace = '{"op":"replace","path":"/spec/replicas","value":3}';
    await kubectl('patch', 'deploy', 'web', '--type=json', '-p', `[${replace}]`);
    expect(simulator.workload('default', 'web')?.replicas).toBe(3);
    const test = '{"op":"test","path":"/spec/replicas","value":9}';
    expect(await failing('patch', 'deploy', 'web', '--type=json', '-p', `[${test},${replace}]`)).toContain(
      'the server rejected our request due to an error in our request',
    );
    await kubectl('set', 'image', 'deploy/web', 'web=web:2');
    await kubectl('annotate', 'deploy/web', 'note=x');
    expect(await kubectl('get', 'deploy', 'web', '-o', 'jsonpath={.metadata.annotations.note}')).toBe('x');
  });

  it('applies from the client, and again, and a change', async () => {
    expect(await kubectl('apply', '-f', manifest('api:1', 2))).toBe('deployment.apps/api created\n');
    expect(await kubectl('apply', '-f', manifest('api:1', 2))).toBe('deployment.apps/api unchanged\n');
    expect(await kubectl('apply', '-f', manifest('api:2', 3))).toBe('deployment.apps/api configured\n');
    expect(await kubectl('apply', '--dry-run=server', '-f', manifest('api:3', 9))).toContain(
      'server dry run',
    );
    expect(simulator.workload('default', 'api')?.replicas).toBe(3);
  });

  it('applies on the server, and asks before it takes replicas from whoever scaled', async () => {
    await kubectl('scale', 'deploy/api', '--replicas=4');
    const conflict = await failing('apply', '--server-side', '-f', manifest('api:2', 2));
    expect(conflict).toMatch(
      /Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps\/v1 at \S+: \.spec\.replicas/,
    );
    expect(await kubectl('apply', '--server-side', '--force-conflicts', '-f', manifest('api:2', 2))).toBe(
      'deployment.apps/api serverside-applied\n',
    );
    expect(simulator.workload('default', 'api')?.replicas).toBe(2);
    await kubectl('delete', 'deploy', 'api');
    expect(simulator.workload('default', 'api')).toBeUndefined();
  });

  it('describes workloads and autoscalers with their events', async () => {
    const deployment = await kubectl('describe', 'deployment', 'web');
    expect(deployment).toMatch(/Replicas: +3 desired/);
    expect(deployment).toMatch(/NewReplicaSet: +web-/);
    expect(deployment).toMatch(/ScalingReplicaSet .* Scaled up replica set web-\w+ from 3 to 5/);
    expect(await kubectl('describe', 'statefulset', 'db')).toMatch(/Replicas: +3 desired/);
    expect(await kubectl('describe', 'hpa', 'db')).toMatch(/Reference: +StatefulSet\/db/);
  });

  it('is understood where it speaks protobuf', async () => {
    await kubectl('create', 'namespace', 'shop');
    await kubectl('create', 'deployment', 'cart', '-n', 'shop', '--image=cart:1', '--replicas=2');
    expect(simulator.workload('shop', 'cart')?.replicas).toBe(2);
    await kubectl('autoscale', 'deployment', 'cart', '-n', 'shop', '--min=2', '--max=7', '--cpu-percent=60');
    expect(await kubectl('get', 'hpa', '-n', 'shop')).toMatch(
      /cart +Deployment\/cart +cpu: <unknown>\/60% +2 +7/,
    );
    expect(await kubectl('auth', 'can-i', 'update', 'deployments', '--subresource=scale')).toBe('yes\n');
  });

  it('reports a fault as it would report the real one', async () => {
    const conflict: KubernetesEffect = { kind: 'error', status: 409, code: 'Conflict' };
    simulator.faults.add({ action: 'patch deployments', effect: conflict });
    expect(await failing('patch', 'deploy', 'web', '-p', '{"spec":{"replicas":1}}')).toMatch(
      /Error from server \(Conflict\): .* the object has been modified/,
    );
    simulator.faults.add({ action: 'patch deployments/scale', effect: conflict, count: 1 });
    await kubectl('scale', 'deploy/web', '--replicas=2'); // which it tries again
    expect(simulator.workload('default', 'web')?.replicas).toBe(2);
    simulator.faults.clear();
    simulator.tokens.set('secret', { user: 'scaler' });
    expect(await failing('get', 'deploy', 'web')).toMatch(/Forbidden|forbidden/); // kubectl sends no token over http
    simulator.tokens.clear();
  });
});
