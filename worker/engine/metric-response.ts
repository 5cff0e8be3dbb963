import { plannedRatio, responseOf, saturatedRatio } from './demand.ts';
import type {
  Candidate,
  EnginePolicy,
  EngineSample,
  Explanation,
  MetricResponse,
  MetricResponses,
} from './types.ts';

type Metric = Candidate['metric'];

/** Samples on each side of a change: their median is what was seen there. */
const samplesPerSide = 3;
/** So many samples after a change say all that it can. */
const finishedAfter = 6;
/** A change of the work of each instance by less than this proves nothing above the noise. */
const leastChange = 0.15;
/** From this change on, one is evidence enough. */
const fullChange = 0.5;
/** Values this close together did not respond; so many times in a row is no chance. */
const sameRatio = 0.03;
const sameTimes = 3;
/** Under this CPU is too small, and from there too full, to tell the load. */
const leastCpuRatio = 0.01;
/** Load that changed by more than this between two sides was another load. */
const mostLoadChange = 3;

const noRuns: readonly Run[] = [];

/** A base that moves by less is not worth a write. */
const baseNoise = 0.02;

const nothingSeen: MetricResponse = { baseRatio: 0, changes: 0, unchanged: 0 };
const nothingLearnt: MetricResponses = { throughMs: 0, cpu: nothingSeen, memory: nothingSeen };

/**
 * Learns from every change of the count how much of each metric's utilisation does not respond to it. A metric is taken
 * as `base + share × load / instances`; two sides of a change give both. The load is told by the requests or, for memory,
 * by the CPU demand; without either, memory that stayed the same over several changes does not respond, and CPU is
 * taken to respond fully: load that grows as fast as capacity would look the same.
 * @param samples plausible, oldest first.
 * @param known what was learnt before.
 * @returns `stored` to be handed in next time, and `current`, which also counts a change that is still being watched.
 */
export function learnResponses(
  samples: readonly EngineSample[],
  known: MetricResponses | null,
): { readonly stored: MetricResponses; readonly current: MetricResponses } {
  let stored = known ?? nothingLearnt;
  const runs = runsOf(samples);
  let current = stored;
  for (let index = 1; index < runs.length; index++) {
    const [before, after] = [runs[index - 1] as Run, runs[index] as Run];
    const [first] = after;
    if (first === undefined || first.atMs <= stored.throughMs || after.length < 2) continue;
    current = {
      throughMs: first.atMs,
      cpu: learnOne(stored.cpu, before, after, 'cpu'),
      memory: learnOne(stored.memory, before, after, 'memory'),
    };
    if (index < runs.length - 1 || after.length >= finishedAfter) stored = current;
  }
  return { stored: withinSeen(stored, samples), current: withinSeen(current, samples) };
}

/** Whether what is to be handed in next time differs from what was handed in by more than noise. */
export function isNews(stored: MetricResponses, known: MetricResponses | null): boolean {
  if (known === null) return stored.cpu.changes + stored.memory.changes + stored.memory.unchanged > 0;
  const moved = (metric: Metric) =>
    Math.abs(stored[metric].baseRatio - known[metric].baseRatio) > baseNoise ||
    stored[metric].changes !== known[metric].changes ||
    stored[metric].unchanged !== known[metric].unchanged;
  return moved('cpu') || moved('memory');
}

/** What is known of each metric, for the explanation. */
export function explainResponses(responses: MetricResponses, policy: EnginePolicy): Explanation['responses'] {
  if (responses.cpu.changes + responses.memory.changes === 0) return [];
  return (['cpu', 'memory'] as const)
    .filter((metric) => responses[metric].changes > 0)
    .map((metric) => ({
      metric,
      response: responseOf(responses[metric], plannedRatio(policy, metric)),
      baseRatio: responses[metric].baseRatio,
      changes: responses[metric].changes,
    }));
}

type Run = readonly EngineSample[];

/** Samples of one count and one kind of instance, one after another. */
function runsOf(samples: readonly EngineSample[]): readonly Run[] {
  const [first] = samples;
  if (first === undefined || samples.every((sample) => isAlike(sample, first))) return noRuns;
  const runs: EngineSample[][] = [];
  for (const sample of samples) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run !== undefined && last !== undefined && isAlike(sample, last)) run.push(sample);
    else runs.push([sample]);
  }
  return runs;
}

function isAlike(a: EngineSample, b: EngineSample): boolean {
  return a.instances === b.instances && a.cpuWorth === b.cpuWorth && a.memoryWorth === b.memoryWorth;
}

function learnOne(known: MetricResponse, before: Run, after: Run, metric: Metric): MetricResponse {
  const ratioOf = (sample: EngineSample) => (metric === 'cpu' ? sample.cpuRatio : sample.memoryRatio);
  // The first sample after a change is of its middle.
  const settled = after.slice(1);
  const was = medianOf(before, ratioOf);
  const is = medianOf(settled, ratioOf);
  if (was === null || is === null || was <= 0) return known;
  const [from, to] = [instancesOf(before), instancesOf(after)];
  const load = loadChange(before, settled, metric);
  const perInstance = load === null ? null : load / to;
  const change =
    perInstance === null ? 0 : Math.abs(1 / from - perInstance) / Math.max(1 / from, perInstance);
  if (perInstance === null) return unchangedOf(known, was, is, metric);
  if (change < leastChange) return known;
  const share = (was - is) / (1 / from - perInstance);
  const base = share > 0 ? Math.max(0, was - share / from) : Math.min(was, is);
  const weight = Math.min(1, change / fullChange);
  return {
    baseRatio: known.baseRatio + weight * (base - known.baseRatio),
    changes: known.changes + 1,
    unchanged: 0,
  };
}

/** Without a sign of the load only memory that stays the same again and again tells something. */
function unchangedOf(known: MetricResponse, was: number, is: number, metric: Metric): MetricResponse {
  if (metric === 'cpu') return known;
  const unchanged = Math.abs(is / was - 1) <= sameRatio ? known.unchanged + 1 : 0;
  if (unchanged < sameTimes) return { ...known, unchanged };
  return { baseRatio: is, changes: known.changes + 1, unchanged };
}

/** How the load changed from one side to the other, 1 meaning not at all; null where nothing tells it. */
function loadChange(before: Run, after: Run, metric: Metric): number | null {
  const requests = ratioBetween(before, after, (sample) => sample.requests ?? null);
  if (requests !== null) return requests;
  if (metric === 'cpu') return null;
  const cpu = ({ cpuRatio, instances }: EngineSample) =>
    cpuRatio === null || cpuRatio < leastCpuRatio || cpuRatio >= saturatedRatio ? null : cpuRatio * instances;
  return ratioBetween(before, after, cpu);
}

function ratioBetween(before: Run, after: Run, of: (sample: EngineSample) => number | null): number | null {
  const [was, is] = [medianOf(before, of), medianOf(after, of)];
  if (was === null || is === null || was <= 0 || is <= 0) return null;
  const ratio = is / was;
  return ratio > mostLoadChange || ratio < 1 / mostLoadChange ? null : ratio;
}

/** A base is never above what is seen: after a deployment that needs less, it is less. */
function withinSeen(responses: MetricResponses, samples: readonly EngineSample[]): MetricResponses {
  if (responses.cpu.baseRatio === 0 && responses.memory.baseRatio === 0) return responses;
  const within = (response: MetricResponse, seen: number | null) =>
    seen === null || response.baseRatio <= seen ? response : { ...response, baseRatio: seen };
  const cpu = within(
    responses.cpu,
    medianOf(samples, (sample) => sample.cpuRatio),
  );
  const memory = within(
    responses.memory,
    medianOf(samples, (sample) => sample.memoryRatio),
  );
  return cpu === responses.cpu && memory === responses.memory ? responses : { ...responses, cpu, memory };
}

/** The median of the newest values; null without any. */
function medianOf(run: Run, of: (sample: EngineSample) => number | null): number | null {
  const values = run
    .slice(-samplesPerSide)
    .map(of)
    .filter((value) => value !== null)
    .toSorted((a, b) => a - b);
  return values[Math.floor(values.length / 2)] ?? null;
}

function instancesOf(run: Run): number {
  return run[0]?.instances ?? 0;
}
