import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { projectRoot } from '../../../shared/project-root.ts';
import { AwsAutoScaling } from '../../../worker/providers/aws-auto-scaling.ts';
import { Kubernetes } from '../../../worker/providers/kubernetes.ts';
import type { ProviderTarget, ScalingProvider } from '../../../worker/providers/scaling-provider.ts';
import { pointAwsSdkTo } from '../../contract/point-aws-sdk.ts';
import { pointKubernetesClientTo } from '../../contract/point-kubernetes-client.ts';
import { awsPolicy, kubernetesRole } from '../../docs/cloud-permissions.ts';
import { startAwsSimulator } from '../../simulators/aws/server.ts';
import type { AccessRule } from '../../simulators/kubernetes/access.ts';
import { startKubernetesSimulator } from '../../simulators/kubernetes/server.ts';

/** Everything a worker does with an object: read it with many, read it alone, change it. */
async function useAll(provider: ScalingProvider, targets: readonly ProviderTarget[]): Promise<void> {
  const signal = new AbortController().signal;
  for (const state of await provider.describeMany(targets, signal)) expect(state).not.toBeInstanceOf(Error);
  for (const target of targets) {
    const state = await provider.describe(target, signal);
    await provider.setCapacity(target, state.desired + 1, state, { intentAtMs: Date.now(), signal });
  }
}

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

describe('the IAM policy in the documentation', () => {
  it('allows exactly what is called', async () => {
    const simulator = await startAwsSimulator({
      timeScale: 0,
      groups: [
        { name: 'web', min: 1, max: 9, desired: 3 },
        { name: 'empty', min: 0, max: 9 },
      ],
    });
    pointAwsSdkTo(simulator.endpoint);
    const provider = new AwsAutoScaling({ defaultRegion: 'us-east-1', settleMs: 1 });
    closers.push(
      () => provider.close(),
      () => simulator.close(),
    );
    const targets: ProviderTarget[] = ['web', 'empty'].map((name) => ({
      provider: 'aws',
      scope: null,
      name,
    }));
    await useAll(provider, [...targets, { provider: 'aws', scope: null, name: 'web', actuation: 'floor' }]);
    const allowed = awsPolicy.Statement.flatMap(({ Action }) => Action);
    const called = simulator.ledger.requests().map(({ service, action }) => `${service}:${action}`);
    expect([...new Set(called)].sort()).toEqual(allowed.sort());
  });
});

describe('the Role in the documentation', () => {
  const { rules } = parse(kubernetesRole) as { rules: AccessRule[] };
  const targets: ProviderTarget[] = [
    { provider: 'kubernetes', scope: null, name: 'deployment:default/web' },
    { provider: 'kubernetes', scope: null, name: 'statefulset:default/db' },
    { provider: 'kubernetes', scope: null, name: 'deployment:default/shop', actuation: 'floor' },
  ];

  async function useAllAs(granted: readonly AccessRule[]): Promise<string[]> {
    const simulator = await startKubernetesSimulator({
      timeScale: 0,
      tokens: { token: { user: 'system:serviceaccount:scaler:worker', rules: granted } },
    });
    const forget = await pointKubernetesClientTo({ here: simulator });
    const provider = new Kubernetes({ settleMs: 1 });
    closers.push(() => simulator.close(), forget);
    simulator.createDeployment({ name: 'web', replicas: 3 });
    simulator.createStatefulSet({ name: 'db', replicas: 3 });
    simulator.createDeployment({ name: 'shop', replicas: 3 });
    simulator.createHpa({ name: 'shop', target: { name: 'shop' }, minReplicas: 3, maxReplicas: 9 });
    await useAll(provider, targets);
    return [...new Set(simulator.ledger.requests().map(({ action }) => action))].sort();
  }

  it('allows exactly what is called', async () => {
    const called = await useAllAs(rules);
    const allowed = rules.flatMap(({ verbs, resources }) =>
      verbs.flatMap((verb) => resources.map((resource) => `${verb} ${resource}`)),
    );
    expect(called).toEqual(allowed.sort());
  });

  it('needs each of its rules, but that on KEDA', async () => {
    for (const rule of rules) {
      const without = useAllAs(rules.filter((other) => other !== rule));
      if (rule.resources.includes('scaledobjects')) await without;
      else await expect(without).rejects.toThrow();
    }
  });
});

it('every code of a block is in the documentation', () => {
  const page = readFileSync(join(projectRoot(), 'docs', 'explanation', 'providers.md'), 'utf8');
  let codes = 0;
  for (const file of ['advisory-read', 'aws-group', 'kubernetes', 'kubernetes-owners', 'kubernetes-floor']) {
    const source = readFileSync(join(projectRoot(), 'worker', 'providers', `${file}.ts`), 'utf8');
    for (const [, code] of source.matchAll(/code: '([a-z_]+)',\s+direction/g)) {
      expect(page).toContain(`\`${code}\``);
      codes++;
    }
  }
  expect(codes).toBeGreaterThan(10);
});
