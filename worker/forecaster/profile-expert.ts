import type { Expert, Moment } from './expert.ts';
import { doubles, type StateArray } from './state.ts';

const levelRate = 0.7;
/** How much of today's deviation from the usual day is left a step later. */
const memory = 0.995;

/** The day's usual value at the horizon, plus what is left by then of today's deviation. */
export class ProfileExpert implements Expert {
  readonly name = 'day_profile';
  readonly #memoryAhead: number;
  readonly #level = doubles(1).fill(Number.NaN);

  constructor(horizonSteps: number) {
    this.#memoryAhead = memory ** horizonSteps;
  }

  forecast({ demand, knowsDay, profileNow, profileAhead }: Moment): number {
    const level = this.#level[0] as number;
    const next = Number.isNaN(level) ? demand : level + levelRate * (demand - level);
    this.#level[0] = next;
    return knowsDay ? Math.max(0, profileAhead + this.#memoryAhead * (next - profileNow)) : next;
  }

  state(): readonly StateArray[] {
    return [this.#level];
  }
}
