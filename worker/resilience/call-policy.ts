import { type ProviderError, ProviderError as ProviderFailure } from '../providers/provider-error.ts';
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
  /** 0 while the circuit is closed. */
  openUntil: number;
  /** Whether the one call that may pass an open circuit after its time is under way. */
  probing: boolean;
}

type Operation = 'describe' | 'set';

/**
 * Limits the calls in flight to each region or cluster, and stops calling one that keeps failing. After `openMs` one
 * call is let through to see whether it has recovered. Our own few lines: the breaker must know our fault classes,
 * count per scope and say how long it stays open, and the libraries that run on Node 20 do none of these.
 */
export function withCallPolicy(provider: ScalingProvider, options: CallPolicyOptions): ScalingProvider {
  const scopes = new Map<string, Scope>();
  const scopeOf = (target: ProviderTarget): Scope => {
    const key = target.scope ?? '';
    const known = scopes.get(key) ?? { active: 0, waiting: [], failures: 0, openUntil: 0, probing: false };
    scopes.set(key, known);
    return known;
  };
  const report = () =>
    options.onCircuit([...scopes.values()].filter((scope) => scope.openUntil > options.now()).length);

  /** Passes when the circuit is closed, or as its probe; otherwise says how long to wait. */
  function pass(scope: Scope, target: ProviderTarget, operation: Operation): void {
    if (scope.openUntil === 0) return;
    const left = scope.openUntil - options.now();
    if (left <= 0 && !scope.probing) {
      scope.probing = true;
      return;
    }
    options.onCall(operation, 'circuit_open');
    throw circuitOpen(target, Math.max(left, probeWaitMs));
  }

  function settle(scope: Scope, failure: ProviderError | null): void {
    if (failure === null || answered.has(failure.fault)) {
      scope.failures = 0;
      if (scope.openUntil > 0) {
        scope.openUntil = 0;
        report();
      }
    } else if (failure.fault === 'identity' || counts(failure)) {
      scope.failures++;
      const failedProbe = scope.openUntil > 0;
      if (holdsForAll(failure) || failedProbe || scope.failures >= options.failures) {
        scope.openUntil = options.now() + options.openMs;
        report();
        setTimeout(report, options.openMs + 1).unref();
      }
    }
    scope.probing = false;
  }

  async function call<T>(
    target: ProviderTarget,
    operation: Operation,
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T> {
    const scope = scopeOf(target);
    if (scope.active >= options.concurrency) await waitForSlot(scope, operation, signal);
    else scope.active++;
    try {
      // Not before its turn: while it waited, those before it may have found the cloud down.
      pass(scope, target, operation);
      try {
        const result = await work();
        options.onCall(operation, isPartial(result) ? 'partial' : 'ok');
        settle(scope, null);
        return result;
      } catch (error) {
        const failure = error as ProviderError;
        options.onCall(operation, failure.fault ?? 'unclassified');
        settle(scope, failure);
        throw error;
      }
    } finally {
      const next = scope.waiting.shift();
      if (next === undefined) scope.active--;
      else next();
    }
  }

  return {
    name: provider.name,
    settleMs: provider.settleMs,
    describe: (target, signal) => call(target, 'describe', signal, () => provider.describe(target, signal)),
    describeMany: (targets, signal): Promise<(CapacityState | Error)[]> =>
      provider.describeMany(targets, signal),
    setCapacity: (target, instances, expected, write) =>
      call(target, 'set', write.signal, () => provider.setCapacity(target, instances, expected, write)),
    close: () => provider.close(),
  };
}

/** An advisory read failed: the look has a gap. */
function isPartial(result: unknown): boolean {
  const { blocks = [] } = (result ?? {}) as Partial<CapacityState>;
  return blocks.some(({ code }) => code === 'advisory_read_failed');
}

/** What callers wait while another one's probe is under way. */
const probeWaitMs = 1_000;

/** The cloud itself said no: it is there, and it knows us. */
const answered: ReadonlySet<string> = new Set(['throttled', 'conflict', 'permanent', 'fenced']);

/** Our own refusals to send say nothing about the cloud. */
const ownRefusals: ReadonlySet<string> = new Set(['aborted', 'fence_missing']);

/** Credentials that are not known fail for all of a scope; a permission may lack for one object alone. */
export function holdsForAll({ fault, code }: ProviderError): boolean {
  return fault === 'identity' && !code.endsWith('_denied');
}

function counts({ fault, code }: ProviderError): boolean {
  return (fault === 'unknown' || fault === 'unavailable' || fault === 'pre_send') && !ownRefusals.has(code);
}

/** Waits for a call in flight to end and takes its place; gives up, and leaves the queue, with the signal. */
async function waitForSlot(scope: Scope, operation: Operation, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const giveUp = (): void => {
      const place = scope.waiting.indexOf(take);
      if (place >= 0) scope.waiting.splice(place, 1);
      reject(aborted(operation));
    };
    const take = (): void => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    };
    scope.waiting.push(take);
    if (signal.aborted) giveUp();
    else signal.addEventListener('abort', giveUp, { once: true });
  });
}

function circuitOpen(target: ProviderTarget, retryAfterMs: number): ProviderFailure {
  return new ProviderFailure(
    'throttled',
    'circuit_open',
    `Calls to ${target.provider} ${target.scope ?? '(default)'} are held for ${Math.ceil(retryAfterMs / 1_000)} s after repeated failures; they are tried again then.`,
    { retryAfterMs },
  );
}

function aborted(operation: Operation): ProviderFailure {
  return new ProviderFailure(
    operation === 'set' ? 'pre_send' : 'unavailable',
    'aborted',
    'The call was called off while it waited for its turn; nothing was sent, and it is tried again.',
  );
}
