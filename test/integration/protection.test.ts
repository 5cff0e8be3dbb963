import { randomUUID } from 'node:crypto';
import { beforeEach, describe, expect, it } from 'vitest';
import { findJob } from '../../api/jobs/jobs-store.ts';
import { listFlapping } from '../../api/protection/flapping-store.ts';
import { listFleetLimits, setFleetLimits } from '../../api/protection/fleet-limits-store.ts';
import { createFreeze, deleteFreeze } from '../../api/protection/freezes-store.ts';
import { askRelease, release, stop } from '../../api/protection/stops-store.ts';
import { listCircuits } from '../../shared/db/circuits-store.ts';
import { releaseHold } from '../../shared/db/fleet-holds-store.ts';
import type { FleetLimits } from '../../shared/db/fleet-limits-store.ts';
import { changeProtection, lockForIntent } from '../../shared/db/protection-lock.ts';
import { FleetProtections } from '../../worker/decide/fleet-protections.ts';
import { loadDecisionInputs } from '../../worker/decide/inputs-store.ts';
import { circuitAnswered } from '../../worker/execute/circuits-store.ts';
import { lockFleet } from '../../worker/execute/fleet-lock-store.ts';
import { ProviderError } from '../../worker/providers/provider-error.ts';
import { noAnswer, openExecutionRig } from '../support/execution-rig.ts';
import { forFile } from '../support/for-file.ts';
import { ScriptedCloud } from '../support/scripted-cloud.ts';
import { seedAttempt, seedDecision, seedExecuteJob, seedResource } from '../support/seed.ts';
import { readRows, readValue } from '../support/test-database.ts';

const rig = forFile(await openExecutionRig());
const { pool } = rig;
let region: string;

// A region of its own for each test: what it stops, limits and opens is nobody else's.
beforeEach(() => {
  region = `test-${randomUUID().slice(0, 8)}`;
});

const cloudScope = () => `scope:aws:${region}`;

const member = (instances: number, values: Record<string, unknown> = {}) =>
  seedResource(pool, {
    region,
    current_instances: instances,
    cooldown_period: 0,
    max_instances: 1_000,
    max_scale_up_step: 500,
    max_scale_down_step: 500,
    ...values,
  });

/** How many wait for a lock of protection. */
const waiting = () =>
  readValue(pool, `select count(*)::integer from pg_locks where locktype = 'advisory' and not granted`);

const ordinarySteps = { max_scale_up_step: 3, max_scale_down_step: 2 };

/** Decides, executes, and tells how that ended. */
async function change(
  resourceId: string,
  from: number,
  target: number,
  prepare: (cloud: ScriptedCloud) => void = () => {},
) {
  const cloud = new ScriptedCloud();
  cloud.desired = from;
  cloud.max = 1_000;
  prepare(cloud);
  const decisionId = await seedDecision(pool, resourceId, from, target);
  const jobId = await seedExecuteJob(pool, resourceId, decisionId);
  const outcome = await rig.execute(cloud, jobId);
  const { rows: events } = await pool.query(
    `select phase, outcome, error_code, actor, request_id from scaling_events where decision_id = $1 order by seq`,
    [decisionId],
  );
  const error = (await findJob(pool, jobId))?.error ?? null;
  return { outcome, writes: cloud.writes, code: error?.code ?? null, error, events, jobId, decisionId };
}

async function limit(values: Partial<FleetLimits>, scope = cloudScope()) {
  const [standard] = (await listFleetLimits(pool)).filter((row) => row.scope === 'default');
  const limits = { ...(standard as FleetLimits), reason: 'a test', actor: 'test', ...values, scope };
  await changeProtection(pool, (tx) => setFleetLimits(tx, limits));
}

/** What would hold its next decision back. */
const protectionsOf = async (id: string) =>
  (await new FleetProtections(pool).of((await loadDecisionInputs(pool, [id])).values())).get(id);

const stopped = (scope: string, reason: string, actor: string) =>
  changeProtection(pool, (tx) => stop(tx, scope, reason, actor));
const released = (scope: string, code: string, seconds: number, reason: string, actor: string) =>
  changeProtection(pool, (tx) => release(tx, scope, code, { observeSeconds: seconds, reason, actor }));

describe('a stop', () => {
  it.each([
    ['its region', () => cloudScope()],
    ['the resource', (id: string) => `resource:${id}`],
  ])('of %s refuses with the reason, sends nothing, and says so in the history', async (_, scopeOf) => {
    const id = await member(4);
    await stopped(scopeOf(id), 'incident 42', 'admin-key');
    const { code, error, writes, events, jobId } = await change(id, 4, 6);
    expect({ code, writes }).toEqual({ code: 'stopped', writes: [] });
    expect(error?.message).toContain('incident 42');
    const { rows } = await pool.query('select request_id from jobs where id = $1', [jobId]);
    expect(rows[0].request_id).toEqual(expect.any(String));
    const who = { actor: 'auto', request_id: rows[0].request_id };
    expect(events).toEqual([{ phase: 'control', outcome: 'refused', error_code: 'stopped', ...who }]);
  });

  it('of another region is none', async () => {
    await stopped('scope:aws:elsewhere', 'incident', 'admin-key');
    expect((await change(await member(4), 4, 6)).writes).toEqual([6]);
  });

  it('is released in two steps, observing before it executes', async () => {
    const id = await member(4);
    await stopped(cloudScope(), 'incident', 'admin-key');
    const asked = await askRelease(pool, cloudScope(), 600);
    expect((await change(id, 4, 6)).code).toBe('stopped');
    expect(await released(cloudScope(), 'guessed', 0, 'over', 'admin-key')).toBeNull();
    expect(await released(cloudScope(), asked?.code as string, 60, 'over', 'admin-key')).not.toBeNull();
    expect(await released(cloudScope(), asked?.code as string, 0, 'again', 'admin-key')).toBeNull();
    expect((await change(id, 4, 6)).code).toBe('stopped');
    await pool.query(`update controls set observe_until = now() where scope = $1`, [cloudScope()]);
    expect((await change(id, 4, 6)).writes).toEqual([6]);
  });

  it('forgets a release that was asked for when it is stopped again, or after its time', async () => {
    await stopped(cloudScope(), 'incident', 'admin-key');
    const first = await askRelease(pool, cloudScope(), 600);
    await stopped(cloudScope(), 'another one', 'admin-key');
    expect(await released(cloudScope(), first?.code as string, 0, 'over', 'admin-key')).toBeNull();
    const second = await askRelease(pool, cloudScope(), 0);
    expect(await released(cloudScope(), second?.code as string, 0, 'over', 'admin-key')).toBeNull();
  });

  it('waits for intents that are being written, and those that come later see it', async () => {
    const client = await pool.connect();
    await client.query('begin');
    await lockForIntent(client);
    let isOver = false;
    const stopping = stopped(cloudScope(), 'incident', 'admin-key').then(() => {
      isOver = true;
    });
    await expect.poll(waiting).toBe(1);
    expect(isOver).toBe(false);
    await client.query('commit');
    client.release();
    await stopping;
    expect((await change(await member(4), 4, 6)).code).toBe('stopped');
  });
});

describe('a freeze', () => {
  const hour = (offset: number) => new Date(Date.now() + offset * 3_600_000).toISOString();
  const freeze = (values: Partial<Parameters<typeof createFreeze>[1]> = {}) =>
    changeProtection(pool, (tx) =>
      createFreeze(tx, {
        scope: cloudScope(),
        direction: 'down',
        schedule: null,
        time_zone: 'UTC',
        duration_minutes: null,
        starts_at: hour(-1),
        ends_at: hour(1),
        reason: 'Black Friday',
        actor: 'admin-key',
        ...values,
      }),
    );

  it('forbids scaling in and allows scaling out, until it is taken away', async () => {
    const id = await member(4);
    const { id: freezeId } = await freeze();
    const refused = await change(id, 4, 3);
    expect(refused).toMatchObject({
      code: 'frozen',
      writes: [],
      error: { context: { freeze_id: freezeId } },
    });
    expect(refused.error?.message).toContain('Black Friday');
    expect((await change(id, 4, 5)).writes).toEqual([5]);
    expect(await changeProtection(pool, (tx) => deleteFreeze(tx, freezeId))).toBe(cloudScope());
    expect((await change(id, 5, 4)).writes).toEqual([4]);
  });

  it.each([
    ['that is over', { ends_at: hour(-0.5) }],
    ['that has not begun', { starts_at: hour(0.5) }],
    ['of another scope', { scope: 'scope:aws:elsewhere' }],
    ['of the other direction', { direction: 'up' as const }],
  ])('%s forbids nothing', async (_, values) => {
    await freeze(values);
    expect((await change(await member(4), 4, 3)).writes).toEqual([3]);
  });

  it('on a schedule holds by the clock of PostgreSQL', async () => {
    await freeze({ schedule: '* * * * *', duration_minutes: 5, starts_at: null, ends_at: null });
    expect((await change(await member(4), 4, 3)).code).toBe('frozen');
  });

  it('is told by a decision that would scale in', async () => {
    const id = await member(8, ordinarySteps);
    await freeze();
    expect(await protectionsOf(id)).toMatchObject([{ code: 'frozen', direction: 'down', allowed: 0 }]);
  });
});

describe('the budget of scaling in', () => {
  it('is a share of the instances that a region began the window with', async () => {
    const ids = await Promise.all([1, 2, 3, 4, 5].map(() => member(20)));
    const results = [];
    for (const id of ids.slice(0, 4)) results.push(await change(id, 20, 17));
    // A tenth of 100 is 10: 3 + 3 + 3, and 3 more are too many.
    expect(results.map(({ code }) => code)).toEqual([null, null, null, 'fleet_budget']);
    expect(results[3]?.error).toMatchObject({
      context: { scope: cloudScope(), limit: 10, used: 9, window_seconds: 600 },
    });
    expect((await change(ids[3] as string, 20, 19)).writes).toEqual([19]);
    expect((await change(ids[4] as string, 20, 19)).code).toBe('fleet_budget');
    // Scaling out has a budget of its own.
    expect((await change(ids[4] as string, 20, 23)).writes).toEqual([23]);
  });

  it('is never less than its floor, so that a small fleet can give back', async () => {
    const id = await member(6);
    expect((await change(id, 6, 4)).writes).toEqual([4]);
    expect((await change(id, 4, 2)).writes).toEqual([2]);
    expect((await change(id, 2, 1)).code).toBe('fleet_budget');
  });

  it('comes back when its window has passed', async () => {
    const id = await member(10);
    await limit({ scale_in_floor: 2, window_seconds: 60 });
    expect((await change(id, 10, 8)).writes).toEqual([8]);
    expect((await change(id, 8, 7)).code).toBe('fleet_budget');
    await pool.query(
      `update attempts set intent_at = intent_at - interval '61 seconds' where resource_id = $1`,
      [id],
    );
    expect((await change(id, 8, 7)).writes).toEqual([7]);
  });

  it('counts a write whose outcome is not known, and not one that was not applied', async () => {
    await limit({ scale_in_floor: 2, scale_in_percent: 0 });
    const unsure = await member(10);
    await change(unsure, 10, 8, (cloud) => {
      cloud.beforeWrite = noAnswer;
    });
    expect((await change(await member(10), 10, 9)).code).toBe('fleet_budget');
    // Somebody else has moved the group since: nobody will ever know.
    await pool.query(`update attempts set state = 'superseded', blocked = 'empty' where resource_id = $1`, [
      unsure,
    ]);
    expect((await change(await member(10), 10, 9)).code).toBe('fleet_budget');
    await pool.query(`update attempts set state = 'not_applied', blocked = 'empty' where resource_id = $1`, [
      unsure,
    ]);
    expect((await change(await member(10), 10, 9)).writes).toEqual([9]);
  });

  it('is not exceeded by many at once', async () => {
    await limit({ scale_in_floor: 3, scale_in_percent: 0 });
    const ids = await Promise.all(Array.from({ length: 8 }, () => member(10)));
    const results = await Promise.all(ids.map((id) => change(id, 10, 9)));
    expect(results.filter(({ writes }) => writes.length === 1)).toHaveLength(3);
    expect(results.filter(({ code }) => code === 'fleet_budget')).toHaveLength(5);
  });

  it('is judged by the moment of the intent, however long it waited for its turn', async () => {
    await limit({ scale_in_floor: 2, window_seconds: 60 });
    const first = await member(10);
    await change(first, 10, 8);
    const client = await pool.connect();
    await client.query('begin');
    await lockFleet(client, [cloudScope()]);
    // It leaves the window while the second one waits for its turn.
    await client.query(
      `update attempts set intent_at = clock_timestamp() - interval '59.5 seconds' where resource_id = $1`,
      [first],
    );
    const second = change(await member(10), 10, 9);
    await expect.poll(waiting).toBe(1);
    await client.query('select pg_sleep(0.6)');
    await client.query('commit');
    client.release();
    expect((await second).code).toBe('fleet_budget');
  });

  it('of a provider holds beside that of its regions', async () => {
    const id = await member(10);
    await limit({ scale_in_floor: 0, scale_in_percent: 0 }, 'provider:aws');
    try {
      expect((await change(id, 10, 9)).error).toMatchObject({
        code: 'fleet_budget',
        context: { scope: 'provider:aws' },
      });
    } finally {
      await pool.query(`delete from fleet_limits where scope = 'provider:aws'`);
    }
  });

  it('counts what a worker of an earlier release began, which knows no scopes', async () => {
    await limit({ scale_in_floor: 2 });
    const id = await member(10);
    const other = await member(10);
    const decisionId = await seedDecision(pool, other, 10, 8);
    await seedAttempt(pool, { resourceId: other, decisionId }, [10, 8]);
    expect((await change(id, 10, 9)).code).toBe('fleet_budget');
  });

  it('is told by a decision, with what is left of it', async () => {
    await limit({ scale_in_floor: 3 });
    const id = await member(10, ordinarySteps);
    await change(id, 10, 8);
    expect(await protectionsOf(id)).toMatchObject([{ code: 'fleet_budget', direction: 'down', allowed: 1 }]);
  });
});

describe('the budget of changes', () => {
  it('holds for both directions together', async () => {
    await limit({ change_percent: 0, change_floor: 6, scale_in_floor: 100 });
    const id = await member(10);
    expect((await change(id, 10, 14)).writes).toEqual([14]);
    expect((await change(id, 14, 12)).writes).toEqual([12]);
    expect((await change(id, 12, 13)).error).toMatchObject({
      code: 'fleet_budget',
      context: { limit: 6, used: 6 },
    });
  });
});

describe('correlated scale-in', () => {
  const wishes = async (members: number, wanting: number) => {
    const ids = [];
    for (let index = 0; index < members; index++) ids.push(await member(10, ordinarySteps));
    for (const id of ids.slice(0, wanting)) await seedDecision(pool, id, 10, 9);
    return ids as [string, ...string[]];
  };

  it('is held, once too many resources of a region want it at once, and told to the people on call', async () => {
    const [id] = await wishes(15, 10);
    const held = await change(id, 10, 9);
    expect(held).toMatchObject({
      code: 'correlated_scale_in',
      writes: [],
      error: { context: { scope: cloudScope() } },
    });
    // Scaling out goes on.
    expect((await change(id, 10, 12)).writes).toEqual([12]);
    const audited = `select detail from audit_log where action = 'fleet.held' and subject = $1`;
    expect(await readRows(pool, audited, [cloudScope()])).toMatchObject([
      { detail: { wanting: 10, resources: 15 } },
    ]);
    expect(await protectionsOf(id)).toMatchObject([
      { code: 'correlated_scale_in', direction: 'down', allowed: 0 },
    ]);
  });

  it.each([
    ['few resources', 12, 8],
    ['a small share of the resources', 20, 11],
  ])('is not seen in %s', async (_, members, wanting) => {
    const [id] = await wishes(members, wanting);
    expect((await change(id, 10, 9)).writes).toEqual([9]);
  });

  it('is not seen in wishes of long ago', async () => {
    const [id] = await wishes(12, 12);
    await pool.query(
      `update scaling_decisions set created_at = now() - interval '6 minutes' where resource_id in (select id from resources where region = $1)`,
      [region],
    );
    expect((await change(id, 10, 9)).writes).toEqual([9]);
  });

  it('goes on when someone who has looked releases it, and is then left alone for a while', async () => {
    const [id] = await wishes(12, 11);
    expect((await change(id, 10, 9)).code).toBe('correlated_scale_in');
    expect(await releaseHold(pool, cloudScope(), 3_600, 'admin-key', 'a real lull')).toBe(true);
    expect(await releaseHold(pool, cloudScope(), 3_600, 'admin-key', 'twice')).toBe(false);
    expect((await change(id, 10, 9)).writes).toEqual([9]);
  });

  it('goes on at the pace of the budget when nobody looks', async () => {
    const [id] = await wishes(12, 11);
    expect((await change(id, 10, 9)).code).toBe('correlated_scale_in');
    await pool.query(`update fleet_holds set held_until = now() where scope = $1`, [cloudScope()]);
    expect((await change(id, 10, 9)).writes).toEqual([9]);
  });
});

describe('a resource that swings', () => {
  it('is held high after three changes of direction in half an hour, and can still grow', async () => {
    await limit({ scale_in_floor: 1_000 });
    const id = await member(10);
    for (const [from, target] of [
      [10, 12],
      [12, 10],
      [10, 12],
      [12, 10],
      [10, 12],
    ] as const)
      expect((await change(id, from, target)).code, `${from} to ${target}`).toBe(null);
    expect(await change(id, 12, 10)).toMatchObject({ code: 'flapping', writes: [] });
    expect((await change(id, 12, 14)).writes).toEqual([14]);
    await pool.query(
      `update attempts set intent_at = intent_at - interval '31 minutes' where resource_id = $1`,
      [id],
    );
    expect((await change(id, 14, 12)).writes).toEqual([12]);
  });

  it('may swing as often as its policy allows', async () => {
    await limit({ scale_in_floor: 1_000 });
    const id = await member(10, { max_reversals_per_half_hour: 1 });
    expect((await change(id, 10, 12)).code).toBe(null);
    expect((await change(id, 12, 10)).code).toBe(null);
    expect((await listFlapping(pool)).map((row) => row.resource_id)).not.toContain(id);
    expect((await change(id, 10, 12)).code).toBe(null);
    expect((await listFlapping(pool)).filter((row) => row.resource_id === id)).toEqual([
      {
        resource_id: id,
        ...{ name: expect.any(String), reversals: 3, max_reversals: 1, held_until: expect.any(String) },
      },
    ]);
    expect((await change(id, 12, 10)).code).toBe('flapping');
  });
});

describe('the circuit of a region', () => {
  const failing = (fault: ProviderError) => (cloud: ScriptedCloud) => {
    cloud.describeFault = fault;
  };
  const away = new ProviderError('unavailable', 'timeout', 'The cloud did not answer.');
  const describes = async (fault: ProviderError | null) =>
    await change(await member(4), 4, 5, fault === null ? () => {} : failing(fault));
  const circuit = async () => (await listCircuits(pool)).find((row) => row.scope === cloudScope());
  const timeIsOver = () =>
    pool.query(
      `update circuits set open_until = now() - interval '1 second', probe_until = null where scope = $1`,
      [cloudScope()],
    );

  it('opens after five failures in a row, for all workers, and costs executions no attempt', async () => {
    for (let index = 0; index < 4; index++) await describes(away);
    expect(await circuit()).toMatchObject({ failures: 4, open: false });
    await describes(away);
    expect(await circuit()).toMatchObject({ failures: 5, open: true, last_code: 'timeout' });
    const { outcome, writes } = await describes(null);
    expect(outcome).toMatchObject({ kind: 'postpone', refund: true, error: { code: 'circuit_open' } });
    expect(writes).toEqual([]);
    const audited = `select actor from audit_log where action = 'circuit.opened' and subject = $1`;
    expect(await readRows(pool, audited, [cloudScope()])).toEqual([{ actor: 'worker-1' }]);
  });

  it('opens at once for credentials that are not known, and not for a permission that lacks', async () => {
    await describes(new ProviderError('identity', 'aws_denied', 'Denied.'));
    expect(await circuit()).toMatchObject({ failures: 1, open: false });
    await describes(new ProviderError('identity', 'aws_identity', 'Expired.'));
    expect(await circuit()).toMatchObject({ open: true });
  });

  it('lets one try when its time is over, and closes when that works', async () => {
    await describes(new ProviderError('identity', 'aws_identity', 'Expired.'));
    await timeIsOver();
    const [first, second] = await Promise.all([describes(null), describes(null)]);
    const kinds = [first.outcome.kind, second.outcome.kind].sort();
    // The second either found the first one trying, or came after it had closed the circuit.
    expect(kinds[0]).toBe('finished');
    expect((await describes(null)).writes).toEqual([5]);
    expect(await circuit()).toBeUndefined();
    const { rows } = await pool.query(`select action, actor from audit_log where subject = $1 order by id`, [
      cloudScope(),
    ]);
    expect(rows).toEqual([
      { action: 'circuit.opened', actor: 'worker-1' },
      { action: 'circuit.closed', actor: 'worker-1' },
    ]);
  });

  it('spends no try on an execution that has come too late: that one ends at once, and the next one tries', async () => {
    const id = await member(4);
    const decisionId = await seedDecision(pool, id, 4, 5, { expiresInSeconds: -1 });
    const jobId = await seedExecuteJob(pool, id, decisionId);
    await describes(new ProviderError('identity', 'aws_identity', 'Expired.'));
    await timeIsOver();
    const late = await rig.execute(new ScriptedCloud(), jobId);
    expect(late).toMatchObject({ kind: 'finished', completion: { outcome: 'expired' } });
    expect((await describes(null)).writes).toEqual([5]);
    expect(await circuit()).toBeUndefined();
  });

  it('opens again, for no longer, when the trial fails', async () => {
    await describes(new ProviderError('identity', 'aws_identity', 'Expired.'));
    const first = (await circuit())?.open_ms as number;
    await timeIsOver();
    await describes(away);
    const second = (await circuit())?.open_ms as number;
    expect(first).toBeGreaterThan(25_000);
    expect(second / first).toBeCloseTo(1, 1);
  });

  it('counts only failures in a row', async () => {
    for (let index = 0; index < 4; index++) await describes(away);
    await describes(null);
    for (let index = 0; index < 4; index++) await describes(away);
    expect(await circuit()).toMatchObject({ failures: 4, open: false });
    await circuitAnswered(pool, cloudScope());
  });

  it('counts writes that fail, and what the cloud refuses does not', async () => {
    await change(await member(4), 4, 5, (cloud) => {
      cloud.beforeWrite = () => {
        throw new ProviderError('unknown', 'server_error', 'The cloud failed.');
      };
    });
    expect(await circuit()).toMatchObject({ failures: 1, last_code: 'server_error' });
    await change(await member(4), 4, 5, (cloud) => {
      cloud.beforeWrite = () => {
        throw new ProviderError('permanent', 'aws_rejected', 'No.');
      };
    });
    // The look before that write worked.
    expect(await circuit()).toBeUndefined();
  });
});
