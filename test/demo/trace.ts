import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

export interface TraceStep {
  readonly timestamp: string;
  /** Instances' worth of work. */
  readonly demand: number;
}

/** Reads `timestamp,demand` rows. @throws Error naming the line that is not one. */
export function readTrace(file: string): TraceStep[] {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  return text
    .trim()
    .split('\n')
    .slice(1)
    .map((line, index) => {
      const [timestamp, demand] = line.split(',');
      const value = Number(demand);
      if (timestamp === undefined || !Number.isFinite(value) || value < 0)
        throw new Error(`${file}:${index + 2}: not "timestamp,demand": ${line}`);
      return { timestamp, demand: value };
    });
}

/** Nearest-rank percentile, 0 for no values. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil((p / 100) * sorted.length) - 1)] ?? 0;
}
