import { describe, expect, it } from 'vitest';
import { lengthOf, restore, save } from '../../../worker/forecaster/checkpoint.ts';
import { DemandForecaster } from '../../../worker/forecaster/demand-forecaster.ts';
import { ResourceForecaster, shapeOf } from '../../../worker/forecaster/resource-forecaster.ts';
import { DelayLine } from '../../../worker/forecaster/state.ts';
import { bytesOf, coarsePolicy, feed, normals, sampleAt } from '../../support/forecast-input.ts';

const options = { stepMs: 300_000, horizonSteps: 2 };
const series = (length: number, seed: number) => {
  const noise = normals(seed);
  return Array.from({ length }, (_, at) =>
    at % 37 === 5 ? null : Math.max(0, 10 + 5 * Math.sin((2 * Math.PI * at) / 288) + noise()),
  );
};

describe('a checkpoint', () => {
  it.each([0, 1, 19, 288, 700])(
    'taken after %i steps, goes on bit for bit as if nothing had happened',
    (at) => {
      const all = series(at + 400, 5);
      const first = new DemandForecaster(options);
      feed(first, all.slice(0, at));
      const second = new DemandForecaster(options);
      restore(second, save(first));
      expect(bytesOf(second)).toBe(bytesOf(first));
      const said: unknown[][] = [[], []];
      for (const [index, forecaster] of [first, second].entries()) {
        feed(forecaster, all.slice(at), at, () =>
          said[index]?.push([forecaster.expected, forecaster.planned, forecaster.upper(0.7)]),
        );
      }
      expect(said[1]).toEqual(said[0]);
      expect(bytesOf(second)).toBe(bytesOf(first));
      expect(second.distribution).toEqual(first.distribution);
    },
  );

  it('holds all of a resource', () => {
    const policy = coarsePolicy();
    const metrics = ['cpu', 'memory'] as const;
    const first = new ResourceForecaster(shapeOf(policy), metrics);
    const second = new ResourceForecaster(shapeOf(policy), metrics);
    const noise = normals(9);
    const samples = Array.from({ length: 500 }, (_, step) =>
      sampleAt(first, step, { cpuRatio: 0.5 + noise() / 20, memoryRatio: 0.4 + noise() / 20, requests: 90 }),
    );
    first.advance(samples.slice(0, 400), policy);
    restore(second, save(first));
    first.advance(samples.slice(400), policy);
    second.advance(samples.slice(400), policy);
    expect(second.forecast(policy)).toEqual(first.forecast(policy));
    expect(bytesOf(second)).toBe(bytesOf(first));
  });

  it('is a copy: what happens later does not reach it', () => {
    const forecaster = new DemandForecaster(options);
    feed(forecaster, [1, 2, 3]);
    const bytes = save(forecaster);
    const before = Buffer.from(bytes).toString('base64');
    feed(forecaster, [4, 5], 3);
    expect(Buffer.from(bytes).toString('base64')).toBe(before);
  });

  it('is as long as the arrays', () => {
    const line = new DelayLine(5);
    expect(lengthOf(line.state())).toBe(6 * 8);
    expect(save(line).byteLength).toBe(6 * 8);
  });

  it.each([-1, 1, 8])('of another length (%i bytes off) is refused, and nothing is touched', (off) => {
    const forecaster = new DemandForecaster(options);
    feed(forecaster, [1, 2, 3]);
    const before = bytesOf(forecaster);
    const bytes = new Uint8Array(save(forecaster).byteLength + off);
    expect(() => restore(forecaster, bytes)).toThrow(RangeError);
    expect(bytesOf(forecaster)).toBe(before);
  });

  it('of another horizon or step is of another length', () => {
    const bytes = save(new DemandForecaster(options));
    expect(() => restore(new DemandForecaster({ ...options, horizonSteps: 3 }), bytes)).toThrow(RangeError);
    expect(() => restore(new DemandForecaster({ ...options, stepMs: 60_000 }), bytes)).toThrow(RangeError);
  });

  it('fits into what a service may take: 256 KiB at five minutes', () => {
    expect(save(new DemandForecaster(options)).byteLength).toBeLessThanOrEqual(256 * 1_024);
  });
});
