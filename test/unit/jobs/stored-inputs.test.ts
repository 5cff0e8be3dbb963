import { expect, it } from 'vitest';
import { packInputs, unpackInputs } from '../../../worker/decide/stored-inputs.ts';
import { input, now } from '../../support/engine-input.ts';

it('inputs are kept exactly, through JSON, and usual samples in four or five numbers', () => {
  const sample = { atMs: now - 60_000, cpuRatio: 0.5, memoryRatio: null, instances: 4 };
  const given = input({
    samples: [
      sample,
      { ...sample, atMs: now - 50_000, requests: 12.5 },
      { ...sample, atMs: now - 40_000, cpuWorth: 0.5 },
      { ...sample, atMs: now - 30_000, requests: 7, cpuWorth: 2, memoryWorth: 1.5 },
    ],
  });
  const stored = JSON.parse(JSON.stringify(packInputs(given)));
  expect(unpackInputs(stored)).toEqual(given);
  expect(stored.samples.map((packed: unknown[]) => packed.length)).toEqual([4, 5, 7, 7]);
});
