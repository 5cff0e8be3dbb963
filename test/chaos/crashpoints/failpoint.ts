/** When, at an `await X`, the process ends: before X is begun, while it is under way (begun, its answer not seen), or after it. */
export const phases = ['before', 'during', 'after'] as const;
export type Phase = (typeof phases)[number];

export interface CrashPoint {
  readonly name: string;
  readonly phase: Phase;
  /** 1 for the first time the point is reached. */
  readonly nth: number;
}

let armed: CrashPoint | null = null;
const hits = new Map<string, number>();

/** Forgets all counts and sets where this process is to die; null counts only. */
export function arm(point: CrashPoint | null): void {
  armed = point;
  hits.clear();
}

/** How often each point was begun since `arm`. */
export function hitsSoFar(): Record<string, number> {
  return Object.fromEntries(
    [...hits].filter(([key]) => key.endsWith(' before')).map(([key, count]) => [key.split(' ')[0], count]),
  );
}

/** Called by instrumented code before an awaited expression is evaluated. */
export function before(name: string): void {
  crashAt(name, 'before');
}

/** Called by instrumented code with the value of an awaited expression. */
export function settle<T>(name: string, value: T): Promise<Awaited<T>> {
  crashAt(name, 'during');
  return Promise.resolve(value).then(
    (result) => {
      crashAt(name, 'after');
      return result;
    },
    (error: unknown) => {
      crashAt(name, 'after');
      throw error;
    },
  );
}

function crashAt(name: string, phase: Phase): void {
  const key = `${name} ${phase}`;
  const count = (hits.get(key) ?? 0) + 1;
  hits.set(key, count);
  if (armed === null || armed.name !== name || armed.phase !== phase || armed.nth !== count) return;
  process.kill(process.pid, 'SIGKILL');
  // Nothing of this thread may run while the signal is on its way.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}
