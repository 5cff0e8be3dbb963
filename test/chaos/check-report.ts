import type { EventRow, Evidence } from './check-evidence.ts';
import { groupBy, indexHistory, type ObjectHistory } from './check-history.ts';
import { type Break, isExternalRace, rules } from './check-rules.ts';

export interface Spread {
  readonly n: number;
  readonly p50: number | null;
  readonly p95: number | null;
  readonly max: number | null;
}

/** What the evidence says: the count of every rule's breaks, the sizes they were found in, and the first of each in words. */
export interface CheckReport {
  readonly ok: boolean;
  readonly accepted: number;
  readonly terminal: number;
  readonly breaks: Readonly<Record<string, number>>;
  readonly invariants: Readonly<Record<string, string>>;
  readonly examples: Readonly<Record<string, readonly Break[]>>;
  readonly jobs: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Executions that ended without a success, by the code of what refused or failed them. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Decisions to do nothing, by what they give as their reason: guards that decide before anything is executed. */
  readonly held_decisions: Readonly<Record<string, number>>;
  /** Claims of jobs by workers, and those beyond the first: redelivered, retried or taken over. */
  readonly deliveries: number;
  readonly repeated_deliveries: number;
  /** Changes of ours in both ledgers. */
  readonly ledger_writes: number;
  readonly external_writes: number;
  readonly attempts: number;
  readonly succeeded: number;
  readonly inferred: number;
  readonly late_reports: number;
  /** On AWS, somebody else's change between our read and our write: nothing there can prevent it. */
  readonly external_races: number;
  readonly unknown_outcomes: Readonly<Record<string, Spread>>;
  /** Attempts that the worker which began them never spoke of again, and another closed: from intent to outcome. */
  readonly orphaned_attempts: Spread;
  readonly budgets_checked: number;
  /** Absent when nobody has looked yet. */
  readonly audit_chain?: ChainVerdict;
}

/** What the service's own verifier says of its hash chain. */
export type ChainVerdict = 'verified' | 'broken' | 'could not be looked at' | 'not asked';

const examplesShown = 5;

/**
 * Applies every rule to the evidence of a run. @returns how often each was broken, with examples, and the run's
 * figures.
 */
export function checkEvidence(evidence: Evidence): CheckReport {
  const history = indexHistory(evidence);
  const found = Object.entries(rules).map(
    ([name, { invariant, find }]) => [name, invariant, find(history)] as const,
  );
  const promised = new Set(
    evidence.calls.filter(({ status }) => status >= 200 && status < 300).flatMap(({ jobIds }) => jobIds),
  );
  const over = evidence.jobs.filter(({ status }) => status === 'completed' || status === 'failed');
  const ours = history.objects.flatMap((object: ObjectHistory) => object.ours);
  const count = (phase: string, outcome?: string) =>
    evidence.events.filter(
      (event) => event.phase === phase && (outcome === undefined || event.outcome === outcome),
    ).length;
  return {
    ok: found.every(([, , breaks]) => breaks.length === 0),
    accepted: promised.size,
    terminal: over.filter(({ id }) => promised.has(id)).length,
    breaks: Object.fromEntries(found.map(([name, , breaks]) => [name, breaks.length])),
    invariants: Object.fromEntries(found.map(([name, invariant]) => [name, invariant])),
    examples: Object.fromEntries(
      found
        .filter(([, , breaks]) => breaks.length > 0)
        .map(([name, , breaks]) => [name, breaks.slice(0, examplesShown)]),
    ),
    jobs: evidence.jobs.length,
    outcomes: counts(evidence.jobs.map(({ kind, outcome }) => `${kind} ${outcome ?? 'open'}`)),
    refusals: counts(
      evidence.jobs
        .filter(({ kind, code }) => kind === 'execute' && code !== null)
        .map(({ code }) => String(code)),
    ),
    held_decisions: counts(
      evidence.decisions.filter(({ type }) => type === 'noaction').map(({ reason }) => reason),
    ),
    deliveries: evidence.jobs.reduce((sum, { fence }) => sum + fence, 0),
    repeated_deliveries: evidence.jobs.reduce((sum, { fence }) => sum + Math.max(0, fence - 1), 0),
    ledger_writes: ours.length,
    external_writes: evidence.effects.filter((effect) => !effect.ours && effect.from !== null).length,
    attempts: evidence.attempts.length,
    succeeded: count('outcome', 'succeeded'),
    inferred: count('outcome', 'inferred'),
    late_reports: count('late_report'),
    external_races: ours.filter(isExternalRace).length,
    unknown_outcomes: unknownOutcomes(evidence),
    orphaned_attempts: orphanedAttempts(evidence),
    budgets_checked: evidence.run.budgets?.length ?? 0,
  };
}

/** Adds what the chain's verifier said. A chain that nobody could look at is not a good one: it counts as broken. */
export function withChain(report: CheckReport, audit_chain: ChainVerdict): CheckReport {
  if (audit_chain === 'not asked') return { ...report, audit_chain };
  const what = chainBreaks[audit_chain];
  return {
    ...report,
    ok: report.ok && what === undefined,
    audit_chain,
    breaks: { ...report.breaks, chain_breaks: what === undefined ? 0 : 1 },
    invariants: { ...report.invariants, chain_breaks: 'I17' },
    examples: { ...report.examples, ...(what === undefined ? {} : { chain_breaks: [what] }) },
  };
}

const chainBreaks: Readonly<Partial<Record<ChainVerdict, Break>>> = {
  broken: 'audit:verify found that the audit trail was changed: its findings stand above',
  'could not be looked at':
    'audit:verify could not look at the audit trail (its words stand above): start PostgreSQL on the data of the run and run the checker again in the project with --database-url',
};

function eventsByAttempt(evidence: Evidence): EventRow[][] {
  const ofAttempts = evidence.events.filter(({ attempt_id }) => attempt_id !== null);
  return [...groupBy(ofAttempts, ({ attempt_id }) => attempt_id as string).values()];
}

const saysUnknown = ({ phase, outcome }: EventRow): boolean => phase === 'control' && outcome === 'unknown';

/** Outcomes that come from a look at the cloud afterwards, never from an answer to the write. */
const lookedUp = new Set(['inferred', 'not_applied', 'superseded']);

/**
 * How long the attempts of workers that died, or lost their lease, stayed open. Had their outcome become unknown in the
 * hands of a worker that lived, it would have said so.
 */
function orphanedAttempts(evidence: Evidence): Spread {
  const durations = eventsByAttempt(evidence).flatMap((events) => {
    const intent = events.find(({ phase }) => phase === 'intent');
    const closed = events.find(({ phase }) => phase === 'outcome');
    if (intent === undefined || closed === undefined || events.some(saysUnknown)) return [];
    return lookedUp.has(closed.outcome ?? '') ? [closed.at - intent.at] : [];
  });
  return spreadOf(durations);
}

/** How long each outcome stayed unknown, by cloud. */
function unknownOutcomes(evidence: Evidence): Record<string, Spread> {
  const provider = new Map(evidence.resources.map((resource) => [resource.id, resource.provider]));
  const durations: Record<string, number[]> = { aws: [], kubernetes: [] };
  for (const events of eventsByAttempt(evidence)) {
    const unknown = events.find(saysUnknown);
    const resolved = events.find(({ phase }) => phase === 'outcome');
    if (unknown !== undefined && resolved !== undefined)
      durations[provider.get(unknown.resource_id) ?? 'aws']?.push(resolved.at - unknown.at);
  }
  return Object.fromEntries(Object.entries(durations).map(([name, values]) => [name, spreadOf(values)]));
}

/** Milliseconds, rounded. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number | null => {
    const value = sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
    return value === undefined ? null : Math.round(value);
  };
  return { n: sorted.length, p50: at(0.5), p95: at(0.95), max: at(1) };
}

export function counts(values: readonly string[]): Record<string, number> {
  const result: Record<string, number> = {};
  for (const value of values) result[value] = (result[value] ?? 0) + 1;
  return Object.fromEntries(Object.entries(result).sort(([, a], [, b]) => b - a));
}

/** The report for people. */
export function printCheck(report: CheckReport): string {
  const line = (name: string, value: unknown, note = '') =>
    `  ${name.padEnd(26)}${String(value).padStart(10)}  ${note}`;
  const spread = ({ n, p50, p95, max }: Spread) =>
    `${n} (p50 ${p50 ?? '-'} ms, p95 ${p95 ?? '-'} ms, max ${max ?? '-'} ms)`;
  const list = (counted: Readonly<Record<string, number>>) =>
    Object.entries(counted)
      .map(([code, n]) => `${code} ${n}`)
      .join(', ') || 'none';
  return [
    line('accepted jobs', report.accepted, `${report.terminal} terminal, ${report.jobs} in all`),
    line('deliveries', report.deliveries, `${report.repeated_deliveries} beyond the first of a job`),
    line(
      'attempts',
      report.attempts,
      `${report.succeeded} succeeded, ${report.inferred} inferred, ${report.late_reports} late reports`,
    ),
    line(
      'ledger writes',
      report.ledger_writes,
      `${report.external_writes} by others, ${report.external_races} races with them on AWS`,
    ),
    `  executions refused or failed: ${list(report.refusals)}`,
    `  decisions to do nothing: ${list(report.held_decisions)}`,
    ...Object.entries(report.unknown_outcomes).map(
      ([name, value]) => `  unknown outcomes ${name}: ${spread(value)}`,
    ),
    `  orphaned attempts: ${spread(report.orphaned_attempts)}, from intent to outcome`,
    '',
    ...Object.entries(report.breaks).map(([name, value]) =>
      line(
        name,
        value,
        value === 0 && name === 'budget_breaks' && report.budgets_checked === 0
          ? `${report.invariants[name]} not checked: no budgets are configured`
          : `${report.invariants[name]}${value === 0 ? '' : '  BROKEN'}`,
      ),
    ),
    ...Object.values(report.examples).flatMap((examples) => examples.map((example) => `    ${example}`)),
    ...(report.audit_chain === undefined ? [] : [`  audit chain: ${report.audit_chain}`]),
  ].join('\n');
}
