import type { Expert, Moment } from './expert.ts';
import { doubles, type StateArray } from './state.ts';

/** Simple exponential smoothing (Brown 1956): the level, carried forward. */
export class SmoothingExpert implements Expert {
  readonly name: string;
  readonly #rate: number;
  readonly #level = doubles(1).fill(Number.NaN);

  constructor(rate: number) {
    this.name = `ses_${rate}`;
    this.#rate = rate;
  }

  forecast({ demand }: Moment): number {
    const level = this.#level[0] as number;
    const next = Number.isNaN(level) ? demand : level + this.#rate * (demand - level);
    this.#level[0] = next;
    return next;
  }

  state(): readonly StateArray[] {
    return [this.#level];
  }
}
