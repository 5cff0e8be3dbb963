import {
  type AttemptRow,
  type DecisionRow,
  type Effect,
  type EventRow,
  type Evidence,
  objectOf,
  type ResourceRow,
} from './check-evidence.ts';

/** An effect of ours and the attempt that asked for it; null when nobody here did. */
export interface Matched {
  readonly effect: Effect;
  readonly attempt: AttemptRow | null;
  /** The change of the object just before, in the ledger's order. */
  readonly before: Effect | null;
}

/** Everything that happened to one cloud object, in the cloud's own order. */
export interface ObjectHistory {
  readonly object: string;
  readonly resource: ResourceRow;
  readonly changes: readonly Effect[];
  readonly ours: readonly Matched[];
  /** By the moment of their intent. */
  readonly attempts: readonly AttemptRow[];
}

/** The evidence, indexed once. */
export interface History {
  readonly evidence: Evidence;
  readonly objects: readonly ObjectHistory[];
  /** Effects of ours on objects nobody registered. */
  readonly strays: readonly Effect[];
  readonly decisions: ReadonlyMap<string, DecisionRow>;
  readonly resources: ReadonlyMap<string, ResourceRow>;
  readonly eventsByAttempt: ReadonlyMap<string, readonly EventRow[]>;
  readonly matchedByAttempt: ReadonlyMap<string, readonly Matched[]>;
}

/** The evidence, sorted and indexed the ways the rules look at it. */
export function indexHistory(evidence: Evidence): History {
  const byObject = groupBy(evidence.effects, ({ object }) => object);
  const attempts = groupBy(evidence.attempts, ({ resource_id }) => resource_id);
  const objects = evidence.resources.map((resource) => {
    const object = objectOf(resource);
    const changes = byObject.get(object) ?? [];
    const own = [...(attempts.get(resource.id) ?? [])].sort((a, b) => a.intent - b.intent);
    return { object, resource, changes, ours: match(changes, own), attempts: own };
  });
  const known = new Set(objects.map(({ object }) => object));
  const matched = objects.flatMap(({ ours }) => ours).filter(({ attempt }) => attempt !== null);
  return {
    evidence,
    objects,
    strays: evidence.effects.filter(({ ours, object }) => ours && !known.has(object)),
    decisions: new Map(evidence.decisions.map((decision) => [decision.id, decision])),
    resources: new Map(evidence.resources.map((resource) => [resource.id, resource])),
    eventsByAttempt: groupBy(
      evidence.events.filter(({ attempt_id }) => attempt_id !== null),
      ({ attempt_id }) => attempt_id as string,
    ),
    matchedByAttempt: groupBy(matched, ({ attempt }) => (attempt as AttemptRow).id),
  };
}

/** The ledger's times are whole milliseconds. */
export const roundingMs = 1;

function match(changes: readonly Effect[], attempts: readonly AttemptRow[]): Matched[] {
  return changes.flatMap((effect, index) =>
    effect.ours ? [{ effect, attempt: attemptOf(effect, attempts), before: changes[index - 1] ?? null }] : [],
  );
}

/**
 * The attempt a request belongs to, by what only that attempt could have sent: on AWS the second its signature is dated
 * at, which is the intent's; on Kubernetes the uid and resourceVersion it was conditional on. Of several the last.
 */
function attemptOf(effect: Effect, attempts: readonly AttemptRow[]): AttemptRow | null {
  const fits = (attempt: AttemptRow): boolean => {
    if (attempt.target !== effect.to || attempt.intent > effect.receivedAt + roundingMs) return false;
    if (effect.provider === 'aws')
      return effect.signedAt === null || Math.floor(attempt.intent / 1_000) * 1_000 === effect.signedAt;
    return attempt.fence.uid === effect.uid && attempt.fence.resourceVersion === effect.sentResourceVersion;
  };
  return attempts.findLast(fits) ?? null;
}

export function groupBy<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const key = keyOf(value);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return groups;
}

/** Whether the object had this size at some moment between the two. */
export function everHad(changes: readonly Effect[], size: number, fromMs: number, untilMs: number): boolean {
  return changes.some(
    (change, index) =>
      change.to === size &&
      change.appliedAt <= untilMs + roundingMs &&
      (changes[index + 1]?.appliedAt ?? Number.POSITIVE_INFINITY) >= fromMs - roundingMs,
  );
}
