import { type ProviderError, ProviderError as ProviderFailure } from '../../shared/errors.ts';
import type { CapacityState, ProviderTarget, ScalingProvider } from '../providers/scaling-provider.ts';

export interface CallPolicyOptions {
  /** Calls in flight to one region or cluster. */
  readonly concurrency: number;
  /** Consecutive failures that open the circuit; an identity fault opens it at once. */
  readonly failures: number;
  readonly openMs: number;
  readonly now: () => number;
  readonly onCall: (operation: 'describe' | 'set', result: string) => void;
  readonly onCircuit: (openCircuits: number) => void;
}

interface Scope {
  active: number;
  readonly waiting: (() => void)[];
  failures: number;
  openUntil: number;
}

/**
 * Limits the calls in flight to each region or cluster, and stops calling one that keeps failing. After `openMs` one call
 * is let through to see whether it has recovered. Our own few lines: the breaker must know our fault classes, count per
 * scope and say how long it stays open, and the libraries that run on Node 20 do none of these.
 */
export function withCallPolicy(provider: ScalingProvider, options: CallPolicyOptions): ScalingProvider {
  const scopes = new Map<string, Scope>();
  const scopeOf = (target: ProviderTarget): Scope => {
    const key = target.scope ?? '';
    const known = scopes.get(key) ?? { active: 0, waiting: [], failures: 0, openUntil: 0 };
    scopes.set(key, known);
    return known;
  };
  const report = () =>
    options.onCircuit([...scopes.values()].filter((scope) => scope.openUntil > options.now()).length);

  async function call<T>(
    target: ProviderTarget,
    operation: 'describe' | 'set',
    work: () => Promise<T>,
  ): Promise<T> {
    const scope = scopeOf(target);
    const left = scope.openUntil - options.now();
    if (left > 0) {
      options.onCall(operation, 'circuit_open');
      throw new ProviderFailure(
        'throttled',
        'circuit_open',
        `Calls to ${target.provider} ${target.scope ?? '(default)'} are held for ${Math.ceil(left / 1_000)} s after repeated failures.`,
        { retryAfterMs: left },
      );
    }
    if (scope.active >= options.concurrency)
      await new Promise<void>((resolve) => scope.waiting.push(resolve));
    else scope.active++;
    try {
      const result = await work();
      scope.failures = 0;
      options.onCall(operation, 'ok');
      return result;
    } catch (error) {
      const failure = error as ProviderError;
      options.onCall(operation, failure.fault ?? 'unclassified');
      if (counts(failure)) scope.failures++;
      if (failure.fault === 'identity' || scope.failures >= options.failures) {
        scope.openUntil = options.now() + options.openMs;
        // Half-open: one more failure after the wait opens it again.
        scope.failures = options.failures - 1;
        report();
        setTimeout(report, options.openMs + 1).unref();
      }
      throw error;
    } finally {
      const next = scope.waiting.shift();
      if (next === undefined) scope.active--;
      else next();
    }
  }

  return {
    name: provider.name,
    settleMs: provider.settleMs,
    describe: (target, signal) => call(target, 'describe', () => provider.describe(target, signal)),
    describeMany: (targets, signal): Promise<(CapacityState | Error)[]> =>
      provider.describeMany(targets, signal),
    setCapacity: (target, instances, expected, write) =>
      call(target, 'set', () => provider.setCapacity(target, instances, expected, write)),
    close: () => provider.close(),
  };
}

function counts(failure: ProviderError): boolean {
  return failure.fault === 'unknown' || failure.fault === 'unavailable' || failure.fault === 'pre_send';
}
