import type {
  AttemptRow,
  Call,
  DecisionRow,
  Effect,
  EventRow,
  Evidence,
  JobRow,
  ResourceRow,
} from './check-evidence.ts';

/** A whole second, as signatures count in seconds. */
export const start = 1_800_000_000_000;
/** The cloud objects of the run, as the ledgers name them. */
export const groupObject = 'aws:us-east-1:web';
export const deploymentObject = 'kubernetes:deployment:chaos/web';

/** The evidence with its readonly taken off, for tests that change it. */
export type MutableEvidence = {
  -readonly [Field in keyof Evidence]: Evidence[Field] extends readonly (infer Row)[]
    ? { -readonly [Column in keyof Row]: Row[Column] }[]
    : Evidence[Field] extends ReadonlyMap<string, readonly number[]>
      ? Map<string, number[]>
      : { -readonly [Column in keyof Evidence[Field]]: Evidence[Field][Column] };
};

/**
 * A small run in which everything went well: a group that went 4 → 5 → 6 and a Deployment that went 4 → 5, each change
 * decided, executed once and recorded, with all that a client, PostgreSQL and the clouds would have kept of it.
 */
export function goodEvidence(): MutableEvidence {
  const evidence: MutableEvidence = {
    run: { seed: 1, minutes: 1, commit: 'test', signatureMaxAgeMs: 15_000, lastWriteMs: 30_000 },
    calls: [],
    reported: [],
    effects: [seeded(groupObject, 'aws'), seeded(deploymentObject, 'kubernetes')],
    resources: [
      resource('group', 'aws', 'web'),
      resource('deployment', 'kubernetes', 'deployment:chaos/web'),
    ],
    jobs: [],
    decisions: [],
    attempts: [],
    events: [],
    samples: new Map([
      ['group', [start]],
      ['deployment', [start]],
    ]),
    forged: [],
    tampered: [],
  };
  carryOut(evidence, { id: 'one', resource: 'group', seq: 1, from: 4, to: 5, at: start + 1_000 });
  carryOut(evidence, { id: 'two', resource: 'group', seq: 2, from: 5, to: 6, at: start + 31_000 });
  carryOut(evidence, { id: 'three', resource: 'deployment', seq: 3, from: 4, to: 5, at: start + 2_000 });
  return evidence;
}

export interface Change {
  readonly id: string;
  readonly resource: 'group' | 'deployment';
  readonly seq: number;
  readonly from: number;
  readonly to: number;
  /** The moment of the intent. */
  readonly at: number;
}

/** Adds one change with all its traces. */
export function carryOut(
  evidence: MutableEvidence,
  { id, resource: resourceId, seq, from, to, at }: Change,
): void {
  const provider = resourceId === 'group' ? 'aws' : 'kubernetes';
  const decide = `decide-${id}`;
  const execute = `execute-${id}`;
  evidence.calls.push(
    call('decide', 'POST /scale/decide', { resource_id: resourceId }, [decide], at - 500),
    call('execute', 'POST /scale/execute', { decision_id: id }, [execute], at - 200),
  );
  evidence.reported.push({ jobId: execute, status: 'completed', outcome: 'succeeded' });
  evidence.jobs.push(job(decide, 'decide', resourceId, null), job(execute, 'execute', resourceId, id));
  evidence.decisions.push({
    id,
    job_id: decide,
    resource_id: resourceId,
    seq,
    type: to > from ? 'scaleup' : 'scaledown',
    reason: to > from ? 'demand_above_capacity' : 'demand_below_capacity',
    from,
    target: to,
    state: 'executed',
    executed: true,
    created: at - 400,
    expires: at + 60_000,
  } satisfies DecisionRow);
  evidence.attempts.push({
    id: `attempt-${id}`,
    decision_id: id,
    resource_id: resourceId,
    from,
    target: to,
    action: to > from ? 'ScaleUp' : 'ScaleDown',
    state: 'succeeded',
    intent: at,
    settle: at + 20_000,
    effect: at + 60,
    fence: provider === 'aws' ? {} : { uid: 'uid', resourceVersion: String(seq) },
  } satisfies AttemptRow);
  evidence.events.push(
    event(id, resourceId, 'intent', null, to, at),
    event(id, resourceId, 'outcome', true, to, at + 61),
  );
  evidence.effects.push({
    provider,
    object: resourceId === 'group' ? groupObject : deploymentObject,
    ours: true,
    receivedAt: Math.floor(at) + 20,
    appliedAt: Math.floor(at) + 40,
    from,
    to,
    signedAt: provider === 'aws' ? Math.floor(at / 1_000) * 1_000 : null,
    uid: provider === 'aws' ? null : 'uid',
    sentResourceVersion: provider === 'aws' ? null : String(seq),
    bounds: provider === 'aws' ? { min: 0, max: 40 } : null,
  } satisfies Effect);
}

/** An accepted request of a client, answered after 50 ms. @param sentAt epoch milliseconds. */
export function call(
  op: string,
  route: string,
  body: unknown,
  jobIds: readonly string[],
  sentAt: number,
): Call {
  return { sentAt, answeredAt: sentAt + 50, op, route, key: jobIds[0] ?? null, body, status: 202, jobIds };
}

/** Somebody else's change. */
export function external(object: string, from: number, to: number, at: number): Effect {
  const provider = object.startsWith('aws') ? 'aws' : 'kubernetes';
  return { ...seeded(object, provider), from, to, receivedAt: at, appliedAt: at };
}

function seeded(object: string, provider: Effect['provider']): Effect {
  return {
    provider,
    object,
    ours: false,
    receivedAt: start - 60_000,
    appliedAt: start - 60_000,
    from: null,
    to: 4,
    signedAt: null,
    uid: 'uid',
    sentResourceVersion: null,
    bounds: null,
  };
}

function resource(id: string, provider: ResourceRow['provider'], name: string): ResourceRow {
  return {
    id,
    name,
    provider,
    region: provider === 'aws' ? 'us-east-1' : null,
    cluster: null,
    min: 1,
    max: 10,
    up_step: 3,
    down_step: 3,
    cooldown: 10,
    down_cooldown: 20,
    hourly: 3_600,
    reversals: 3_600,
    decision_interval: 5,
  };
}

/** A job that has succeeded at its first attempt. */
export function job(id: string, kind: string, resourceId: string, decisionId: string | null): JobRow {
  return {
    id,
    kind,
    resource_id: resourceId,
    decision_id: decisionId,
    status: 'completed',
    outcome: 'succeeded',
    fence: 1,
    request_id: `${id}.0`,
    code: null,
  };
}

/** A row of the history. @param at epoch milliseconds. */
export function event(
  decisionId: string,
  resourceId: string,
  phase: string,
  success: boolean | null,
  next: number,
  at: number,
): EventRow {
  return {
    resource_id: resourceId,
    decision_id: decisionId,
    attempt_id: `attempt-${decisionId}`,
    phase,
    outcome: success === null ? null : success ? 'succeeded' : 'not_applied',
    next,
    success,
    at,
  };
}
