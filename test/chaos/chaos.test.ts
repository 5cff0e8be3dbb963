import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { faultKinds, planFaults, processFaultOf, processFaults, victimsOf } from './fault-plan.ts';
import { recoverySpread, untilTakenOver } from './recovery.ts';
import { runChaos } from './run.ts';

const topology = {
  apis: ['api-1', 'api-2'],
  workers: ['worker-1', 'worker-2', 'worker-3'],
  links: ['api-1→postgres', 'worker-1→aws'],
  objects: [7, 8, 9],
  awsObjects: [7],
};

describe('the plan of faults', () => {
  const plan = (seed: number) => planFaults({ seed, durationMs: 3_600_000, meanIntervalMs: 1_100, topology });

  test('is the same for the same seed, and another for another', () => {
    expect(plan(5)).toEqual(plan(5));
    expect(plan(6)).not.toEqual(plan(5));
  });

  test('has every kind of fault in an hour, and enough of them hit processes', () => {
    const faults = plan(1);
    const ofProcesses = faults.flatMap(({ kind }) => processFaultOf(kind) ?? []);
    expect(ofProcesses.length).toBeGreaterThan(1_800);
    expect(new Set(ofProcesses)).toEqual(new Set(processFaults));
    expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(Object.keys(faultKinds)));
  });

  test('names its victims: the same of the same list, each once, and no more than there are', () => {
    const list = ['a', 'b', 'c', 'd', 'e', 'f'];
    const chosen = victimsOf({ count: 3, victims: 7 }, list);
    expect(chosen).toEqual(victimsOf({ count: 3, victims: 7 }, [...list]));
    expect(new Set(chosen).size).toBe(3);
    const all = Array.from({ length: 50 }, (_, victims) => victimsOf({ count: 1, victims }, list)[0]);
    expect(new Set(all).size).toBe(list.length);
    expect(victimsOf({ count: 4, victims: 7 }, ['only'])).toEqual(['only']);
  });

  test('never hits a target that another fault still holds, and is over in time', () => {
    const freeAt = new Map<string, number>();
    for (const { target, atMs, durationMs } of plan(2)) {
      expect(atMs).toBeGreaterThanOrEqual(freeAt.get(target) ?? 0);
      expect(atMs + durationMs).toBeLessThanOrEqual(3_600_000);
      freeAt.set(target, atMs + durationMs);
    }
  });
});

describe('recovery', () => {
  test('what was never seen counts as 90 s, what had nothing to recover not at all', () => {
    expect(recoverySpread([200, 'over', null, 300])).toEqual({
      n: 3,
      p50: 300,
      p95: 90_000,
      max: 90_000,
      over_90s: 1,
      without_sample: 1,
    });
    expect(recoverySpread([null])).toMatchObject({ n: 0, p95: null, over_90s: 0, without_sample: 1 });
  });

  const times = { heldAfterMs: 0, longestMs: 300 };
  const poolWith = (rows: readonly object[]) => ({ query: async () => ({ rows }) }) as unknown as pg.Pool;
  const held = { id: 'job', fence: 1 };

  test('a killed worker that held no job gives no sample', async () => {
    const ended = { ...held, finished: true, finished_ms: Date.now(), lease_ms: null };
    const none = { begun: null, ended: null };
    expect(await untilTakenOver(poolWith([ended]), [held], Date.now(), times)).toEqual(none);
    expect(await untilTakenOver(poolWith([]), [], Date.now(), times)).toEqual(none);
  });

  test('a job that nobody took over in time counts as one that took too long', async () => {
    const left = { ...held, finished: false, finished_ms: null, lease_ms: Date.now() };
    const never = { begun: 'over', ended: 'over' };
    expect(await untilTakenOver(poolWith([left]), [held], Date.now(), times)).toEqual(never);
    const down = { query: () => Promise.reject(new Error('away')) } as unknown as pg.Pool;
    expect(await untilTakenOver(down, [held], Date.now(), times)).toEqual(never);
  });
});

test('a short run of everything: nothing is lost, nothing happens twice', { timeout: 120_000 }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'scaler-chaos-'));
  const report = await runChaos({
    minutes: 7 / 60,
    seed: 1619,
    rate: 60,
    everyMs: 160,
    objects: 16,
    apis: 2,
    workers: 3,
    calmMs: 8_000,
    recoverMs: 60_000,
    longestFaultMs: 900,
    directory,
    log: () => {},
  });
  expect(report.examples).toEqual({});
  expect(report).toMatchObject({ ok: true, lost: 0, duplicate_effects: 0, unfinished: 0, crashes: 0 });
  // It must not pass by doing nothing.
  expect(report.faults_total).toBeGreaterThanOrEqual(20);
  expect(report.process_faults).toBeGreaterThanOrEqual(8);
  expect(report.accepted).toBeGreaterThanOrEqual(40);
  expect(report.ledger_writes).toBeGreaterThanOrEqual(5);
  rmSync(directory, { recursive: true, force: true });
});
