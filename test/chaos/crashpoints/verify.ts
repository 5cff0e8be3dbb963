import type { Rig, Subject } from './rig.ts';
import type { Scenario } from './scenarios.ts';

interface Effect {
  readonly from: number;
  readonly to: number;
  readonly appliedAt: number;
}

interface AttemptRow {
  readonly id: string;
  readonly decision_id: string;
  readonly state: string;
  readonly from_instances: number;
  readonly target_instances: number;
  readonly intent_ms: number;
  readonly intents: number;
  readonly outcomes: number;
  readonly success: string | null;
}

interface JobRow {
  readonly id: string;
  readonly status: string;
  readonly outcome: string;
  readonly code: string | null;
}

/** A worker that died between intent and answer leaves a question that AWS cannot answer: then nothing is written again. */
function mayEnd({ outcomes, place }: Scenario, outcome: string, code: string | null): boolean {
  if (place === 'group' && outcome === 'superseded' && code === 'outcome_unproven') return true;
  return (outcomes as readonly string[]).includes(outcome);
}

/** What the cloud's own ledger says our credentials changed, in order. */
export function effectsOn(rig: Rig, { place }: Scenario, name: string): Effect[] {
  const entries =
    place === 'group'
      ? rig.aws.ledger.writes().filter((entry) => entry.group === name)
      : rig.kubernetes.ledger
          .writes()
          .filter((entry) => entry.name === (place === 'floor' ? `${name}-hpa` : name));
  return entries
    .filter(({ requestId, from, to }) => requestId !== null && from !== null && to !== null && from !== to)
    .map(({ from, to, appliedAt }) => ({
      from: from as number,
      to: to as number,
      appliedAt: appliedAt as number,
    }));
}

/** Every way in which database and cloud disagree about a subject, or in which something is left undone. */
export async function disagreements(rig: Rig, scenario: Scenario, subject: Subject): Promise<string[]> {
  const found: string[] = [];
  const { rows: jobs } = await rig.pool.query<JobRow>(
    `select id, status, outcome, error ->> 'code' as code from jobs where resource_id = $1`,
    [subject.resourceId],
  );
  for (const { id, status, outcome, code } of jobs) {
    if (outcome === null) found.push(`job ${id} is ${status}`);
    else if (id === subject.jobId && !mayEnd(scenario, outcome, code))
      found.push(`the job ended as ${outcome}, not ${scenario.outcomes.join(' or ')}`);
  }
  if (!jobs.some(({ id }) => id === subject.jobId)) found.push('the job is lost');
  const { rows: attempts } = await rig.pool.query<AttemptRow>(
    `select a.id::text, a.decision_id, a.state, a.from_instances, a.target_instances, extract(epoch from a.intent_at)::double precision * 1000 as intent_ms,
      (select count(*)::integer from scaling_events e where e.attempt_id = a.id and e.phase = 'intent') as intents,
      (select count(*)::integer from scaling_events e where e.attempt_id = a.id and e.phase = 'outcome') as outcomes,
      (select e.outcome from scaling_events e where e.attempt_id = a.id and e.phase = 'outcome' and e.success) as success
    from attempts a where a.resource_id = $1 order by a.id`,
    [subject.resourceId],
  );
  for (const attempt of attempts) {
    if (attempt.state === 'open' || attempt.state === 'unknown')
      found.push(`attempt ${attempt.id} is still ${attempt.state}`);
    if (attempt.intents !== 1 || attempt.outcomes !== 1)
      found.push(`attempt ${attempt.id} has ${attempt.intents} intents and ${attempt.outcomes} outcomes`);
    if ((attempt.state === 'succeeded') !== (attempt.success !== null))
      found.push(`attempt ${attempt.id} is ${attempt.state}, its event says ${attempt.success}`);
  }
  found.push(...compare(effectsOn(rig, scenario, subject.name), attempts));
  const { rows: decisions } = await rig.pool.query<{ id: string; state: string; successes: number }>(
    `select d.id, d.state, (select count(*)::integer from scaling_events e where e.decision_id = d.id and e.phase = 'outcome' and e.success) as successes
      from scaling_decisions d where d.resource_id = $1`,
    [subject.resourceId],
  );
  for (const { id, state, successes } of decisions) {
    if (state === 'executing') found.push(`decision ${id} is still executing`);
    // A decision that was executed before the scenario began has no event here.
    const expected = state === 'executed' && scenario.name !== 'repeated' ? 1 : 0;
    if (successes !== expected && !(scenario.name === 'repeated' && state === 'executed'))
      found.push(`decision ${id} is ${state} with ${successes} successful events`);
  }
  return found;
}

/** Effects and successful attempts are the same list: same order, same sizes, each intent before its effect. */
function compare(effects: readonly Effect[], attempts: readonly AttemptRow[]): string[] {
  const successes = attempts.filter(({ state }) => state === 'succeeded');
  const words = (list: readonly (readonly [number, number])[]) =>
    list.map(([from, to]) => `${from}→${to}`).join(' ') || 'nothing';
  const ofCloud = words(effects.map(({ from, to }) => [from, to]));
  const ofEvents = words(
    successes.map(({ from_instances, target_instances }) => [from_instances, target_instances]),
  );
  if (ofCloud !== ofEvents) return [`the cloud changed ${ofCloud}, the events tell of ${ofEvents}`];
  return effects.flatMap(({ appliedAt }, index) =>
    appliedAt + 1 < (successes[index] as AttemptRow).intent_ms
      ? ['an effect came before its intent was committed']
      : [],
  );
}

/** The reconciler's own promise: what is stored as current is what the cloud has, and one event tells of each change by others. */
export async function observationFaults(rig: Rig, subject: Subject, size: number): Promise<string[]> {
  const { rows } = await rig.pool.query<{ current_instances: number; observed: number }>(
    `select current_instances, (select count(*)::integer from scaling_events e where e.resource_id = r.id and e.phase = 'observed') as observed
      from resources r where id = $1`,
    [subject.resourceId],
  );
  const row = rows[0];
  const found: string[] = [];
  if (row?.current_instances !== size)
    found.push(`stored as current is ${row?.current_instances}, the cloud has ${size}`);
  if ((row?.observed ?? 0) > 1) found.push(`one change by others was recorded ${row?.observed} times`);
  return found;
}
