import type { AwsEffect } from '../simulators/aws/faults.ts';
import type { TransportEffect } from '../simulators/core/fault-script.ts';
import type { KubernetesEffect } from '../simulators/kubernetes/simulation.ts';
import { namespace, type PlannedResource } from './fleet-plan.ts';
import { send } from './http-client.ts';

type Effect = AwsEffect | KubernetesEffect;
type Provider = PlannedResource['provider'];

const actions = {
  aws: { write: 'SetDesiredCapacity', read: 'DescribeAutoScalingGroups' },
  kubernetes: { write: 'update deployments/scale', read: 'get deployments' },
} as const;

/** Disturbs the simulated clouds through their control addresses. */
export class CloudControl {
  readonly #bases: Readonly<Record<Provider, string>>;

  constructor(ports: { readonly awsPort: number; readonly kubernetesPort: number }) {
    this.#bases = {
      aws: `http://127.0.0.1:${ports.awsPort}/_simulator/`,
      kubernetes: `http://127.0.0.1:${ports.kubernetesPort}/_simulator/`,
    };
  }

  /** Lets the next `count` reads or writes suffer. @returns the rule's id. */
  async addFault(provider: Provider, on: 'write' | 'read', effect: Effect, count: number): Promise<string> {
    return await this.#add(provider, { action: actions[provider][on], effect, count });
  }

  /** Lets every call of every kind suffer, until the rule is taken back. @returns the rule's id. */
  async addFaultToAll(provider: Provider, effect: Effect): Promise<string> {
    return await this.#add(provider, { effect });
  }

  async #add(provider: Provider, rule: Readonly<Record<string, unknown>>): Promise<string> {
    const { ids } = await this.#ask(provider, 'POST', 'faults', rule);
    return (ids as string[])[0] as string;
  }

  /** Takes a rule back. @returns how often it was injected. */
  async removeFault(provider: Provider, id: string): Promise<number> {
    const { faults } = await this.#ask(provider, 'GET', 'faults');
    await this.#ask(provider, 'DELETE', `faults?id=${id}`);
    return (faults as { id: string; injected: number }[]).find((fault) => fault.id === id)?.injected ?? 0;
  }

  async clearFaults(): Promise<void> {
    for (const provider of ['aws', 'kubernetes'] as const) await this.#ask(provider, 'DELETE', 'faults');
  }

  /** Somebody else changes an object, past all faults. */
  async change(resource: PlannedResource, change: Readonly<Record<string, unknown>>): Promise<void> {
    const named =
      resource.provider === 'aws'
        ? { region: resource.region, group: resource.object }
        : { namespace, name: resource.object };
    await this.#ask(resource.provider, 'POST', 'external', { ...named, ...change });
  }

  async #ask(
    provider: Provider,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<Record<string, unknown>> {
    const answer = await send(method, this.#bases[provider] + path, { headers: {}, body, timeoutMs: 5_000 });
    if (answer.status !== 200)
      throw new Error(
        `the simulator of ${provider} refused ${path}: ${answer.status} ${JSON.stringify(answer.body)}`,
      );
    return answer.body ?? {};
  }
}

/** The simulator's effect for a mode of the fault plan. @param level a size for an external writer to set. */
export function effectOf(provider: Provider, mode: string, delayMs: number, level: number): Effect {
  const serverError = provider === 'aws' ? 'InternalFailure' : 'InternalError';
  const external: Effect =
    provider === 'aws'
      ? { kind: 'external', when: 'before', change: { desired: level } }
      : { kind: 'external', when: 'before', change: { replicas: level } };
  const effects: Readonly<Record<string, Effect>> = {
    throttle: { kind: 'throttle', retryAfterSeconds: 1 },
    'error-before': { kind: 'error', status: 500, code: serverError },
    'error-after': { kind: 'error', status: 500, code: serverError, applied: true },
    'gateway-before': { kind: 'html', status: 502 },
    'gateway-after': { kind: 'html', status: 504, applied: true },
    'reset-before': { kind: 'reset' },
    'reset-after': { kind: 'reset', applied: true },
    truncate: { kind: 'truncate' },
    'hang-before': { kind: 'hang' },
    'hang-after': { kind: 'hang', applied: true },
    late: { kind: 'apply-late', delayMs },
    'late-answered': { kind: 'apply-late', delayMs, status: 503 },
    slow: { kind: 'slow', delayMs },
    'stale-read': { kind: 'stale-read', staleMs: delayMs },
    'external-before': external,
    'external-after': { ...external, when: 'after' } as Effect,
    expired: { kind: 'error', status: 403, code: 'ExpiredToken' },
    denied: { kind: 'error', status: 403, code: 'AccessDenied' },
    refused:
      provider === 'aws'
        ? { kind: 'error', status: 400, code: 'ValidationError' }
        : { kind: 'error', status: 422, code: 'Invalid' },
    contention:
      provider === 'aws'
        ? { kind: 'error', status: 500, code: 'ResourceContention' }
        : { kind: 'error', status: 409, code: 'Conflict' },
  };
  const effect = effects[mode];
  if (effect === undefined) throw new Error(`no such mode of a cloud: ${mode}`);
  return effect as Effect & TransportEffect;
}
