import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextStep } from '../../worker/execute/protocol.ts';
import type { Attempt, Known, Step } from '../../worker/execute/types.ts';
import { ProviderError, type ProviderFault } from '../../worker/providers/provider-error.ts';
import type { CapacityState } from '../../worker/providers/scaling-provider.ts';
import { forAll } from '../support/for-all.ts';

const faults: readonly ProviderFault[] = [
  'throttled',
  'conflict',
  'permanent',
  'identity',
  'fenced',
  'pre_send',
  'unavailable',
  'unknown',
];
/** The way to a request is long: what leads there has to be the rule, or nearly no run gets there. */
const mostly = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.constant(usual) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );
const size = fc.integer({ min: 1, max: 3 });
const fence = fc.record(
  {
    uid: fc.constantFrom('a', 'b'),
    resourceVersion: fc.constantFrom('1', '2'),
    generation: fc.constantFrom(1, 2),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<CapacityState['fence']>;
const fault = fc
  .tuple(fc.constantFrom(...faults), fc.constantFrom('some_code', 'target_not_found'))
  .map(([kind, code]) => new ProviderError(kind, code, 'failed'));
const state: fc.Arbitrary<CapacityState> = fc.record({
  desired: mostly(2, 1, 3),
  ready: size,
  min: fc.constant(0),
  max: fc.constant(null),
  blocks: mostly<CapacityState['blocks']>(
    [],
    [{ code: 'managed_by_hpa', direction: 'both' as const, message: 'no' }],
  ),
  fence,
  instanceType: fc.constant(null),
  cpuRequest: fc.constant(null),
  memoryRequest: fc.constant(null),
});
const attempt: fc.Arbitrary<Attempt> = fc.record({
  id: fc.constant('1'),
  epoch: fc.constant('1'),
  action: fc.constantFrom('ScaleUp' as const, 'ScaleDown' as const),
  from_instances: size,
  target_instances: size,
  settled: fc.boolean(),
  intent_at_ms: fc.constant(0),
  age_ms: fc.nat(600_000),
  fence,
});
const resource = {
  ...{ id: 'r', name: 'web', cloud_provider: 'aws', region: 'eu-west-1', cluster: null },
  ...{ actuation: 'desired', epoch: '1' },
} as const;
const view = fc.record({
  decision_state: mostly('pending', 'executing', 'executed', 'failed', 'expired', 'superseded'),
  decision_type: fc.constantFrom('scaleup', 'scaledown'),
  from_instances: fc.constant(2),
  target_instances: size,
  expired: mostly(false, true),
  resource: fc.constant(resource),
  attempt: fc.option(attempt, { freq: 2 }),
  circuit: mostly('closed', 'failing', 'open'),
}) as fc.Arbitrary<NonNullable<Known['view']>>;

/** What each step may find out: the shell and the world, as far as the protocol can tell. */
const world = fc.record({
  circuit: fc.option(fc.record({ waitMs: fc.nat(30_000), cause: fc.constant('refused') })),
  look: fc.oneof({ weight: 4, arbitrary: state }, { weight: 1, arbitrary: fault }),
  begin: fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ attempt, sinceBeginMs: fc.nat(8_000), sinceLookMs: fc.nat(15_000) }),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom(
        { refusal: { code: 'cooldown', message: 'too soon' } },
        { refusal: { code: 'resource_busy', message: 'busy', effect: 'wait' as const } },
        { refusal: { code: 'circuit_open', message: 'held', effect: 'wait' as const } },
        { refusal: { code: 'decision_expired', message: 'late', effect: 'expire' as const } },
      ),
    },
  ),
  send: fc.record({ fault: fc.option(fault), tookMs: fc.nat(10_000) }),
});
const start = fc.record({
  job: fc.record({
    attempts: fc.integer({ min: 1, max: 5 }),
    max_attempts: fc.constant(4),
    dispatch_seq: fc.nat(9),
  }),
  view,
  stopping: mostly(false, true),
  served: mostly(true, false),
});

const ends = new Set<Step['kind']>(['finish', 'finish_satisfied', 'repeat_success', 'postpone']);

/** Follows one run to its end. @returns every step with what was known when it was taken. */
function follow(first: Known, found: Omit<Known, keyof typeof first>): { known: Known; step: Step }[] {
  const taken: { known: Known; step: Step }[] = [];
  let known = first;
  for (let count = 0; count < 12; count++) {
    const step = nextStep(known);
    taken.push({ known, step });
    if (ends.has(step.kind)) return taken;
    if (step.kind === 'settle' || step.kind === 'mark_unknown') {
      if (step.kind === 'settle' && step.settlement.ending !== null) return taken;
      known = { ...known, settle: true };
    } else known = { ...known, [step.kind]: found[step.kind as keyof typeof found] };
  }
  throw new Error(`no end: ${taken.map(({ step }) => step.kind).join(' → ')}`);
}

const law = (check: (taken: { known: Known; step: Step }[], first: Known) => void): void =>
  forAll(3_000, [start, world], (first, found) =>
    check(follow(first as Known, found as never), first as Known),
  );
const kinds = (taken: readonly { step: Step }[]) => taken.map(({ step }) => step.kind);

describe('the execution protocol, whatever is found', () => {
  it('ends, takes each step once, and only ever in the one order', () => {
    const order = ['circuit', 'look', 'begin', 'send', 'mark_unknown', 'settle'];
    law((taken) => {
      const places = kinds(taken)
        .map((kind) => order.indexOf(kind))
        .filter((place) => place >= 0);
      expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
    });
  });

  it('sends only after a look at the expected size and a fresh intent, and never while an attempt is open', () => {
    let sent = 0;
    law((taken, first) => {
      const send = taken.find(({ step }) => step.kind === 'send');
      if (send === undefined) return;
      sent++;
      expect(first.view?.attempt).toBeNull();
      expect(send.known.look).toMatchObject({ desired: first.view?.from_instances, blocks: [] });
      const { sinceBeginMs, sinceLookMs } = send.known.begin as { sinceBeginMs: number; sinceLookMs: number };
      expect(sinceBeginMs).toBeLessThanOrEqual(5_000);
      expect(sinceLookMs).toBeLessThanOrEqual(10_000);
    });
    expect(sent).toBeGreaterThan(20);
  });

  it('settles every attempt it began, or says that its outcome is unknown', () => {
    law((taken) => {
      const last = taken.at(-1)?.known.begin;
      if (last === undefined || 'refusal' in last) return;
      expect(kinds(taken).some((kind) => kind === 'settle' || kind === 'mark_unknown')).toBe(true);
      const unknown = taken.at(-1)?.known.send?.fault?.fault === 'unknown';
      expect(kinds(taken).includes('mark_unknown')).toBe(unknown);
    });
  });

  it('never calls an attempt failed while its request may still arrive, nor ends its job', () => {
    law((taken, first) => {
      const open = first.view?.attempt;
      if (!open || open.settled) return;
      const look = taken.at(-1)?.known.look;
      const moved =
        look !== undefined &&
        !(look instanceof ProviderError) &&
        open.fence.resourceVersion !== undefined &&
        open.fence.resourceVersion !== look.fence.resourceVersion;
      if (moved) return;
      for (const { step } of taken) {
        expect(step.kind).not.toBe('finish');
        if (step.kind === 'settle')
          expect(step.settlement).toMatchObject({ attemptState: 'succeeded', mayStillArrive: true });
      }
    });
  });

  it('ends nothing for an outage before anything was sent, and comes back within half a minute', () => {
    law((taken) => {
      const last = taken.at(-1) as (typeof taken)[number];
      const { look, send } = last.known;
      const fault = look instanceof ProviderError ? look : send?.fault;
      if (fault?.fault !== 'pre_send' && fault?.fault !== 'unavailable') return;
      // The worker ends here only where an attempt was seen to have ended.
      if (last.step.kind === 'settle') return;
      expect(last.step.kind).toBe('postpone');
      if (last.step.kind !== 'postpone' || last.known.view?.attempt) return;
      const { atLeastMs, jitterMs, retries } = last.step.delay;
      expect(last.step.refund).toBe(true);
      expect(atLeastMs + jitterMs * 2 ** retries).toBeLessThanOrEqual(30_000);
    });
  });

  it('does not touch the cloud for what is over, nor when this worker is stopping', () => {
    law((taken, first) => {
      if (first.view === null || first.view.attempt !== null) return;
      const over = !['pending', 'executing'].includes(first.view.decision_state) || first.view.expired;
      if (over || first.stopping) expect(kinds(taken)).not.toContain('look');
    });
  });
});
