import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { toSamples } from '../../../worker/samples/read-samples.ts';
import type { HistoryRow } from '../../../worker/samples/samples-store.ts';
import { forAll } from '../../support/for-all.ts';

const size = { vcpu: 4, gib: 16 };
const second = 1_000;
const counted = (seconds: number, total: number | null): HistoryRow => [
  seconds * second,
  50,
  null,
  4,
  null,
  total,
  'm5.xlarge',
  null,
  null,
];
const rates = (rows: readonly HistoryRow[]) => toSamples(rows, size).map(({ requests }) => requests);

describe('a counter of requests', () => {
  it('becomes a rate per second since the row before', () => {
    expect(rates([counted(0, 1_000), counted(60, 1_600), counted(120, 1_600), counted(150, 1_900)])).toEqual([
      null,
      10,
      0,
      10,
    ]);
  });

  it('that begins anew gives no rate for that time: neither a negative nor a giant one', () => {
    expect(rates([counted(0, 90_000), counted(60, 90_600), counted(120, 300), counted(180, 900)])).toEqual([
      null,
      10,
      null,
      10,
    ]);
    // A sum over replicas of which one began anew: what is left is not an increase.
    expect(rates([counted(0, 90_000), counted(60, 60_000), counted(120, 60_600)])).toEqual([null, null, 10]);
  });

  it('is compared with the newest row that has one', () => {
    expect(rates([counted(0, 100), counted(60, null), counted(120, 1_300)])).toEqual([null, null, 10]);
  });

  it('says nothing after more than an hour of silence', () => {
    expect(rates([counted(0, 0), counted(3_600, 3_600), counted(7_201, 7_201)])).toEqual([null, 1, null]);
  });

  it('goes on over pages, and gives way to a rate that was posted', () => {
    const [sample] = toSamples([counted(60, 700)], size, { atMs: 0, total: 100 });
    expect(sample?.requests).toBe(10);
    const both: HistoryRow = [60 * second, 50, null, 4, 33, 700];
    expect(toSamples([both], size, { atMs: 0, total: 100 })[0]?.requests).toBe(33);
  });

  it('never gives a rate that was not there, whatever restarts', () => {
    const step = fc.record({
      passed: fc.integer({ min: 1, max: 600 }),
      more: fc.integer({ min: 0, max: 5_000 }),
      restarts: fc.boolean(),
    });
    forAll(200, [fc.array(step, { minLength: 2, maxLength: 40 })], (steps) => {
      let [at, total] = [0, 0];
      const truth: number[] = [];
      const rows = steps.map(({ passed, more, restarts }) => {
        at += passed;
        total = restarts ? more : total + more;
        truth.push(more / passed);
        return counted(at, total);
      });
      for (const [index, rate] of rates(rows).entries()) {
        if (rate === null) continue;
        expect(rate).toBeGreaterThanOrEqual(0);
        // A restart that already counted past the old value cannot be told from none: then it is less than the truth.
        expect(rate).toBeLessThanOrEqual((truth[index] as number) + 1e-9);
      }
    });
  });
});

describe('a row', () => {
  it('of today is as it was measured', () => {
    expect(toSamples([[5_000, 50, 25, 4, 12]], size)).toEqual([
      { atMs: 5_000, cpuRatio: 0.5, memoryRatio: 0.25, instances: 4, requests: 12 },
    ]);
  });

  it('of other instances says what one of them was worth', () => {
    const row: HistoryRow = [5_000, 50, 25, 4, null, null, 'm5.large', null, null];
    expect(toSamples([row], size)).toEqual([
      {
        atMs: 5_000,
        cpuRatio: 0.5,
        memoryRatio: 0.25,
        instances: 4,
        requests: null,
        cpuWorth: 0.5,
        memoryWorth: 0.5,
      },
    ]);
    const replica: HistoryRow = [5_000, 50, 25, 4, null, null, null, 2, 32];
    expect(toSamples([replica], size)[0]).toMatchObject({ cpuWorth: 0.5, memoryWorth: 2 });
  });

  it('that does not say is of instances like those of today', () => {
    const row: HistoryRow = [5_000, 50, 25, 4, null, 7, null, null, null];
    expect(Object.keys(toSamples([row], size)[0] ?? {})).not.toContain('cpuWorth');
  });
});
