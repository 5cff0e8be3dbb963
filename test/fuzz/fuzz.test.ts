import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { createPool } from '../../shared/db/pool.ts';
import { createClosers } from '../../shared/lifecycle/closers.ts';
import { seedResource } from '../support/seed.ts';
import { createTestDatabase } from '../support/test-database.ts';
import { checkSchema } from './check-schema.ts';
import type { Reply } from './client.ts';
import { allowedMb, judgeMemory } from './memory.ts';
import { RandomGenerator } from './random-generator.ts';
import { mayEndUnanswered, rawShapes } from './raw-shapes.ts';
import { breaksOf, type FuzzReport } from './report.ts';
import { fuzz } from './run.ts';
import { changedTables, stateOf } from './state.ts';
import { startTarget } from './target.ts';
import { type Judged, judge } from './verdict.ts';

describe('the API under attack', () => {
  it('breaks nothing it promises', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'scaler-fuzz-test-'));
    const database = await createTestDatabase();
    const closers = createClosers();
    try {
      const target = await startTarget({
        databaseUrl: database.url,
        redisUrl: inject('redisUrl'),
        folder,
        closers,
        environment: { HEADERS_TIMEOUT_MS: '1500', REQUEST_TIMEOUT_MS: '2500' },
      });
      const report = await fuzz(target, { requests: 1_500, maxSeconds: 5, seed: 1, cutOffMs: 2_500 });
      expect(report.examples).toEqual([]);
      expect(breaksOf(report)).toEqual([]);
      expect(report.requests).toBeGreaterThan(100);
      expect(report.refused_requests_compared).toBeGreaterThan(50);
      expect(report.sequences).toBeGreaterThan(0);
      expect(report.live_memory.end_mb).toBeGreaterThan(1);
    } finally {
      await closers.closeAll(10_000);
      await database.drop();
      rmSync(folder, { recursive: true, force: true });
    }
  }, 60_000);
});

/** The fuzzer must see what it looks for. */
describe('the judge', () => {
  const operation = {
    method: 'GET',
    path: '/a',
    operationId: 'a',
    scope: 'read',
    parameters: [],
    body: null,
    responses: {
      200: {
        content: {
          'application/json': {
            schema: {
              type: 'object',
              properties: { n: { type: 'integer' } },
              required: ['n'],
              additionalProperties: false,
            },
          },
        },
      },
    },
  } as const;
  const api = { operations: [operation], resolve: <T>(schema: T) => schema };
  const problem = {
    type: 'urn:scaler:problem:not_found',
    title: 'Not found',
    status: 404,
    code: 'not_found',
    detail: 'x',
    request_id: 'r',
  };
  const kinds = (values: Partial<Reply>, body: unknown, type = 'application/json') =>
    judge(
      { status: 200, headers: { 'content-type': type }, text: JSON.stringify(body), ms: 1, ...values },
      { operation, method: 'GET' },
      api,
    ).map(({ kind }) => kind);

  it('finds each thing that must not be', () => {
    const problemType = 'application/problem+json';
    expect(kinds({}, { n: 1 })).toEqual([]);
    expect(kinds({ status: 404 }, problem, problemType)).toEqual([]);
    expect(
      kinds(
        { status: 503, headers: { 'retry-after': '1', 'content-type': problemType } },
        { ...problem, status: 503 },
      ),
    ).toEqual([]);
    expect(kinds({ status: 503 }, { ...problem, status: 503 }, problemType)).toEqual(['server_error']);
    expect(kinds({ status: 500 }, { ...problem, status: 500 }, problemType)).toEqual(['server_error']);
    expect(kinds({ ms: 2_001 }, { n: 1 })).toEqual(['over_2s']);
    expect(kinds({}, { n: 1, secret: 1 })).toEqual(['invalid_response']);
    expect(kinds({}, { n: 1.5 })).toEqual(['invalid_response']);
    expect(kinds({}, {})).toEqual(['invalid_response']);
    expect(kinds({ status: 201 }, { n: 1 })).toEqual(['invalid_response']);
    expect(kinds({ status: 404 }, problem)).toEqual(['invalid_problem']);
    for (const broken of [
      { code: 'Not Found' },
      { status: 400 },
      { type: 'about:blank' },
      { request_id: '' },
      { detail: 'at /x/node_modules/pg' },
    ])
      expect(kinds({ status: 404 }, { ...problem, ...broken }, problemType), JSON.stringify(broken)).toEqual([
        'invalid_problem',
      ]);
    expect(kinds({ headers: { 'x-injected': 'yes', 'content-type': 'application/json' } }, { n: 1 })).toEqual(
      ['injected_header'],
    );
  });

  it('wants an answer, in time, and the one that is due', () => {
    const none = (ms: number, request: Partial<Judged> = {}) =>
      judge({ status: 0, headers: {}, text: '', ms }, { operation, method: 'GET', ...request }, api).map(
        ({ kind }) => kind,
      );
    expect(none(1)).toEqual(['no_answer']);
    expect(none(20_000)).toEqual(['no_answer', 'over_2s']);
    expect(none(2_500, { askedToWaitMs: 1_000 })).toEqual(['no_answer']);
    expect(none(20_000, { operation: null, method: 'RAW', mayEndUnanswered: true })).toEqual([]);
    const answered = (status: number, headers: Readonly<Record<string, string>> = {}) =>
      judge(
        { status, headers: { 'content-type': 'application/json', ...headers }, text: '{"n":1}', ms: 1 },
        { operation, method: 'GET', expected: [400, 404] },
        api,
      ).map(({ kind }) => kind);
    expect(answered(200)).toEqual(['wrong_answer']);
    expect(answered(404)).not.toContain('wrong_answer');
    expect(answered(503, { 'retry-after': '1' })).not.toContain('wrong_answer');
  });

  it('lets only shapes that exist go unanswered', () => {
    expect(Object.keys(rawShapes)).toEqual(expect.arrayContaining(Object.keys(mayEndUnanswered)));
  });

  it('knows JSON schema', () => {
    const faults = (value: unknown, schema: Parameters<typeof checkSchema>[1]) =>
      checkSchema(value, schema, (same) => same).length;
    expect(faults('x', { type: ['string', 'null'] })).toBe(0);
    expect(faults(null, { anyOf: [{ type: 'string' }, { type: 'null' }] })).toBe(0);
    expect(faults(1, { anyOf: [{ type: 'string' }, { type: 'null' }] })).toBe(1);
    expect(faults('x', { enum: ['a'] })).toBe(1);
    expect(faults('x', { const: 'a' })).toBe(1);
    expect(faults('not-one', { type: 'string', format: 'uuid' })).toBe(1);
    expect(faults([1, 'x'], { type: 'array', items: { type: 'number' } })).toBe(1);
    expect(faults(11, { type: 'number', maximum: 10 })).toBe(1);
    expect(faults({ a: { b: 1 } }, { type: 'object', additionalProperties: { type: 'string' } })).toBe(1);
  });
});

describe('the verdict on a run', () => {
  const measured = (mbPer10k: number, requests = 20_000) =>
    Array.from({ length: requests / 100 }, (_, n): [number, number] => [
      n * 100,
      // What is under way, now and then, is no growth.
      40 + (n * 100 * mbPer10k) / 10_000 + (n % 3) * 2,
    ]);
  const steady = judgeMemory(measured(0), allowedMb.live);
  const passing = {
    requests: 20_000,
    no_answer: 0,
    server_errors: 0,
    state_changes_by_refused: 0,
    refused_requests: 10_000,
    refused_requests_compared: 9_000,
    compared: 0.9,
    over_2s: 0,
    live_memory: steady,
    rss: steady,
    sequences: 4,
    wrong_answers: 0,
    invalid_problem_bodies: 0,
    invalid_responses: 0,
    injected_headers: 0,
    smuggled_answers: 0,
    canary_connections: 0,
    slow_clients_not_cut: 0,
    process_died: false,
  } as unknown as FuzzReport;

  it('is a break for each thing that happened, and for what was not looked at', () => {
    expect(breaksOf(passing)).toEqual([]);
    for (const broken of [
      { no_answer: 1 },
      { over_2s: 1 },
      { wrong_answers: 1 },
      { state_changes_by_refused: 1 },
      { process_died: true },
      { refused_requests_compared: 8_990, compared: 0.899 },
      { sequences: 0 },
      { live_memory: judgeMemory(measured(2), allowedMb.live) },
      { live_memory: judgeMemory([], allowedMb.live) },
      { rss: judgeMemory(measured(20), allowedMb.rss) },
    ])
      expect(breaksOf({ ...passing, ...broken }), JSON.stringify(broken)).toHaveLength(1);
  });

  it('sees memory grow by 200 bytes a request, and not what comes and goes', () => {
    const verdict = (mbPer10k: number, requests?: number) =>
      judgeMemory(measured(mbPer10k, requests), allowedMb.live);
    expect(verdict(0)).toMatchObject({ verdict: 'flat', mb_per_10k: 0, judged_from_request: 5_000 });
    expect(verdict(1).verdict).toBe('flat');
    expect(verdict(2)).toMatchObject({ verdict: 'growing', mb_per_10k: expect.closeTo(2, 1) });
    expect(verdict(2, 6_000).verdict).toBe('too short to say');
  });
});

describe('the look at the database', () => {
  it('sees a row written again as it was, a key kept, and a refusal recorded as done; not that it was recorded', async () => {
    const database = await createTestDatabase();
    const pool = createPool(database.url, { name: 'fuzz', size: 1 });
    try {
      const changes = async (sql: string) => {
        const before = await stateOf(pool);
        await pool.query(sql);
        return changedTables(before, await stateOf(pool));
      };
      const inserting = (action: string) => `insert into audit_log (actor, action) values ('x', '${action}')`;
      expect(await changes(inserting('request.refused'))).toEqual([]);
      expect(await changes(inserting('resource.updated'))).toEqual(['audit_log']);
      await seedResource(pool);
      expect(await changes('update resources set name = name')).toContain('resources');
      expect(
        await changes(
          `insert into idempotency_keys (key_id, route, idempotency_key, body_hash) values ('k', 'POST /x', 'i', '')`,
        ),
      ).toEqual(['idempotency_keys']);
    } finally {
      await pool.end();
      await database.drop();
    }
  });
});

describe('one seed', () => {
  it('is one sequence', () => {
    const roll = (seed: number) => {
      const random = new RandomGenerator(seed);
      return [random.uuid(), random.below(1_000), random.text(10), random.pick([1, 2, 3])];
    };
    expect(roll(7)).toEqual(roll(7));
    expect(roll(7)).not.toEqual(roll(8));
  });
});
