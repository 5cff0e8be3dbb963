import type { EngineInput, EngineSample } from '../engine/types.ts';

/**
 * [ms before `nowMs`, CPU ratio, memory ratio, instances, requests, CPU worth, memory worth]: a third of the bytes of
 * named fields, in every decision. What is usual is left out at the end.
 */
type PackedSample = readonly [
  agoMs: number,
  cpuRatio: number | null,
  memoryRatio: number | null,
  instances: number,
  requests?: number | null,
  cpuWorth?: number | null,
  memoryWorth?: number | null,
];

export type StoredInputs = Omit<EngineInput, 'samples'> & { readonly samples: readonly PackedSample[] };

/** What a decision keeps of its inputs: all of them, exactly, so that it can be replayed. */
export function packInputs(input: EngineInput): StoredInputs {
  return { ...input, samples: input.samples.map((sample) => packSample(sample, input.nowMs)) };
}

function packSample(sample: EngineSample, nowMs: number): PackedSample {
  const { atMs, cpuRatio, memoryRatio, instances, requests = null, cpuWorth, memoryWorth } = sample;
  const packed = [nowMs - atMs, cpuRatio, memoryRatio, instances] as const;
  if (cpuWorth !== undefined || memoryWorth !== undefined)
    return [...packed, requests, cpuWorth ?? null, memoryWorth ?? null];
  return requests === null ? packed : [...packed, requests];
}

export function unpackInputs(stored: StoredInputs): EngineInput {
  return { ...stored, samples: stored.samples.map((packed) => unpackSample(packed, stored.nowMs)) };
}

function unpackSample(packed: PackedSample, nowMs: number): EngineSample {
  const [agoMs, cpuRatio, memoryRatio, instances, requests = null, cpuWorth = null, memoryWorth = null] =
    packed;
  return {
    atMs: nowMs - agoMs,
    cpuRatio,
    memoryRatio,
    instances,
    ...(requests === null ? {} : { requests }),
    ...(cpuWorth === null ? {} : { cpuWorth }),
    ...(memoryWorth === null ? {} : { memoryWorth }),
  };
}
