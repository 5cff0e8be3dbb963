import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { createClosers } from '../../shared/lifecycle/closers.ts';
import { createTestDatabase } from '../support/test-database.ts';
import { checkSchema } from './check-schema.ts';
import type { Reply } from './client.ts';
import { Dice } from './dice.ts';
import { breaksOf, fuzz } from './run.ts';
import { startTarget } from './target.ts';
import { judge } from './verdict.ts';

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
      expect(report.refused_batches_compared).toBeGreaterThan(0);
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

describe('one seed', () => {
  it('is one sequence', () => {
    const roll = (seed: number) => {
      const dice = new Dice(seed);
      return [dice.uuid(), dice.below(1_000), dice.text(10), dice.pick([1, 2, 3])];
    };
    expect(roll(7)).toEqual(roll(7));
    expect(roll(7)).not.toEqual(roll(8));
  });
});
