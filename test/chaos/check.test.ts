import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';
import { checkEvidence, withChain } from './check-report.ts';
import { rules } from './check-rules.ts';
import {
  call,
  carryOut,
  deploymentObject,
  event,
  external,
  goodEvidence,
  groupObject,
  job,
  type MutableEvidence,
  start,
} from './evidence-builder.ts';

/** The rules that report something, after the evidence was changed. */
function brokenRules(change: (evidence: MutableEvidence) => void): string[] {
  const evidence = goodEvidence();
  change(evidence);
  const { breaks, ok } = checkEvidence(evidence);
  const names = Object.keys(breaks).filter((name) => breaks[name] !== 0);
  expect(ok).toBe(names.length === 0);
  return names;
}

const find = <T>(rows: readonly T[], matches: (row: T) => boolean): T => {
  const row = rows.find(matches);
  if (row === undefined) throw new Error('the evidence has no such row');
  return row;
};
const effectOf = (evidence: MutableEvidence, from: number, to: number) =>
  find(
    evidence.effects,
    (one) => one.ours && one.object === groupObject && one.from === from && one.to === to,
  );
const attemptOf = (evidence: MutableEvidence, id: string) =>
  find(evidence.attempts, (one) => one.decision_id === id);
const decisionOf = (evidence: MutableEvidence, id: string) =>
  find(evidence.decisions, (one) => one.id === id);
const groupOf = (evidence: MutableEvidence) => find(evidence.resources, ({ id }) => id === 'group');
const eventOf = (evidence: MutableEvidence, decision: string, phase: string) =>
  find(evidence.events, (one) => one.phase === phase && one.decision_id === decision);
const decideCall = (evidence: MutableEvidence) => find(evidence.calls, ({ key }) => key === 'decide-one');
const jobOf = (evidence: MutableEvidence, id: string) => find(evidence.jobs, (one) => one.id === id);
const without = <T>(rows: T[], matches: (row: T) => boolean): void => {
  const index = rows.findIndex(matches);
  if (index < 0) throw new Error('the evidence has no such row');
  rows.splice(index, 1);
};
/** The group goes in, out, and in again: three changes of direction, the last with a sample of its own. */
const swing = (evidence: MutableEvidence, last = start + 130_000): void => {
  carryOut(evidence, { id: 'in', resource: 'group', seq: 4, from: 6, to: 5, at: start + 70_000 });
  carryOut(evidence, { id: 'out', resource: 'group', seq: 5, from: 5, to: 6, at: start + 90_000 });
  carryOut(evidence, { id: 'in-again', resource: 'group', seq: 6, from: 6, to: 5, at: last });
  evidence.samples.set('group', [start, last - 1_000]);
};
const control = (scope: string, stopped: boolean, sentAt: number) => ({
  ...call(
    'control',
    `PUT /controls/${encodeURIComponent(scope)}`,
    stopped ? { stopped } : { stopped, release_code: 'given' },
    [],
    sentAt,
  ),
  status: 200,
});
const patch = (body: object, sentAt: number) => ({
  ...call('patch', 'PATCH /resources/group', body, [], sentAt),
  status: 200,
});

const freeze = (window: object, sentAt: number, made = 'freeze') => ({
  ...call('freeze', 'POST /freezes', { scope: 'global', direction: 'both', ...window }, [], sentAt),
  status: 201,
  made,
});
const between = (from: number, until: number) => ({
  starts_at: new Date(from).toISOString(),
  ends_at: new Date(until).toISOString(),
});
const daily = (schedule: string, time_zone: string) => ({ schedule, time_zone, duration_minutes: 3 });
const thaw = (id: string, sentAt: number) => ({
  ...call('thaw', `DELETE /freezes/${id}?reason=over`, null, [], sentAt),
  status: 204,
});

test('a good run has no breaks, and its figures are counted', () => {
  const report = checkEvidence(goodEvidence());
  expect(report.ok).toBe(true);
  expect(report).toMatchObject({ accepted: 6, terminal: 6, ledger_writes: 3, attempts: 3, succeeded: 3 });
});

test('attempts that another worker closed are timed, by themselves', () => {
  const evidence = goodEvidence();
  const outcomeOf = (id: string) =>
    find(evidence.events, ({ phase, decision_id }) => phase === 'outcome' && decision_id === id);
  expect(checkEvidence(evidence).orphaned_attempts).toMatchObject({ n: 0, max: null });
  Object.assign(outcomeOf('one'), { outcome: 'inferred', at: start + 26_000 });
  // Known to be unknown: it is counted there.
  Object.assign(outcomeOf('three'), { outcome: 'inferred', at: start + 20_000 });
  evidence.events.push({
    ...event('three', 'deployment', 'control', null, 5, start + 12_000),
    outcome: 'unknown',
  });
  const report = checkEvidence(evidence);
  expect(report.orphaned_attempts).toEqual({ n: 1, p50: 25_000, p95: 25_000, max: 25_000 });
  expect(report.unknown_outcomes).toMatchObject({ kubernetes: { n: 1, max: 8_000 }, aws: { n: 0 } });
});

/** By the rule that must notice them: what is changed, one change each. */
const violations: Readonly<
  Record<string, readonly (readonly [what: string, change: (evidence: MutableEvidence) => void])[]>
> = {
  lost: [
    [
      'an accepted job is not there',
      (e) => e.calls.push(call('decide', 'POST /scale/decide', { resource_id: 'group' }, ['gone'], start)),
    ],
  ],
  unfinished: [
    [
      'a job is still active',
      (e) => Object.assign(jobOf(e, 'decide-one'), { status: 'active', outcome: null }),
    ],
    [
      'an attempt is still unknown',
      (e) => {
        e.attempts.push({
          ...attemptOf(e, 'two'),
          id: 'attempt-extra',
          state: 'unknown',
          intent: start + 80_000,
        });
        decisionOf(e, 'two').expires = start + 90_000;
      },
    ],
  ],
  changed_after_end: [
    [
      'a client was told of another end',
      (e) => e.reported.push({ jobId: 'execute-one', status: 'failed', outcome: 'dead' }),
    ],
  ],
  idempotency_breaks: [
    [
      'the same key was answered with two jobs',
      (e) => {
        e.jobs.push({
          ...job('decide-again', 'decide', 'group', null),
          outcome: 'rejected',
          request_id: null,
        });
        e.calls.push({ ...decideCall(e), jobIds: ['decide-again'] });
      },
    ],
    [
      'the same key was accepted with another body',
      (e) => e.calls.push({ ...decideCall(e), body: { resource_id: 'deployment' } }),
    ],
    [
      'a second try made a job that nobody was told of',
      (e) =>
        e.jobs.push({
          ...job('ghost', 'decide', 'group', null),
          outcome: 'rejected',
          request_id: 'decide-one.1',
        }),
    ],
  ],
  decision_breaks: [
    [
      'a decide job has two decisions',
      (e) =>
        e.decisions.push({ ...decisionOf(e, 'one'), id: 'twin', seq: 9, executed: false, state: 'pending' }),
    ],
    ['two decisions have one seq', (e) => Object.assign(decisionOf(e, 'three'), { seq: 1 })],
    [
      'an execution says succeeded, its decision was never executed',
      (e) => e.jobs.push(job('execute-false', 'execute', 'group', 'no such decision')),
    ],
  ],
  double_successes: [
    [
      'a decision has two successful events',
      (e) => e.events.push({ ...event('one', 'group', 'outcome', true, 5, start + 1_070) }),
    ],
  ],
  duplicate_effects: [
    [
      'a decision took effect twice',
      (e) => {
        const effect = effectOf(e, 4, 5);
        e.effects.splice(e.effects.indexOf(effect) + 1, 0, {
          ...effect,
          from: 5,
          to: 5,
          appliedAt: effect.appliedAt + 1,
        });
        // The second one finds 5, not the 4 it was meant for.
        attemptOf(e, 'one').from = 5;
        effect.from = 5;
      },
    ],
  ],
  effects_without_intent: [
    [
      'a change of ours that no attempt asked for',
      (e) =>
        e.effects.push({
          ...effectOf(e, 5, 6),
          from: 6,
          to: 9,
          receivedAt: start + 90_000,
          appliedAt: start + 90_000,
        }),
    ],
    [
      'the intent was written after the request had arrived',
      (e) => Object.assign(eventOf(e, 'one', 'intent'), { at: start + 1_050 }),
    ],
    [
      'a change of an object that nobody registered',
      (e) => e.effects.push({ ...effectOf(e, 5, 6), object: 'aws:us-east-1:elsewhere' }),
    ],
  ],
  effects_without_event: [
    [
      'an effect is recorded as not applied',
      (e) => {
        const outcome = eventOf(e, 'two', 'outcome');
        Object.assign(outcome, { success: false, outcome: 'not_applied' });
        Object.assign(decisionOf(e, 'two'), { executed: false, state: 'expired' });
        Object.assign(jobOf(e, 'execute-two'), { status: 'failed', outcome: 'expired' });
        without(e.reported, ({ jobId }) => jobId === 'execute-two');
      },
    ],
  ],
  events_without_effect: [
    [
      'a success left no trace in the cloud',
      (e) => without(e.effects, ({ from, to }) => from === 5 && to === 6),
    ],
    [
      'a read-back is said to have seen what never was',
      (e) => {
        without(e.effects, ({ from, to }) => from === 5 && to === 6);
        eventOf(e, 'two', 'outcome').outcome = 'inferred';
      },
    ],
  ],
  overlapping_attempts: [
    [
      'an attempt began while another was open',
      (e) => Object.assign(eventOf(e, 'one', 'outcome'), { at: start + 31_001 }),
    ],
  ],
  cooldown_breaks: [
    [
      'an attempt began in the cooldown that PostgreSQL had recorded',
      (e) => Object.assign(attemptOf(e, 'one'), { effect: start + 25_000 }),
    ],
    [
      'two effects are closer than the cooldown by the ledger alone',
      (e) => {
        // As if the first had landed late, unseen.
        Object.assign(effectOf(e, 4, 5), { receivedAt: start + 15_000, appliedAt: start + 15_000 });
        groupOf(e).cooldown = 20;
      },
    ],
  ],
  rate_breaks: [['more changes in an hour than allowed', (e) => Object.assign(groupOf(e), { hourly: 1 })]],
  flap_breaks: [
    [
      'a resource was scaled in at one change of direction too many',
      (e) => {
        swing(e);
        groupOf(e).reversals = 2;
      },
    ],
    [
      'a resource was scaled in after its operators had allowed fewer changes of direction',
      (e) => {
        swing(e);
        e.calls.push(
          patch({ max_reversals_per_half_hour: 1 }, start + 100_000),
          patch({ max_reversals_per_half_hour: 3_600 }, start + 140_000),
        );
      },
    ],
  ],
  bounds_breaks: [
    ['a change above the maximum', (e) => Object.assign(groupOf(e), { max: 5 })],
    [
      'a change above a maximum that had been lowered',
      (e) =>
        e.calls.push(
          patch({ max_instances: 5 }, start + 20_000),
          patch({ max_instances: 10 }, start + 50_000),
        ),
    ],
    [
      'a change outside what the cloud allows',
      (e) => Object.assign(effectOf(e, 5, 6), { bounds: { min: 0, max: 5 } }),
    ],
    [
      'a step that is too large',
      (e) => carryOut(e, { id: 'leap', resource: 'deployment', seq: 4, from: 5, to: 9, at: start + 60_000 }),
    ],
  ],
  late_writes: [
    [
      'an attempt began after its decision had expired',
      (e) => Object.assign(decisionOf(e, 'one'), { expires: start + 900 }),
    ],
    [
      'a signed write was taken after its signature had ended',
      (e) => {
        eventOf(e, 'two', 'outcome').at = start + 50_000;
        Object.assign(effectOf(e, 5, 6), { receivedAt: start + 31_020, appliedAt: start + 48_000 });
      },
    ],
  ],
  stale_overwrites: [
    [
      'an older decision took effect after a newer one',
      (e) => Object.assign(decisionOf(e, 'two'), { seq: 0 }),
    ],
    [
      'a write landed on another size than it was meant for',
      (e) => Object.assign(effectOf(e, 5, 6), { from: 7 }),
    ],
    [
      'on Kubernetes not even somebody else may have come between',
      (e) => {
        e.effects.splice(-1, 0, external(deploymentObject, 4, 7, start + 2_010));
        find(e.effects, ({ ours, object }) => ours && object === deploymentObject).from = 7;
      },
    ],
  ],
  switch_breaks: [
    [
      'an attempt began while everything was stopped',
      (e) => e.calls.push(control('global', true, start + 20_000), control('global', false, start + 40_000)),
    ],
    [
      'an attempt began although the release was only asked for',
      (e) =>
        e.calls.push(control('global', true, start + 20_000), {
          ...control('global', false, start + 25_000),
          body: { stopped: false },
        }),
    ],
    [
      'a release from before the stop was carried out after it',
      (e) =>
        e.calls.push(
          { ...control('global', false, start + 10_000), status: 0 },
          control('global', true, start + 20_000),
          control('global', false, start + 40_000),
        ),
    ],
    [
      'a write was sent too long after the stop',
      (e) => {
        e.calls.push(
          control('resource:group', true, start + 31_001),
          control('resource:group', false, start + 70_000),
        );
        Object.assign(effectOf(e, 5, 6), {
          receivedAt: start + 62_000,
          appliedAt: start + 62_000,
          signedAt: null,
        });
        e.run.signatureMaxAgeMs = 60_000;
      },
    ],
    [
      'an attempt began in a pause',
      (e) =>
        e.calls.push(
          patch({ scale_up_paused_until: new Date(start + 60_000).toISOString() }, start + 20_000),
        ),
    ],
    [
      'an attempt began while everything was frozen, and another freeze was taken away',
      (e) =>
        e.calls.push(
          freeze(between(start, start + 90_000), start + 20_000),
          thaw('another', start + 25_000),
          thaw('freeze', start + 31_500),
        ),
    ],
    [
      'an attempt began in a window that had been announced',
      (e) =>
        e.calls.push(
          freeze({ scope: 'resource:group', ...between(start + 30_000, start + 31_001) }, start - 60_000),
        ),
    ],
    [
      'an attempt to scale out began while scaling out was frozen',
      (e) =>
        e.calls.push(
          freeze(
            { scope: 'scope:aws:us-east-1', direction: 'up', ...between(start, start + 40_000) },
            start + 20_000,
          ),
        ),
    ],
    [
      'an attempt began in a window on a schedule in a time zone', // The run begins at 08:00 UTC, 13:45 there.
      (e) => e.calls.push(freeze(daily('45 13 * * *', 'Asia/Kathmandu'), start + 20_000)),
    ],
    [
      'an attempt began in a window that had begun the day before',
      (e) => e.calls.push(freeze(daily('59 23 * * *', 'Pacific/Pitcairn'), start + 20_000)),
    ],
    [
      'a write was sent too long after the freeze',
      (e) => {
        e.calls.push(freeze({ scope: 'provider:aws', ...between(start, start + 70_000) }, start + 31_001));
        Object.assign(effectOf(e, 5, 6), {
          receivedAt: start + 62_000,
          appliedAt: start + 62_000,
          signedAt: null,
        });
        e.run.signatureMaxAgeMs = 60_000;
      },
    ],
  ],
  budget_breaks: [
    [
      'a scope changed by more than its budget in a window',
      (e) =>
        Object.assign(e.run, {
          budgets: [{ scope: 'provider:aws', direction: 'out', windowMs: 60_000, limit: 1 }],
        }),
    ],
  ],
  blind_scale_ins: [
    [
      'a resource was scaled in though its samples had stopped',
      (e) =>
        carryOut(e, { id: 'blind', resource: 'deployment', seq: 4, from: 5, to: 4, at: start + 400_000 }),
    ],
  ],
  audit_breaks: [
    ['the audit trail could be changed', (e) => e.tampered.push('delete from scaling_events' as never)],
  ],
  forged_jobs: [
    [
      'a job that was made up in Redis is in the table',
      (e) => {
        e.forged.push('forged' as never);
        e.jobs.push({ ...job('forged', 'decide', 'group', null), outcome: 'rejected', request_id: null });
      },
    ],
  ],
};

describe('each violation is reported by the rule that is there for it and by no other', () => {
  const cases = Object.entries(violations).flatMap(([rule, of]) =>
    of.map((violation) => [rule, ...violation] as const),
  );
  test.each(cases)('%s: %s', (rule, _what, change) => {
    expect(brokenRules(change)).toEqual([rule]);
  });
});

test('every rule has a violation that only it reports', () => {
  expect(Object.keys(violations).sort()).toEqual(Object.keys(rules).sort());
});

/** What may look like a break and is none. */
const permitted: readonly (readonly [what: string, change: (evidence: MutableEvidence) => void])[] = [
  [
    'on AWS somebody else changed the group between our read and our write',
    (e) => {
      e.effects.splice(e.effects.indexOf(effectOf(e, 5, 6)), 0, external(groupObject, 5, 7, start + 31_010));
      effectOf(e, 5, 6).from = 7;
    },
  ],
  [
    'and so turned what was to be one more instance into one less, of which the budget of scaling in has none',
    (e) => {
      e.run.budgets = [{ scope: 'provider:aws', direction: 'in', windowMs: 60_000, limit: 0 }];
      e.effects.splice(e.effects.indexOf(effectOf(e, 5, 6)), 0, external(groupObject, 5, 7, start + 31_010));
      effectOf(e, 5, 6).from = 7;
    },
  ],
  [
    'somebody else made the size that a read-back found',
    (e) => {
      without(e.effects, ({ from, to }) => from === 5 && to === 6);
      e.effects.push(external(groupObject, 5, 6, start + 31_030));
      eventOf(e, 'two', 'outcome').outcome = 'inferred';
    },
  ],
  [
    'somebody else overwrote an effect before it could be seen',
    (e) => {
      const outcome = eventOf(e, 'two', 'outcome');
      Object.assign(outcome, { success: false, outcome: 'superseded' });
      Object.assign(decisionOf(e, 'two'), { executed: false, state: 'superseded' });
      Object.assign(jobOf(e, 'execute-two'), { status: 'failed', outcome: 'superseded' });
      without(e.reported, ({ jobId }) => jobId === 'execute-two');
      e.effects.push(external(groupObject, 6, 8, start + 31_050));
    },
  ],
  [
    'a resource that has turned often enough is scaled out',
    (e) => {
      swing(e);
      carryOut(e, { id: 'out-again', resource: 'group', seq: 7, from: 5, to: 6, at: start + 160_000 });
      groupOf(e).reversals = 3;
    },
  ],
  [
    'changes of direction that are half an hour old',
    (e) => {
      swing(e, start + 1_900_000);
      groupOf(e).reversals = 1;
    },
  ],
  [
    'a stop that was released before',
    (e) => e.calls.push(control('global', true, start + 5_000), control('global', false, start + 10_000)),
  ],
  [
    'a freeze that had ended by itself',
    (e) => e.calls.push(freeze(between(start, start + 31_000), start + 20_000)),
  ],
  [
    'a freeze that had been taken away, whatever the answer',
    (e) =>
      e.calls.push(freeze(between(start, start + 90_000), start + 20_000), {
        ...thaw('freeze', start + 30_900),
        status: 0,
      }),
  ],
  [
    'a freeze of scaling in',
    (e) => e.calls.push(freeze({ direction: 'down', ...between(start, start + 90_000) }, start)),
  ],
  [
    'a freeze of another cloud',
    (e) =>
      e.calls.push(
        freeze({ scope: 'provider:kubernetes', ...between(start, start + 90_000) }, start + 20_000),
      ),
  ],
  [
    'a freeze that was confirmed too late, or never',
    (e) =>
      e.calls.push(freeze(between(start, start + 90_000), start + 30_990), {
        ...freeze(between(start, start + 90_000), start + 20_000),
        status: 0,
        made: null,
      }),
  ],
  [
    'a freeze at this hour in UTC, but in another time zone',
    (e) => e.calls.push(freeze(daily('0 8 * * *', 'Asia/Kathmandu'), start + 20_000)),
  ],
  [
    'a maximum was lowered for good afterwards',
    (e) => {
      const group = groupOf(e);
      e.calls.push(
        call(
          'register',
          'POST /resources',
          { name: group.name, region: group.region, max_instances: 10 },
          [],
          start,
        ),
        patch({ max_instances: 3 }, start + 90_000),
      );
      group.max = 3;
    },
  ],
  [
    'a maximum was being raised just then',
    (e) => {
      e.calls.push(patch({ max_instances: 5 }, start + 20_000));
      e.calls.push({ ...patch({ max_instances: 10 }, start + 30_500), answeredAt: start + 32_000 });
    },
  ],
  [
    'a request whose key was refused with another body',
    (e) => e.calls.push({ ...decideCall(e), body: { resource_id: 'deployment' }, status: 422, jobIds: [] }),
  ],
];

test.each(permitted)('no break: %s', (_what, change) => {
  expect(brokenRules(change)).toEqual([]);
});

describe('the hash chain of the audit trail', () => {
  test.each([
    ['verified', true, 0],
    ['broken', false, 1],
    ['could not be looked at', false, 1],
  ] as const)('%s: ok is %s', (verdict, ok, breaks) => {
    const report = withChain(checkEvidence(goodEvidence()), verdict);
    expect(report).toMatchObject({ ok, audit_chain: verdict, breaks: { chain_breaks: breaks } });
    expect(report.examples.chain_breaks ?? []).toHaveLength(breaks);
  });

  test('a database that nobody can ask ends the checker with status 1 and words that say what to do', () => {
    const dir = mkdtempSync(join(tmpdir(), 'scaler-check-'));
    try {
      writeFileSync(join(dir, 'run.json'), JSON.stringify(goodEvidence().run));
      const { status, stdout } = checker(
        '--dir',
        dir,
        '--database-url',
        'postgres://nobody@127.0.0.1:9/none',
      );
      expect(stdout).toMatch(/chain_breaks +1 +I17 +BROKEN/);
      expect(stdout).toMatch(/could not look at the audit trail .*run the checker again/);
      expect(status).toBe(1);
      expect(checker('--dir', dir).status).toBe(0);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

function checker(...args: string[]) {
  const program = join(projectRoot(), 'dist/test/chaos/check.js');
  return spawnSync(process.execPath, [program, ...args], { cwd: projectRoot(), encoding: 'utf8' });
}

test('a schedule that the checker cannot read is an error, and not taken for none', () => {
  expect(() => brokenRules((e) => e.calls.push(freeze(daily('*/5 8 * * *', 'UTC'), start)))).toThrow(
    '*/5 8 * * *',
  );
});

test('the checker shares no code with the service', () => {
  const folder = join(projectRoot(), 'test/chaos');
  const files = readdirSync(folder).filter((name) => /^(check|check-.*|journal)\.ts$/.test(name));
  expect(files.length).toBeGreaterThanOrEqual(5);
  for (const file of files) {
    const imports = [...readFileSync(join(folder, file), 'utf8').matchAll(/from '(.+)'/g)].map(
      ([, from]) => from,
    );
    for (const from of imports) expect(from).toMatch(/^(node:|\.\/(check-|journal))/);
  }
});
