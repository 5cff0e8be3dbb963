import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { InvalidInput } from '../../shared/errors.ts';

/** A recorded workload at equal steps. */
export interface Trace {
  readonly name: string;
  readonly startMs: number;
  readonly stepMs: number;
  /** Instances' worth of load in each step; where nothing was recorded, the last value before. */
  readonly demand: Float64Array;
  /** 1 where nothing was recorded. */
  readonly missing: Uint8Array;
}

const mostSteps = 2_000_000;

/**
 * Reads `timestamp,demand` rows, plain or gzipped. Times are ISO 8601 with a zone, or epoch seconds or milliseconds.
 * @throws InvalidInput naming the line and what is wrong with it.
 */
export function readTrace(path: string): Trace {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
    if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = gunzipSync(bytes);
  } catch (error) {
    throw refused(path, error instanceof Error ? error.message : String(error));
  }
  return parseTrace(basename(path).replace(/\.csv(\.gz)?$/, ''), bytes.toString('utf8'));
}

export function parseTrace(name: string, text: string): Trace {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  const header = (lines[0] ?? '').trim().toLowerCase();
  if (header !== 'timestamp,demand') throw refused(name, 'line 1 must be the header "timestamp,demand"');
  if (lines.length < 3) throw refused(name, 'it needs at least two rows');
  if (lines.length > mostSteps) throw refused(name, `it has more than ${mostSteps} rows`);
  const times: number[] = [];
  const values: number[] = [];
  for (let index = 1; index < lines.length; index++) {
    const [time, value, ...rest] = (lines[index] as string).split(',');
    const at = parseTime(time ?? '');
    const demand = value === undefined || value.trim() === '' ? Number.NaN : Number(value);
    const where = `line ${index + 1}`;
    if (rest.length > 0) throw refused(name, `${where} has more than two columns`);
    if (!Number.isFinite(at)) throw refused(name, `${where}: "${time}" is not a time`);
    if (!Number.isFinite(demand) || demand < 0)
      throw refused(name, `${where}: demand "${value ?? ''}" is not a number of at least 0`);
    const last = times.at(-1);
    if (last !== undefined && at <= last) throw refused(name, `${where} is not later than the line before`);
    times.push(at);
    values.push(demand);
  }
  return onGrid(name, times, values);
}

function parseTime(text: string): number {
  const trimmed = text.trim();
  if (!/^\d+(\.\d+)?$/.test(trimmed)) return Date.parse(trimmed);
  const number = Number(trimmed);
  return number >= 1e11 ? number : number * 1_000;
}

/** The commonest distance is the step; a distance of several steps is a gap. */
function onGrid(name: string, times: readonly number[], values: readonly number[]): Trace {
  const counts = new Map<number, number>();
  for (let index = 1; index < times.length; index++) {
    const distance = (times[index] as number) - (times[index - 1] as number);
    counts.set(distance, (counts.get(distance) ?? 0) + 1);
  }
  const [stepMs] = [...counts].reduce((best, entry) => (entry[1] > best[1] ? entry : best));
  const startMs = times[0] as number;
  const steps = Math.round(((times.at(-1) as number) - startMs) / stepMs) + 1;
  if (steps > mostSteps) throw refused(name, `it spans more than ${mostSteps} steps of ${stepMs} ms`);
  const demand = new Float64Array(steps);
  const missing = new Uint8Array(steps).fill(1);
  for (const [index, at] of times.entries()) {
    const step = (at - startMs) / stepMs;
    if (Math.abs(step - Math.round(step)) > 0.25)
      throw refused(
        name,
        `line ${index + 2} is not on the grid of ${stepMs / 1_000} s that most lines are on`,
      );
    demand[Math.round(step)] = values[index] as number;
    missing[Math.round(step)] = 0;
  }
  for (let step = 1; step < steps; step++) {
    if (missing[step] === 1) demand[step] = demand[step - 1] as number;
  }
  return { name, startMs, stepMs, demand, missing };
}

function refused(name: string, reason: string): InvalidInput {
  return new InvalidInput('invalid_trace', `The trace ${name} cannot be read: ${reason}.`);
}
