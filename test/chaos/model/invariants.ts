import type { Model } from './commands.ts';
import type { LedgerEntry, World } from './world.ts';

interface AttemptRow {
  readonly id: string;
  readonly decision_id: string;
  readonly seq: number;
  readonly state: string;
  readonly action: 'ScaleUp' | 'ScaleDown';
  readonly from_instances: number;
  readonly target_instances: number;
  readonly intent_at: number;
  readonly effect_at: number | null;
  readonly expires_at: number;
  readonly outcome: string | null;
  readonly outcomes: number;
  readonly late_success: boolean;
}

const cooldownMs = 30_000;
/** Two clocks meet here: PostgreSQL's and this process's; on one machine, so this is about rounding. */
const slackMs = 50;
/** Between a request's intent and its arrival: the send deadline, and the client's own patience. */
const arrivalMs = 5_000 + 10_000;
/** An AWS request lands while its signature lives; Kubernetes' while the connection does. */
const lateMs = 300_000;

/** Every broken invariant, by its number in the specification. Call it when all is healed and at rest. */
export async function brokenInvariants(model: Model, world: World): Promise<string[]> {
  const broken = [...world.surprises];
  const ids = [...model.jobs.keys()];
  const { rows: jobs } = await world.pool.query<{ id: string; status: string; outcome: string | null }>(
    'select id, status, outcome from jobs where id = any ($1::uuid[])',
    [ids],
  );
  if (jobs.length !== ids.length) broken.push(`I1: ${ids.length - jobs.length} jobs are lost`);
  for (const job of jobs) if (job.outcome === null) broken.push(`I2: job ${job.id} is ${job.status}`);
  for (const [index, { id }] of model.resources.entries())
    broken.push(...(await brokenFor(model, world, index, id)).map((text) => `${text} (resource ${index})`));
  return broken;
}

async function brokenFor(model: Model, world: World, index: number, resourceId: string): Promise<string[]> {
  const broken: string[] = [];
  const ledger = world.ledger.filter((entry) => entry.resourceId === resourceId);
  const attempts = await attemptsOf(world, resourceId);
  const effects = ledger.filter(({ attemptId, from, to }) => attemptId !== null && from !== to);
  broken.push(...registerFaults(world, resourceId, ledger));
  broken.push(...effectFaults(effects, attempts, ledger));
  broken.push(...orderFaults(effects, attempts));
  broken.push(...attemptFaults(attempts));
  broken.push(...successFaults(ledger, attempts));
  for (const stop of model.stops.filter((each) => each.resource === index)) {
    for (const { id, intent_at } of attempts) {
      if (intent_at > stop.from + slackMs && intent_at < stop.until - slackMs)
        broken.push(`I14: attempt ${id} began while executions were stopped`);
    }
  }
  const { rows: events } = await world.pool.query<{ phase: string; attempt_id: string }>(
    `select phase, attempt_id::text from scaling_events where resource_id = $1 and phase in ('intent', 'outcome') and attempt_id is not null order by seq`,
    [resourceId],
  );
  for (const [position, { phase, attempt_id }] of events.entries()) {
    const expected = position % 2 === 0 ? 'intent' : 'outcome';
    if (phase !== expected || (phase === 'outcome' && events[position - 1]?.attempt_id !== attempt_id))
      broken.push(`I9: two attempts of one resource overlap at event ${position}`);
  }
  return broken;
}

async function attemptsOf(world: World, resourceId: string): Promise<AttemptRow[]> {
  const { rows } = await world.pool.query<AttemptRow>(
    `select a.id::text, a.decision_id, d.seq::double precision as seq, a.state, a.action, a.from_instances, a.target_instances,
      extract(epoch from a.intent_at)::double precision * 1000 + $2 as intent_at,
      extract(epoch from a.effect_at)::double precision * 1000 + $2 as effect_at,
      extract(epoch from d.expires_at)::double precision * 1000 + $2 as expires_at,
      (select e.outcome from scaling_events e where e.attempt_id = a.id and e.phase = 'outcome') as outcome,
      (select count(*)::integer from scaling_events e where e.attempt_id = a.id and e.phase = 'outcome') as outcomes,
      exists (select 1 from scaling_events e where e.attempt_id = a.id and e.phase = 'late_report' and e.success) as late_success
    from attempts a join scaling_decisions d on d.id = a.decision_id where a.resource_id = $1 order by a.id`,
    [resourceId, world.offsetMs],
  );
  return rows;
}

/** The cloud is a register: its ledger, folded, is its size. */
function registerFaults(world: World, resourceId: string, ledger: readonly LedgerEntry[]): string[] {
  let size = 4;
  for (const { from, to } of ledger) {
    if (from !== size) return [`the ledger breaks off at ${size}, then from ${from}`];
    size = to;
  }
  return world.objectOf(resourceId).size === size ? [] : ['the register is not what its ledger says'];
}

function effectFaults(
  effects: readonly LedgerEntry[],
  attempts: readonly AttemptRow[],
  ledger: readonly LedgerEntry[],
): string[] {
  const broken: string[] = [];
  const perDecision = new Map<string, number>();
  for (const effect of effects) {
    const decision = effect.decisionId as string;
    perDecision.set(decision, (perDecision.get(decision) ?? 0) + 1);
    const attempt = attempts.find(({ id }) => id === effect.attemptId);
    if (attempt === undefined) {
      broken.push(`I6: the effect ${effect.from}→${effect.to} has no attempt`);
      continue;
    }
    if (effect.at < attempt.intent_at - slackMs) broken.push('I6: an effect came before its intent');
    // Its outcome row then says so: the cloud has neither the old size nor ours, and cannot tell who was first.
    const buried =
      attempt.state === 'superseded' &&
      ledger.some(({ attemptId, at }) => attemptId === null && at >= effect.at);
    if (attempt.state !== 'succeeded' && !attempt.late_success && !buried)
      broken.push(`I7: the effect of attempt ${attempt.id} is recorded nowhere: it is ${attempt.state}`);
    if (effect.to < 1 || effect.to > 9) broken.push(`I11: ${effect.to} is out of bounds`);
    if (attempt.intent_at > attempt.expires_at + slackMs)
      broken.push(`I12: attempt ${attempt.id} began after its decision had expired`);
    if (effect.at > attempt.intent_at + Math.max(arrivalMs, lateMs) + slackMs)
      broken.push(
        `I12: attempt ${attempt.id} took effect ${effect.at - attempt.intent_at} ms after its intent`,
      );
    // Between the read and the write a cloud without compare-and-set may be changed by others.
    const disturbed = ledger.some(
      ({ attemptId, at }) => attemptId === null && at > attempt.intent_at - 60_000 && at <= effect.at,
    );
    if (effect.from !== attempt.from_instances && !disturbed)
      broken.push(
        `I12: attempt ${attempt.id} meant ${attempt.from_instances}→${effect.to}, but overwrote ${effect.from}`,
      );
  }
  for (const [decision, count] of perDecision)
    if (count > 1) broken.push(`I5: decision ${decision} took effect ${count} times`);
  return broken;
}

function orderFaults(effects: readonly LedgerEntry[], attempts: readonly AttemptRow[]): string[] {
  const broken: string[] = [];
  let last = 0;
  for (const { attemptId, at } of effects) {
    const attempt = attempts.find(({ id }) => id === attemptId);
    if (attempt === undefined) continue;
    if (attempt.seq < last) broken.push(`I13: a decision took effect after a newer one had`);
    last = Math.max(last, attempt.seq);
    const overtaken = attempts.some((other) => other.seq > attempt.seq && other.intent_at < at - slackMs);
    if (overtaken) broken.push(`I12: attempt ${attempt.id} took effect after a newer decision had begun`);
  }
  return broken;
}

function attemptFaults(attempts: readonly AttemptRow[]): string[] {
  const broken: string[] = [];
  let effect: { at: number } | null = null;
  for (const attempt of attempts) {
    if (attempt.state === 'open' || attempt.state === 'unknown')
      broken.push(`I2: attempt ${attempt.id} is still ${attempt.state}`);
    if (attempt.outcomes !== 1) broken.push(`I7: attempt ${attempt.id} has ${attempt.outcomes} outcomes`);
    if (effect !== null && attempt.intent_at < effect.at + cooldownMs - slackMs)
      broken.push(
        `I10: attempt ${attempt.id} began ${attempt.intent_at - effect.at} ms after the last effect`,
      );
    if (attempt.effect_at !== null) effect = { at: attempt.effect_at };
  }
  return broken;
}

/** A success is the cloud's own word, or what it was seen to have. */
function successFaults(ledger: readonly LedgerEntry[], attempts: readonly AttemptRow[]): string[] {
  const broken: string[] = [];
  const successes = new Map<string, number>();
  for (const attempt of attempts.filter(({ state }) => state === 'succeeded')) {
    successes.set(attempt.decision_id, (successes.get(attempt.decision_id) ?? 0) + 1);
    const own = ledger.some(({ attemptId }) => attemptId === attempt.id);
    const seen =
      attempt.outcome === 'inferred' &&
      ledger.some(({ to, at }) => to === attempt.target_instances && at >= attempt.intent_at - slackMs);
    if (!own && !seen) broken.push(`I8: attempt ${attempt.id} is a success, but the cloud never had it`);
  }
  for (const [decision, count] of successes)
    if (count > 1) broken.push(`I5: decision ${decision} succeeded ${count} times`);
  return broken;
}
