import { Kubernetes } from '../../worker/providers/kubernetes.ts';
import type { ProviderTarget } from '../../worker/providers/scaling-provider.ts';
import type { TransportEffect } from '../simulators/core/fault-script.ts';
import { type KubernetesSimulator, startKubernetesSimulator } from '../simulators/kubernetes/server.ts';
import { watchClientSockets } from './client-sockets.ts';
import { pointKubernetesClientTo } from './point-kubernetes-client.ts';
import { type ContractRig, testLimits } from './scaling-provider.contract.ts';

/** What differs between the kinds of object that a Kubernetes provider scales. */
interface Scaled {
  readonly actions: Readonly<Record<'read' | 'write', string>>;
  named(name: string, scope?: string | null): ProviderTarget;
  create(simulator: KubernetesSimulator, name: string, size: number): unknown;
  sizeOf(simulator: KubernetesSimulator, name: string): number | undefined;
  change(simulator: KubernetesSimulator, change: Parameters<ContractRig['somebodyElse']>[0]): unknown;
}

/** The user agent of requests that are somebody else's, and so not counted as the provider's. */
export const operatorAgent = 'operator';

/** A provider on two clusters, `here` and `there`. */
export async function startKubernetesRig(scaled: Scaled): Promise<ContractRig> {
  const here = await startKubernetesSimulator({ timeScale: 0, startJitter: 0 });
  const there = await startKubernetesSimulator({ timeScale: 0 });
  const forget = await pointKubernetesClientTo({ here, there });
  scaled.create(here, 'web', 3);
  scaled.create(there, 'web', 5);
  const sockets = watchClientSockets([here.port, there.port]);
  const error = (status: number, code: string): TransportEffect => ({ kind: 'error', status, code });
  return {
    provider: new Kubernetes({ settleMs: 15_000, limits: testLimits }),
    target: scaled.named('web'),
    elsewhere: scaled.named('web', 'there'),
    missing: scaled.named('nobody'),
    answers: {
      conflict: error(409, 'Conflict'),
      denied: error(403, 'Forbidden'),
      unauthenticated: error(401, 'Unauthorized'),
      rejected: error(422, 'Invalid'),
    },
    add(name, size) {
      scaled.create(here, name, size);
      return scaled.named(name);
    },
    onNext: (verb, effect, count = 1) => here.faults.add({ action: scaled.actions[verb], count, effect }),
    size: ({ name, scope }) => scaled.sizeOf(scope === null ? here : there, name.split('/')[1] ?? ''),
    requests: (verb) =>
      here.ledger
        .requests()
        .filter(({ action, userAgent }) => action === scaled.actions[verb] && userAgent !== operatorAgent)
        .length,
    applied: () =>
      here.ledger
        .writes()
        .filter(({ requestId, userAgent }) => requestId !== null && userAgent !== operatorAgent)
        .map(({ to }) => to),
    async somebodyElse(change) {
      await scaled.change(here, change);
    },
    openSockets: () => sockets.open(),
    async close() {
      sockets.stop();
      await Promise.all([here.close(), there.close(), forget()]);
    },
  };
}
