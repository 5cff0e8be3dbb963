import type { AttemptRow, Call, DecisionRow, Effect, EventRow, ResourceRow } from './check-evidence.ts';
import { type Frozen, frozenTimes } from './check-freezes.ts';
import {
  everHad,
  groupBy,
  type History,
  type Matched,
  type ObjectHistory,
  roundingMs,
} from './check-history.ts';

/** One violation, in words that lead to the evidence. */
export type Break = string;
type Rule = (history: History) => Break[];

/** Every invariant as one function from the evidence to what breaks it. The names are the report's fields. */
export const rules: Readonly<Record<string, { readonly invariant: string; readonly find: Rule }>> = {
  lost: { invariant: 'I1', find: lostJobs },
  unfinished: { invariant: 'I2', find: unfinished },
  changed_after_end: { invariant: 'I2', find: changedAfterEnd },
  idempotency_breaks: { invariant: 'I3', find: idempotencyBreaks },
  decision_breaks: { invariant: 'I4', find: decisionBreaks },
  double_successes: { invariant: 'I5', find: doubleSuccesses },
  duplicate_effects: { invariant: 'I5', find: duplicateEffects },
  effects_without_intent: { invariant: 'I6', find: effectsWithoutIntent },
  effects_without_event: { invariant: 'I7', find: effectsWithoutEvent },
  events_without_effect: { invariant: 'I8', find: eventsWithoutEffect },
  overlapping_attempts: { invariant: 'I9', find: overlappingAttempts },
  cooldown_breaks: { invariant: 'I10', find: cooldownBreaks },
  rate_breaks: { invariant: 'I10', find: rateBreaks },
  flap_breaks: { invariant: 'I10', find: flapBreaks },
  bounds_breaks: { invariant: 'I11', find: boundsBreaks },
  late_writes: { invariant: 'I12', find: lateWrites },
  stale_overwrites: { invariant: 'I13', find: staleOverwrites },
  switch_breaks: { invariant: 'I14', find: switchBreaks },
  budget_breaks: { invariant: 'I15', find: budgetBreaks },
  blind_scale_ins: { invariant: 'I16', find: blindScaleIns },
  audit_breaks: {
    invariant: 'I17',
    find: ({ evidence }) => evidence.tampered.map((sql) => `not refused: ${sql}`),
  },
  forged_jobs: { invariant: 'I18', find: forgedJobs },
};

const accepted = ({ status }: Call): boolean => status >= 200 && status < 300;
const over = ({ status }: { readonly status: string }): boolean =>
  status === 'completed' || status === 'failed';

function lostJobs({ evidence }: History): Break[] {
  const known = new Set(evidence.jobs.map(({ id }) => id));
  const promised = new Set(evidence.calls.filter(accepted).flatMap(({ jobIds }) => jobIds));
  return [...promised].filter((id) => !known.has(id)).map((id) => `job ${id} was accepted and is not there`);
}

function unfinished({ evidence }: History): Break[] {
  return [
    ...evidence.jobs
      .filter((job) => !over(job) || job.outcome === null)
      .map(({ id, kind, status, code }) => `${kind} job ${id} is ${status} (${code ?? 'no error'})`),
    ...evidence.attempts
      .filter(({ state }) => state === 'open' || state === 'unknown')
      .map(({ id, state }) => `attempt ${id} is ${state}`),
  ];
}

function changedAfterEnd({ evidence }: History): Break[] {
  const jobs = new Map(evidence.jobs.map((job) => [job.id, job]));
  return evidence.reported
    .filter(({ jobId, status, outcome }) => {
      const job = jobs.get(jobId);
      return job !== undefined && (job.status !== status || job.outcome !== outcome);
    })
    .map(({ jobId, outcome }) => `job ${jobId} was seen ${outcome}, and is now ${jobs.get(jobId)?.outcome}`);
}

/** One key: one body, one set of jobs, and in the table no job that another try of the same request made besides. */
function idempotencyBreaks({ evidence }: History): Break[] {
  const keyed = evidence.calls.filter(
    (call) => call.key !== null && call.jobIds.length > 0 && accepted(call),
  );
  const breaks: Break[] = [];
  for (const [key, calls] of groupBy(keyed, ({ key, route }) => `${route} ${key}`)) {
    const ids = new Set(calls.map(({ jobIds }) => [...jobIds].sort().join(' ')));
    if (ids.size > 1) breaks.push(`${key}: ${ids.size} different answers`);
    const bodies = new Set(calls.map(({ body }) => JSON.stringify(body)));
    if (bodies.size > 1) breaks.push(`${key}: accepted with ${bodies.size} different bodies`);
  }
  const sizes = new Map(
    evidence.calls.flatMap((call) => (call.key === null ? [] : [[call.key, sizeOf(call)]])),
  );
  const asked = evidence.jobs.filter(({ kind, request_id }) => {
    const key = keyIn(request_id);
    return key !== null && sizes.get(key)?.kind === kind;
  });
  for (const [key, jobs] of groupBy(asked, ({ request_id }) => keyIn(request_id) as string)) {
    const most = sizes.get(key)?.size ?? 1;
    if (jobs.length > most) breaks.push(`${key}: made ${jobs.length} jobs, ${most} were asked for`);
  }
  return breaks;
}

/** What one request may at most make. */
function sizeOf({ route, body }: Call): { kind: string; size: number } {
  const many = (body as { resource_ids?: unknown[] } | null)?.resource_ids;
  return { kind: route.includes('/execute') ? 'execute' : 'decide', size: many?.length ?? 1 };
}

/** A request's id is `<Idempotency-Key>.<try>`. */
function keyIn(requestId: string | null): string | null {
  return /^(.+)\.\d+$/.exec(requestId ?? '')?.[1] ?? null;
}

function decisionBreaks({ evidence, decisions }: History): Break[] {
  const byJob = groupBy(evidence.decisions, ({ job_id }) => job_id);
  const jobs = new Map(evidence.jobs.map((job) => [job.id, job]));
  const breaks = evidence.jobs
    .filter(({ kind }) => kind === 'decide')
    .flatMap(({ id, outcome }) => {
      const made = byJob.get(id)?.length ?? 0;
      const wanted = outcome === 'succeeded' || outcome === 'noop' ? 1 : 0;
      return made === wanted || (wanted === 0 && made <= 1)
        ? []
        : [`decide job ${id} (${outcome}) has ${made} decisions`];
    });
  for (const { id, job_id } of evidence.decisions)
    if (jobs.get(job_id)?.kind !== 'decide') breaks.push(`decision ${id} was made by no decide job`);
  for (const [seq, same] of groupBy(evidence.decisions, ({ seq }) => String(seq)))
    if (same.length > 1) breaks.push(`${same.length} decisions have seq ${seq}`);
  for (const { id, kind, outcome, decision_id } of evidence.jobs) {
    if (kind !== 'execute' || outcome !== 'succeeded') continue;
    const decision = decisions.get(decision_id ?? '');
    if (decision?.executed !== true)
      breaks.push(`execute job ${id} succeeded, its decision is ${decision?.state}`);
  }
  return breaks;
}

function doubleSuccesses({ evidence }: History): Break[] {
  const successes = evidence.events.filter(
    ({ phase, success, decision_id }) => phase === 'outcome' && success === true && decision_id !== null,
  );
  const doubled = [...groupBy(successes, ({ decision_id }) => decision_id as string)]
    .filter(([, events]) => events.length > 1)
    .map(([id, events]) => `decision ${id} succeeded ${events.length} times`);
  const succeeded = new Set(successes.map(({ decision_id }) => decision_id));
  return [
    ...doubled,
    ...evidence.decisions
      .filter(({ id, executed }) => executed !== succeeded.has(id))
      .map(({ id, executed }) => `decision ${id} says executed=${executed}, its events say otherwise`),
  ];
}

/** However often a decision was delivered, retried or resumed: the cloud changed once for it. */
function duplicateEffects({ objects }: History): Break[] {
  const matched = objects.flatMap(({ ours }) => ours).filter(({ attempt }) => attempt !== null);
  return [...groupBy(matched, ({ attempt }) => (attempt as AttemptRow).decision_id)].flatMap(
    ([id, effects]) =>
      effects
        .slice(1)
        .map(({ effect }) => `decision ${id} took effect ${effects.length} times: ${words(effect)}`),
  );
}

function effectsWithoutIntent({ objects, strays, eventsByAttempt }: History): Break[] {
  const unmatched = objects.flatMap(({ ours }) => ours).filter(({ attempt }) => attempt === null);
  const unannounced = objects
    .flatMap(({ ours }) => ours)
    .filter(({ attempt, effect }) => {
      const intent = eventsByAttempt.get(attempt?.id ?? '')?.find(({ phase }) => phase === 'intent');
      return attempt !== null && (intent === undefined || intent.at > effect.receivedAt + roundingMs);
    });
  return [
    ...unmatched.map(({ effect }) => `nobody meant this: ${words(effect)}`),
    ...strays.map((effect) => `on an object nobody registered: ${words(effect)}`),
    ...unannounced.map(
      ({ attempt, effect }) => `attempt ${attempt?.id} has no earlier intent event: ${words(effect)}`,
    ),
  ];
}

/** An effect that was reported as nothing is lost, unless somebody else overwrote it before it could be seen. */
function effectsWithoutEvent(history: History): Break[] {
  return history.objects.flatMap((object) =>
    object.ours.flatMap((matched) => {
      if (matched.attempt === null) return [];
      const ends = endsOf(history, matched.attempt);
      if (ends.some(({ success }) => success === true)) return [];
      const hidden = ends.some(
        ({ outcome, at }) => outcome === 'superseded' && overwritten(object, matched, at),
      );
      if (hidden) return [];
      const said = ends.map(({ outcome }) => outcome).join(', ') || 'nothing';
      return [`attempt ${matched.attempt.id} is recorded as ${said}: ${words(matched.effect)}`];
    }),
  );
}

const ends = new Set(['outcome', 'late_report']);

function endsOf({ eventsByAttempt }: History, { id }: AttemptRow): EventRow[] {
  return (eventsByAttempt.get(id) ?? []).filter(({ phase }) => ends.has(phase));
}

function overwritten(object: ObjectHistory, { effect }: Matched, untilMs: number): boolean {
  return object.changes.some(
    (change) =>
      !change.ours && change.appliedAt >= effect.appliedAt && change.appliedAt <= untilMs + roundingMs,
  );
}

/** What a worker may have read before it wrote that down: all its time limits together. */
const readBeforeMs = 20_000;

function eventsWithoutEffect(history: History): Break[] {
  const objects = new Map(history.objects.map((object) => [object.resource.id, object]));
  const attempts = new Map(history.evidence.attempts.map((attempt) => [attempt.id, attempt]));
  return history.evidence.events
    .filter(({ phase, success }) => ends.has(phase) && success === true)
    .filter((event) => {
      if (event.attempt_id !== null && history.matchedByAttempt.has(event.attempt_id)) return false;
      if (event.outcome === 'succeeded') return true;
      // Read back: then the cloud must have had that size, whoever made it so.
      const since = attempts.get(event.attempt_id ?? '')?.intent ?? event.at - readBeforeMs;
      const changes = objects.get(event.resource_id)?.changes ?? [];
      return event.next === null || !everHad(changes, event.next, since, event.at);
    })
    .map(
      ({ outcome, decision_id, attempt_id }) =>
        `${outcome} of decision ${decision_id}, attempt ${attempt_id}, left no trace in the cloud`,
    );
}

/** From intent to outcome an attempt has its object for itself. */
function overlappingAttempts(history: History): Break[] {
  return history.objects.flatMap(({ object, attempts }) =>
    attempts.slice(1).flatMap((attempt, index) => {
      const before = attempts[index] as AttemptRow;
      const closed =
        endsOf(history, before).find(({ phase }) => phase === 'outcome')?.at ?? Number.POSITIVE_INFINITY;
      return attempt.intent >= closed
        ? []
        : [`${object}: attempt ${attempt.id} began before ${before.id} was closed`];
    }),
  );
}

/** Only effects start a cooldown: once by what PostgreSQL recorded, once by the ledger alone. */
function cooldownBreaks({ objects }: History): Break[] {
  return objects.flatMap(({ object, resource, attempts, ours }) => {
    const breaks: Break[] = [];
    let armedAt = Number.NEGATIVE_INFINITY;
    for (const attempt of attempts) {
      const early = armedAt + cooldownMs(resource, attempt.action) - attempt.intent;
      if (early > 0.01)
        breaks.push(`${object}: attempt ${attempt.id} began ${early.toFixed(1)} ms too early`);
      if (attempt.state === 'succeeded') armedAt = Math.max(armedAt, attempt.effect ?? armedAt);
    }
    const real = ours.filter(({ effect }) => effect.from !== effect.to);
    for (const [index, { effect, attempt }] of real.entries()) {
      const before = real[index - 1]?.effect;
      if (before === undefined || attempt === null) continue;
      const early = before.appliedAt + cooldownMs(resource, attempt.action) - effect.appliedAt;
      if (early > roundingMs) breaks.push(`${object}: ${early} ms too early by the ledger: ${words(effect)}`);
    }
    return breaks;
  });
}

function cooldownMs(resource: ResourceRow, action: AttemptRow['action']): number {
  return (action === 'ScaleUp' ? resource.cooldown : resource.down_cooldown) * 1_000;
}

const hourMs = 3_600_000;

function rateBreaks({ objects }: History): Break[] {
  return objects.flatMap(({ object, resource, ours }) => {
    const times = ours
      .filter(({ effect }) => effect.from !== effect.to)
      .map(({ effect }) => effect.appliedAt);
    const over = times.filter(
      (at, index) => at - (times[index - resource.hourly] ?? Number.NEGATIVE_INFINITY) < hourMs,
    );
    return over.map((at) => `${object}: more than ${resource.hourly} changes in the hour before ${iso(at)}`);
  });
}

const halfHourMs = 1_800_000;

/** Who has turned too often within half an hour may scale out, and not in. */
function flapBreaks({ objects, evidence }: History): Break[] {
  const allowed = limitsOf(evidence.calls, 'max_reversals_per_half_hour');
  return objects.flatMap(({ object, resource, attempts }) => {
    const made = attempts.filter(({ state }) => state === 'succeeded');
    return attempts.flatMap((attempt) => {
      if (attempt.action !== 'ScaleDown') return [];
      const before = made.filter(
        ({ intent }) => intent < attempt.intent && intent > attempt.intent - halfHourMs,
      );
      const turns = [...before, attempt].filter(
        ({ action }, index, all) => index > 0 && action !== all[index - 1]?.action,
      ).length;
      const most = allowed(resource, resource.reversals, attempt.intent);
      return turns <= most
        ? []
        : [`${object}: attempt ${attempt.id} is turn ${turns} in half an hour, of ${most}`];
    });
  });
}

function boundsBreaks({ objects, evidence }: History): Break[] {
  const allowed = limitsOf(evidence.calls, 'max_instances');
  return objects.flatMap(({ object, resource, ours }) =>
    ours.flatMap(({ effect, attempt }) => {
      if (attempt === null || effect.to === null) return [];
      const { to, bounds } = effect;
      const faults: string[] = [];
      const max = allowed(resource, resource.max, attempt.intent);
      if (attempt.action === 'ScaleUp' && to > max) faults.push(`above ${max}`);
      if (attempt.action === 'ScaleDown' && to < resource.min) faults.push(`below ${resource.min}`);
      if (bounds !== null && (to < bounds.min || to > bounds.max))
        faults.push('outside the bounds of the cloud');
      const step = attempt.action === 'ScaleUp' ? resource.up_step : resource.down_step;
      if (Math.abs(to - attempt.from) > step) faults.push(`a step of more than ${step}`);
      return faults.map((fault) => `${object}: ${fault}: ${words(effect)}`);
    }),
  );
}

type Limit = 'max_instances' | 'max_reversals_per_half_hour';

/** A limit of a resource that operators change meanwhile: `now` is what the table says at the end. */
function limitsOf(calls: readonly Call[], limit: Limit) {
  const patches = groupBy(
    calls.filter(({ op }) => op === 'patch'),
    ({ route }) => route.slice(route.lastIndexOf('/') + 1),
  );
  const registered = new Map(
    calls
      .filter(({ op }) => op === 'register')
      .map(({ body }) => body as { name: string; region: string | null } & Partial<Record<Limit, number>>)
      .map((body) => [`${body.region ?? ''} ${body.name}`, body[limit]]),
  );
  return (resource: ResourceRow, now: number, atMs: number): number => {
    const first = registered.get(`${resource.region ?? ''} ${resource.name}`) ?? now;
    return mostAllowed(limit, first, patches.get(resource.id) ?? [], atMs);
  };
}

/**
 * The greatest maximum that may have been in force: the last one confirmed before, or the one it was registered with, and
 * every change that was sent before and confirmed later or never.
 */
function mostAllowed(limit: Limit, first: number, patches: readonly Call[], atMs: number): number {
  const changes = patches.flatMap((call) => {
    const max = (call.body as Partial<Record<Limit, number>> | null)?.[limit];
    return max === undefined || call.status === 412 ? [] : [{ ...call, max }];
  });
  const settled = changes.filter((call) => accepted(call) && call.answeredAt < atMs);
  const open = changes.filter((call) => call.sentAt <= atMs && !(accepted(call) && call.answeredAt < atMs));
  const inForce = settled.at(-1)?.max ?? first;
  return Math.max(inForce, ...open.map(({ max }) => max));
}

/** Slack for a signature's whole seconds and for what lies between its check and the ledger. */
const signatureSlackMs = 1_100;

function lateWrites({ objects, decisions, evidence }: History): Break[] {
  const { signatureMaxAgeMs } = evidence.run;
  const breaks: Break[] = [];
  for (const { object, attempts, ours } of objects) {
    for (const { id, intent, decision_id } of attempts) {
      const expires = decisions.get(decision_id)?.expires ?? Number.NEGATIVE_INFINITY;
      if (intent > expires)
        breaks.push(
          `${object}: attempt ${id} began ${Math.round(intent - expires)} ms after its decision expired`,
        );
    }
    for (const { effect, attempt } of ours) {
      if (attempt === null || effect.provider !== 'aws') continue;
      const late = effect.appliedAt - (attempt.intent + signatureMaxAgeMs + signatureSlackMs);
      if (late > 0) breaks.push(`${object}: ${late} ms after the signature's end: ${words(effect)}`);
    }
  }
  return breaks;
}

/**
 * A register with compare-and-set, in the ledger's order: decisions take effect in the order they were made, and each on
 * the size it was made for. AWS compares nothing: somebody else's change in the moment between read and write is theirs.
 */
function staleOverwrites(history: History): Break[] {
  return history.objects.flatMap(({ object, ours }) => {
    const breaks: Break[] = [];
    let newest = Number.NEGATIVE_INFINITY;
    for (const matched of ours) {
      const { effect, attempt } = matched;
      if (attempt === null) continue;
      const seq = Number((history.decisions.get(attempt.decision_id) as DecisionRow | undefined)?.seq);
      if (seq < newest)
        breaks.push(`${object}: decision ${seq} took effect after ${newest}: ${words(effect)}`);
      newest = Math.max(newest, seq);
      if (effect.from !== attempt.from && !isExternalRace(matched))
        breaks.push(`${object}: meant for ${attempt.from}: ${words(effect)}`);
    }
    return breaks;
  });
}

/** Whether somebody else changed an AWS group between our read and our write. */
export function isExternalRace({ effect, attempt, before }: Matched): boolean {
  return (
    effect.provider === 'aws' &&
    before !== null &&
    !before.ours &&
    attempt !== null &&
    effect.from !== attempt.from &&
    before.appliedAt > attempt.intent - readBeforeMs
  );
}

interface Stop {
  readonly scope: string;
  /** From the answer to the stop to the moment its release was sent. */
  readonly from: number;
  readonly until: number;
}

function switchBreaks(history: History): Break[] {
  const stops = stopsOf(history.evidence.calls);
  const freezes = frozenTimes(history.evidence.calls, lastMoment(history));
  const pauses = history.evidence.calls.filter((call) => call.op === 'patch' && accepted(call));
  return history.objects.flatMap((object) => {
    const mine = stops.filter(({ scope }) => covers(scope, object.resource));
    const frozen = freezes.filter(({ scope }) => covers(scope, object.resource));
    const paused = pauses.filter(({ route }) => route.endsWith(object.resource.id));
    return [
      ...duringStops(history, object, mine),
      ...duringFreezes(history, object, frozen),
      ...duringPauses(object, paused),
    ];
  });
}

function lastMoment({ evidence }: History): number {
  const intents = evidence.attempts.map(({ intent }) => intent);
  const arrivals = evidence.effects.map(({ receivedAt }) => receivedAt);
  return [...intents, ...arrivals].reduce((latest, at) => Math.max(latest, at), 0);
}

/** The times in which a scope was stopped, by what its operator was answered. */
export function stopsOf(calls: readonly Call[]): Stop[] {
  const stops: Stop[] = [];
  for (const [route, changes] of groupBy(
    calls.filter(({ op }) => op === 'control'),
    (call) => call.route,
  )) {
    const scope = decodeURIComponent(route.slice(route.lastIndexOf('/') + 1));
    for (const call of changes) {
      if (!isStop(call) || !accepted(call)) continue;
      // A release that comes late, from a process that was frozen, carries a code which this stop has made void.
      const released = changes.find((other) => isRelease(other) && other.sentAt >= call.answeredAt);
      stops.push({ scope, from: call.answeredAt, until: released?.sentAt ?? Number.POSITIVE_INFINITY });
    }
  }
  return stops;
}

/** The second step; the first only asks. */
function isRelease({ body }: Call): boolean {
  return (body as { release_code?: string } | null)?.release_code !== undefined;
}

function isStop({ body }: Call): boolean {
  return (body as { stopped?: boolean } | null)?.stopped === true;
}

function covers(scope: string, resource: ResourceRow): boolean {
  return (
    scope === 'global' ||
    scope === `provider:${resource.provider}` ||
    scope === `resource:${resource.id}` ||
    scope === `scope:${resource.provider}:${resource.region ?? resource.cluster ?? ''}`
  );
}

function duringStops(
  { evidence }: History,
  { object, attempts, ours }: ObjectHistory,
  stops: readonly Stop[],
): Break[] {
  return stops.flatMap(({ scope, from, until }) => [
    ...attempts
      .filter(({ intent }) => intent > from && intent < until)
      .map(
        ({ id, intent }) =>
          `${object}: attempt ${id} began ${Math.round(intent - from)} ms after ${scope} was stopped`,
      ),
    ...ours
      .filter(
        ({ effect }) => effect.receivedAt > from + evidence.run.lastWriteMs && effect.receivedAt < until,
      )
      .map(({ effect }) => `${object}: too long after ${scope} was stopped: ${words(effect)}`),
  ]);
}

/** As a stop, for one direction or both: nothing is exempt, not even what comes back between its bounds. */
function duringFreezes(history: History, object: ObjectHistory, freezes: readonly Frozen[]): Break[] {
  const actions = { up: 'ScaleUp', down: 'ScaleDown' } as const;
  return freezes.flatMap(({ scope, direction, from, until }) => {
    const isFrozen = (attempt: AttemptRow | null) =>
      attempt === null || direction === 'both' || attempt.action === actions[direction];
    const frozen = {
      ...object,
      attempts: object.attempts.filter(isFrozen),
      ours: object.ours.filter(({ attempt }) => isFrozen(attempt)),
    };
    return duringStops(history, frozen, [{ scope: `${scope} (freeze ${direction})`, from, until }]);
  });
}

function duringPauses({ object, attempts }: ObjectHistory, patches: readonly Call[]): Break[] {
  return patches.flatMap((call, index) => {
    const body = call.body as Record<string, unknown>;
    return (['ScaleUp', 'ScaleDown'] as const).flatMap((action) => {
      const field = action === 'ScaleUp' ? 'scale_up_paused_until' : 'scale_down_paused_until';
      const until = Date.parse(String(body[field]));
      if (Number.isNaN(until)) return [];
      const changed =
        patches.slice(index + 1).find((later) => field in (later.body as object))?.sentAt ?? until;
      return attempts
        .filter(
          (attempt) =>
            attempt.action === action &&
            attempt.intent > call.answeredAt &&
            attempt.intent < Math.min(until, changed),
        )
        .map(({ id }) => `${object}: attempt ${id} began while ${action} was paused`);
    });
  });
}

/** Sums the ledger's own changes in every window that ends with one, by when they were intended: late ones count where they belong. */
function budgetBreaks({ evidence, objects }: History): Break[] {
  return (evidence.run.budgets ?? []).flatMap(({ scope, direction, windowMs, limit }) => {
    const changes = objects
      .filter(({ resource }) => covers(scope, resource))
      .flatMap(({ ours }) => ours)
      .map(({ effect, attempt }) => ({
        at: attempt?.intent ?? effect.appliedAt,
        // As it was meant: on AWS somebody may have changed the size in the moment between our read and our write.
        by: attempt === null ? (effect.to ?? 0) - (effect.from ?? 0) : attempt.target - attempt.from,
      }))
      .filter(({ by }) => by !== 0 && (direction === 'both' || (direction === 'in') === by < 0))
      .sort((a, b) => a.at - b.at);
    const breaks: Break[] = [];
    let sum = 0;
    let oldest = 0;
    for (const { at, by } of changes) {
      sum += Math.abs(by);
      for (
        let first = changes[oldest];
        first !== undefined && first.at <= at - windowMs;
        first = changes[oldest]
      ) {
        sum -= Math.abs(first.by);
        oldest += 1;
      }
      if (sum > limit)
        breaks.push(
          `${scope}: ${sum} scaled ${direction} in the ${windowMs / 1_000} s before ${iso(at)}, ${limit} allowed`,
        );
    }
    return breaks;
  });
}

/** Older than this a sample says nothing any more (three decision intervals when that is longer), and may not scale in. */
const staleAfterMs = 180_000;
const clockSlackMs = 5_000;

function blindScaleIns({ evidence, resources }: History): Break[] {
  return evidence.decisions
    .filter(({ type, resource_id, created, from }) => {
      const resource = resources.get(resource_id);
      // A resource above its own maximum comes back without being asked by any sample.
      if (type !== 'scaledown' || resource === undefined || from > Math.min(resource.max, leastMaximum))
        return false;
      const times = evidence.samples.get(resource_id) ?? [];
      const newest = times.findLast((at) => at <= created + clockSlackMs) ?? Number.NEGATIVE_INFINITY;
      return created - newest > Math.max(staleAfterMs, 3_000 * resource.decision_interval) + clockSlackMs;
    })
    .map(({ id, resource_id }) => `decision ${id} scales ${resource_id} in, whose samples had stopped`);
}

/** Operators of a run lower a maximum to no less than this. */
const leastMaximum = 8;

function forgedJobs({ evidence }: History): Break[] {
  const known = new Set(evidence.jobs.map(({ id }) => id));
  return evidence.forged
    .filter((id) => known.has(id))
    .map((id) => `job ${id} was made up in Redis and is now there`);
}

function words({ object, from, to, appliedAt }: Effect): string {
  return `${object} ${from} → ${to} at ${iso(appliedAt)}`;
}

function iso(atMs: number): string {
  return new Date(atMs).toISOString();
}
