import { doubles, type StateArray, type Stateful } from './state.ts';

/** So far under what is usual at its time, and for so long, demand is no longer that of before. */
const share = 1 / 3;
const longMs = 6 * 3_600_000;
/** A step that is as usual takes back so many that were not. */
const takenBack = 3;

/**
 * Sees a service that was shut down, drained or moved: demand stays under a third of what the day and the week lead to
 * expect, for six hours. What was learnt of its errors is then of another time.
 */
export class LevelDrop implements Stateful {
  /** How long it takes, in steps. */
  readonly steps: number;
  readonly #run = doubles(1);

  constructor(stepMs: number) {
    this.steps = Math.round(longMs / stepMs);
  }

  /** @returns true once for each drop, when it has lasted long enough. */
  add(demand: number, usual: number): boolean {
    const run = this.#run[0] as number;
    if (demand < share * usual) {
      this.#run[0] = run + 1;
      return run + 1 === this.steps;
    }
    this.#run[0] = Math.max(0, Math.min(run, this.steps) - takenBack);
    return false;
  }

  state(): readonly StateArray[] {
    return [this.#run];
  }
}
