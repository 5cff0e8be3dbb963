import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { parseTrace, readTrace } from '../../../worker/replay/trace.ts';

const rows = (...lines: string[]) => ['timestamp,demand', ...lines, ''].join('\n');

describe('parseTrace', () => {
  it('reads ISO 8601, epoch seconds and epoch milliseconds alike', () => {
    const start = Date.UTC(2026, 0, 1);
    for (const time of [
      (ms: number) => new Date(ms).toISOString(),
      (ms: number) => String(ms / 1_000),
      (ms: number) => String(ms),
    ]) {
      const trace = parseTrace(
        't',
        rows(`${time(start)},1`, `${time(start + 60_000)},2.5`, `${time(start + 120_000)},0`),
      );
      expect(trace).toMatchObject({ startMs: start, stepMs: 60_000 });
      expect([...trace.demand]).toEqual([1, 2.5, 0]);
      expect([...trace.missing]).toEqual([0, 0, 0]);
    }
  });

  it('fills gaps with the last value, and remembers that they are gaps', () => {
    const trace = parseTrace('t', rows('0,4', '60,5', '120,6', '300,9').replaceAll('\n', '\r\n'));
    expect([...trace.demand]).toEqual([4, 5, 6, 6, 6, 9]);
    expect([...trace.missing]).toEqual([0, 0, 0, 1, 1, 0]);
  });

  it.each([
    ['no header', '0,1\n60,2\n120,3', 'line 1 must be the header'],
    ['one row', rows('0,1'), 'at least two rows'],
    ['NaN', rows('0,1', '60,NaN'), 'line 3: demand "NaN"'],
    ['nothing', rows('0,1', '60,'), 'line 3: demand ""'],
    ['a negative', rows('0,1', '60,-1'), 'line 3: demand "-1"'],
    ['infinity', rows('0,1', '60,1e999'), 'line 3: demand "1e999"'],
    ['no time', rows('0,1', 'soon,1'), 'line 3: "soon" is not a time'],
    ['a third column', rows('0,1', '60,1,2'), 'line 3 has more than two columns'],
    ['time that stands still', rows('0,1', '0,1'), 'line 3 is not later'],
    [
      'a row off the grid',
      rows('0,1', '60,1', '120,1', '150,1', '210,1'),
      'line 5 is not on the grid of 60 s',
    ],
  ])('refuses %s, naming the line', (_, text, words) => {
    expect(() => parseTrace('t', text)).toThrow(words);
  });
});

describe('readTrace', () => {
  it('unpacks what is gzipped, and says what it cannot read', () => {
    const folder = mkdtempSync(join(tmpdir(), 'scaler-trace-'));
    writeFileSync(join(folder, 'a.csv.gz'), gzipSync(rows('0,1', '60,2')));
    expect(readTrace(join(folder, 'a.csv.gz'))).toMatchObject({ name: 'a', stepMs: 60_000 });
    expect(() => readTrace(join(folder, 'b.csv'))).toThrow('cannot be read: ENOENT');
    rmSync(folder, { recursive: true });
  });
});
