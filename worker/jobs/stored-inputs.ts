import type { EngineInput, EngineSample } from '../../shared/domain/scaling-decision.ts';

/** [ms before `nowMs`, CPU ratio, memory ratio, instances, requests]: a third of the bytes of named fields, in every decision. */
type PackedSample = readonly [number, number | null, number | null, number, number?];

export type StoredInputs = Omit<EngineInput, 'samples'> & { readonly samples: readonly PackedSample[] };

/** What a decision keeps of its inputs: all of them, exactly, so that it can be replayed. */
export function packInputs(input: EngineInput): StoredInputs {
  return {
    ...input,
    samples: input.samples.map(({ atMs, cpuRatio, memoryRatio, instances, requests }) => {
      const packed = [input.nowMs - atMs, cpuRatio, memoryRatio, instances] as const;
      return requests === undefined || requests === null ? packed : [...packed, requests];
    }),
  };
}

export function unpackInputs(stored: StoredInputs): EngineInput {
  return {
    ...stored,
    samples: stored.samples.map(([agoMs, cpuRatio, memoryRatio, instances, requests]): EngineSample => {
      const sample = { atMs: stored.nowMs - agoMs, cpuRatio, memoryRatio, instances };
      return requests === undefined ? sample : { ...sample, requests };
    }),
  };
}
