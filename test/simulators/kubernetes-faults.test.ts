import { PatchStrategy, setHeaderOptions, type V1Scale } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type KubernetesClients, kubernetesClients, refusalOf } from './kubernetes/clients.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from './kubernetes/server.ts';
import type { KubernetesEffect, KubernetesFaultRule } from './kubernetes/simulation.ts';

const WEB = { namespace: 'default', name: 'web' };
const WRITE = 'update deployments/scale';
const PATIENTLY = { timeout: 5_000 };

let simulator: KubernetesSimulator;
let clients: KubernetesClients;

beforeEach(async () => {
  simulator = await startKubernetesSimulator({ timeScale: 0 });
  clients = kubernetesClients(simulator.kubeconfig);
  simulator.createDeployment({ name: 'web', replicas: 3 });
});

afterEach(() => simulator.close());

function once(effect: KubernetesEffect, more: Partial<KubernetesFaultRule> = {}): void {
  simulator.faults.add({ action: WRITE, count: 1, effect, ...more });
}

function readScale(): Promise<V1Scale> {
  return clients.apps.readNamespacedDeploymentScale(WEB);
}

function write(replicas: number, resourceVersion?: string): Promise<V1Scale> {
  const metadata = { ...WEB, ...(resourceVersion !== undefined && { resourceVersion }) };
  return clients.apps.replaceNamespacedDeploymentScale({ ...WEB, body: { metadata, spec: { replicas } } });
}

/** Gives up like a careful caller does: the connection is closed, what the server does is not undone. */
async function writeFor(milliseconds: number, replicas: number): Promise<string> {
  const url = `${simulator.url}/apis/apps/v1/namespaces/default/deployments/web/scale`;
  return fetch(url, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ metadata: WEB, spec: { replicas } }),
    signal: AbortSignal.timeout(milliseconds),
  }).then(
    (answer) => String(answer.status),
    (error: Error) => error.name,
  );
}

function replicas(): number | undefined {
  return simulator.workload('default', 'web')?.replicas;
}

function outcomes(): string[] {
  return simulator.ledger
    .requests()
    .filter(({ action }) => action === WRITE)
    .map(({ outcome }) => outcome);
}

describe('answers instead of the real one', () => {
  it('throttles as flow control does: plain text, no Status, Retry-After 1', async () => {
    once({ kind: 'throttle' });
    const call = write(5);
    await expect(call).rejects.toMatchObject({ code: 429, headers: { 'retry-after': '1' } });
    const refusal = await refusalOf(call);
    expect(refusal.contentType).toMatch(/^text\/plain/);
    expect(refusal.text).toBe('Too many requests, please try again later.\n');
    expect(replicas()).toBe(3);
    await write(5);
    expect(outcomes()).toEqual(['429 TooManyRequests', '200']);
  });

  it.each([
    [401, 'Unauthorized'],
    [403, 'Forbidden'],
    [404, 'NotFound'],
    [409, 'Conflict'],
    [500, 'InternalError'],
    [503, 'ServiceUnavailable'],
  ])('words a %i as the real server does', async (status, reason) => {
    once({ kind: 'error', status, code: reason });
    const refusal = await refusalOf(write(5));
    expect(refusal.code).toBe(status);
    // client-node does not pass the body of a 401 on
    if (status !== 401) expect(refusal).toMatchObject({ reason, message: expect.stringMatching(/./) });
    expect(replicas()).toBe(3);
  });

  it('words a 504 as a Status without kind, in plain text', async () => {
    once({ kind: 'error', status: 504, code: 'Timeout' });
    const refusal = await refusalOf(write(5));
    expect(refusal).toMatchObject({ code: 504, reason: 'Timeout' });
    expect(refusal.contentType).toMatch(/^text\/plain/);
    expect(JSON.parse(refusal.text)).not.toHaveProperty('kind');
  });

  it('answers HTML from in front of the server', async () => {
    once({ kind: 'html', status: 502 });
    const refusal = await refusalOf(write(5));
    expect(refusal).toMatchObject({ code: 502, contentType: 'text/html' });
  });

  it('takes own words for an error, as an admission webhook has them', async () => {
    once({ kind: 'error', status: 403, code: 'Forbidden', message: 'exceeded quota: compute' });
    expect(await refusalOf(write(5))).toMatchObject({ code: 403, message: 'exceeded quota: compute' });
  });

  it('lets a burst of conflicts pass', async () => {
    once({ kind: 'error', status: 409, code: 'Conflict' }, { count: 3 });
    for (let attempt = 0; attempt < 3; attempt += 1) expect((await refusalOf(write(5))).code).toBe(409);
    await write(5);
    expect(replicas()).toBe(5);
  });
});

describe('unknown outcomes', () => {
  it.each<[string, KubernetesEffect, number]>([
    ['an error after the change', { kind: 'error', status: 500, code: 'InternalError', applied: true }, 5],
    ['an error before the change', { kind: 'error', status: 500, code: 'InternalError' }, 3],
    ['HTML after the change', { kind: 'html', status: 502, applied: true }, 5],
    ['a reset after the change', { kind: 'reset', applied: true }, 5],
    ['a reset before the change', { kind: 'reset' }, 3],
  ])('fails with %s', async (_, effect, expected) => {
    once(effect);
    await expect(write(5)).rejects.toThrow();
    expect(replicas()).toBe(expected);
    expect(simulator.ledger.writes().filter(({ action }) => action === WRITE)).toHaveLength(
      expected === 5 ? 1 : 0,
    );
  });

  it('cuts a good answer in the middle', async () => {
    // Not through client-node: its node-fetch waits for ever for the rest of a body that had a Content-Length.
    once({ kind: 'truncate' });
    const url = `${simulator.url}/apis/apps/v1/namespaces/default/deployments/web/scale`;
    const body = JSON.stringify({ metadata: WEB, spec: { replicas: 5 } });
    const headers = { 'content-type': 'application/json' };
    const answer = await fetch(url, { method: 'PUT', headers, body });
    expect(answer.status).toBe(200);
    await expect(answer.text()).rejects.toThrow('terminated');
    expect(replicas()).toBe(5);
    expect(outcomes()).toEqual(['truncated 200']);

    once({ kind: 'truncate' }, { action: 'get deployments' });
    await expect(clients.apps.readNamespacedDeployment(WEB)).rejects.toThrow('Premature close');
  });

  it('hangs, before the change or after it', async () => {
    once({ kind: 'hang' });
    expect(await writeFor(150, 5)).toBe('TimeoutError');
    expect(replicas()).toBe(3);
    once({ kind: 'hang', applied: true });
    expect(await writeFor(150, 6)).toBe('TimeoutError');
    expect(replicas()).toBe(6);
    expect(outcomes()).toEqual(['hang', 'hang']);
  });

  it('applies late, when the client is long gone', async () => {
    once({ kind: 'apply-late', delayMs: 600 });
    expect(await writeFor(100, 5)).toBe('TimeoutError');
    expect(replicas()).toBe(3);
    await vi.waitFor(() => expect(replicas()).toBe(5), PATIENTLY);
    expect(outcomes()).toEqual(['late 200']);
  });

  it('applies late, after it has answered with an error', async () => {
    once({ kind: 'apply-late', delayMs: 500, status: 504 });
    expect((await refusalOf(write(5))).code).toBe(504);
    expect(replicas()).toBe(3);
    await vi.waitFor(() => expect(replicas()).toBe(5), PATIENTLY);
  });

  it('never lands a late write that somebody else has outrun', async () => {
    const { metadata } = await readScale();
    once({ kind: 'apply-late', delayMs: 500, status: 504 });
    expect((await refusalOf(write(5, metadata?.resourceVersion))).code).toBe(504);
    await write(7, metadata?.resourceVersion);
    await vi.waitFor(() => expect(outcomes()).toContain('late 409 Conflict'), PATIENTLY);
    expect(replicas()).toBe(7);
  });

  it('is slow, with the change at once or just before the answer', async () => {
    once({ kind: 'slow', delayMs: 600, applied: 'first' });
    const early = write(5);
    await vi.waitFor(() => expect(replicas()).toBe(5), { timeout: 500, interval: 5 });
    expect((await early).spec?.replicas).toBe(5);
    once({ kind: 'slow', delayMs: 500 });
    expect(await writeFor(50, 6)).toBe('TimeoutError');
    expect(replicas()).toBe(5);
    await vi.waitFor(() => expect(replicas()).toBe(6), PATIENTLY);
  });
});

describe('a world that moves', () => {
  it('answers reads from a moment ago', async () => {
    await new Promise((resolve) => setTimeout(resolve, 450));
    const before = await readScale();
    await write(5);
    const stale: KubernetesEffect = { kind: 'stale-read', staleMs: 400 };
    once(stale, { action: ['get deployments/scale', 'list deployments'], count: 2 });
    const read = await readScale();
    expect(read.spec?.replicas).toBe(3);
    expect(read.metadata?.resourceVersion).toBe(before.metadata?.resourceVersion);
    expect((await refusalOf(write(6, read.metadata?.resourceVersion))).code).toBe(409);
    await new Promise((resolve) => setTimeout(resolve, 450));
    const list = await clients.apps.listNamespacedDeployment({ namespace: 'default' });
    expect(list.items[0]?.spec?.replicas).toBe(5); // by now even the stale view has it
    expect((await readScale()).spec?.replicas).toBe(5);
  });

  it('lets an external writer in between the read and the write', async () => {
    const { metadata } = await readScale();
    once({ kind: 'external', when: 'before', change: { replicas: 9, user: 'somebody' } });
    expect(await refusalOf(write(5, metadata?.resourceVersion))).toMatchObject({ code: 409 });
    expect(replicas()).toBe(9);
    once({ kind: 'external', when: 'after', change: { replicas: 2 } });
    expect((await write(6)).spec?.replicas).toBe(6);
    expect(replicas()).toBe(2);
    const writers = simulator.ledger.writes().map(({ user, to }) => [user, to]);
    expect(writers.slice(-3)).toEqual([
      ['somebody', 9],
      ['system:admin', 6],
      ['external-writer', 2],
    ]);
  });

  it('deletes the object and makes it again under another uid', async () => {
    const { metadata } = await readScale();
    once({ kind: 'external', when: 'before', change: { recreate: true } });
    expect(await refusalOf(write(5, metadata?.resourceVersion))).toMatchObject({ code: 409 });
    const after = await readScale();
    expect(after.metadata?.uid).not.toBe(metadata?.uid);
    expect(after.spec?.replicas).toBe(3);
    once({ kind: 'external', when: 'before', change: { remove: true } });
    expect(await refusalOf(write(5))).toMatchObject({
      code: 404,
      message: 'deployments.apps "web" not found',
    });
  });

  it('makes a watch start over after a compaction', async () => {
    const { metadata } = await readScale();
    await write(4);
    once({ kind: 'compact' }, { action: 'watch deployments' });
    const types: string[] = [];
    await new Promise((resolve, reject) => {
      const query = { resourceVersion: metadata?.resourceVersion ?? '' };
      clients.watch
        .watch('/apis/apps/v1/deployments', query, (type: string) => types.push(type), resolve)
        .catch(reject);
    });
    expect(types).toEqual(['ERROR']);
  });

  it('tears a watch in the middle of an event', async () => {
    once({ kind: 'truncate' }, { action: 'watch deployments' });
    const types: string[] = [];
    await new Promise((resolve, reject) => {
      clients.watch
        .watch('/apis/apps/v1/deployments', {}, (type: string) => types.push(type), resolve)
        .catch(reject);
    });
    expect(types).toEqual([]);
  });
});

describe('rules', () => {
  it('apply by target, after so many requests, and within a window of virtual time', async () => {
    simulator.createDeployment({ name: 'api', replicas: 1 });
    const now = simulator.clock.now();
    const effect: KubernetesEffect = { kind: 'throttle' };
    simulator.faults.add({ target: 'default/api', effect });
    simulator.faults.add({ action: WRITE, skip: 1, effect, fromTime: now, untilTime: now + 60_000 });
    await write(4);
    expect((await refusalOf(write(5))).code).toBe(429);
    const api = clients.apps.readNamespacedDeployment({ namespace: 'default', name: 'api' });
    expect((await refusalOf(api)).code).toBe(429);
    simulator.clock.advance(60_000);
    await write(6);
    expect(simulator.faults.list().map(({ injected }) => injected)).toEqual([1, 1]);
  });

  it('apply by chance, the same for the same seed', async () => {
    simulator.faults.add({ action: 'get deployments/scale', probability: 0.5, effect: { kind: 'throttle' } });
    const codes: number[] = [];
    for (let index = 0; index < 20; index += 1) {
      codes.push(
        await readScale().then(
          () => 200,
          (error: { code: number }) => error.code,
        ),
      );
    }
    expect(new Set(codes)).toEqual(new Set([200, 429]));
  });

  it('reach discovery and patches too', async () => {
    once({ kind: 'error', status: 503, code: 'ServiceUnavailable' }, { action: 'get /version' });
    expect((await fetch(`${simulator.url}/version`)).status).toBe(503);
    once({ kind: 'throttle' }, { action: 'patch deployments/scale' });
    const options = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
    const patch = clients.apps.patchNamespacedDeploymentScale(
      { ...WEB, body: { spec: { replicas: 4 } } },
      options,
    );
    expect((await refusalOf(patch)).code).toBe(429);
  });
});
