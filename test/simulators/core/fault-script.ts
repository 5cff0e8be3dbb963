import type { Random } from './seeded-random.ts';

/** What goes wrong in transport; each simulator words the errors in its own protocol. Delays are real ms. */
export type TransportEffect =
  /** The cloud's own throttling answer; nothing is applied. */
  | { readonly kind: 'throttle'; readonly retryAfterSeconds?: number }
  /** An error in the protocol's envelope. With `applied`, the change is made first. */
  | {
      readonly kind: 'error';
      readonly status: number;
      readonly code: string;
      readonly message?: string;
      readonly applied?: boolean;
    }
  /** What a load balancer in front of the cloud says: HTML where a client expects the protocol. */
  | { readonly kind: 'html'; readonly status: number; readonly applied?: boolean }
  /** The connection is reset before a byte of the answer. */
  | { readonly kind: 'reset'; readonly applied?: boolean }
  /** A good answer (so the change is applied), cut in the middle of its body. */
  | { readonly kind: 'truncate' }
  /** The connection stays open and nothing ever comes. */
  | { readonly kind: 'hang'; readonly applied?: boolean }
  /** The change takes effect `delayMs` later; meanwhile the client hangs, or got `status`. */
  | { readonly kind: 'apply-late'; readonly delayMs: number; readonly status?: number }
  /** A good answer, late. `applied: 'first'` makes the change at once; otherwise just before the answer. */
  | { readonly kind: 'slow'; readonly delayMs: number; readonly applied?: 'first' }
  /** A read answers what was true before the last write, while that write is younger than `staleMs`. */
  | { readonly kind: 'stale-read'; readonly staleMs: number };

export interface FaultRule<Effect> {
  /** Action names this applies to; absent means all. */
  readonly action?: string | readonly string[];
  /** Group, or namespace/name; absent means all. */
  readonly target?: string;
  /** Region or cluster; absent means all. */
  readonly scope?: string;
  readonly effect: Effect;
  /** Strikes at most so often; absent means always. */
  readonly count?: number;
  /** Lets so many matching requests pass first. */
  readonly skip?: number;
  /** Chance per matching request, from the seeded source; default 1. */
  readonly probability?: number;
  /** Time window, virtual epoch ms: active while fromTime <= now < untilTime. */
  readonly fromTime?: number;
  readonly untilTime?: number;
}

export interface FaultRuleStatus<Effect> extends FaultRule<Effect> {
  readonly id: string;
  readonly seen: number;
  readonly injected: number;
}

export interface FaultableRequest {
  readonly action: string;
  readonly scope: string | null;
  /** Several when the request names several objects; a rule's target matches any of them. */
  readonly target: string | readonly string[] | null;
}

/** Rules are asked in the order they were added; the first that applies decides the request's fate. */
export interface FaultScript<Effect> {
  add(rule: FaultRule<Effect>): string;
  remove(id: string): boolean;
  clear(): void;
  list(): readonly FaultRuleStatus<Effect>[];
  effectOn(request: FaultableRequest): Effect | undefined;
}

interface ArmedRule<Effect> {
  readonly id: string;
  readonly rule: FaultRule<Effect>;
  seen: number;
  injected: number;
}

/** A script without rules. @param options `random` decides rules with a probability. */
export function createFaultScript<Effect>(options: {
  readonly now: () => number;
  readonly random: Random;
}): FaultScript<Effect> {
  let rules: ArmedRule<Effect>[] = [];
  let nextId = 1;

  function applies(armed: ArmedRule<Effect>, request: FaultableRequest): boolean {
    const { rule } = armed;
    if (!matches(rule, request) || !isActive(rule, options.now())) return false;
    armed.seen += 1;
    if (armed.seen <= (rule.skip ?? 0)) return false;
    if (armed.injected >= (rule.count ?? Number.POSITIVE_INFINITY)) return false;
    if (rule.probability !== undefined && options.random() >= rule.probability) return false;
    armed.injected += 1;
    return true;
  }

  return {
    add(rule) {
      const id = `fault-${nextId++}`;
      rules.push({ id, rule, seen: 0, injected: 0 });
      return id;
    },
    remove(id) {
      const before = rules.length;
      rules = rules.filter((armed) => armed.id !== id);
      return rules.length < before;
    },
    clear() {
      rules = [];
    },
    list: () => rules.map(({ id, rule, seen, injected }) => ({ ...rule, id, seen, injected })),
    effectOn: (request) => rules.find((armed) => applies(armed, request))?.rule.effect,
  };
}

function matches(rule: FaultRule<unknown>, request: FaultableRequest): boolean {
  if (rule.action !== undefined) {
    const actions = typeof rule.action === 'string' ? [rule.action] : rule.action;
    if (!actions.includes(request.action)) return false;
  }
  if (rule.target !== undefined && ![request.target].flat().includes(rule.target)) return false;
  return rule.scope === undefined || rule.scope === request.scope;
}

function isActive(rule: FaultRule<unknown>, now: number): boolean {
  return (
    (rule.fromTime ?? Number.NEGATIVE_INFINITY) <= now && now < (rule.untilTime ?? Number.POSITIVE_INFINITY)
  );
}
