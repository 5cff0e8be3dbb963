import { doubles, floats, type StateArray, type Stateful } from './state.ts';

/** How much the newest of the days (or weeks) counts. */
const rate = 0.3;

/**
 * The usual value of each slot of a period: an exponentially weighted mean over periods, a plain one over the first
 * few.
 */
export class SlotProfile implements Stateful {
  readonly #slots: Float32Array;
  readonly #radius: number;
  /** Values taken in; in an array that may be shared. */
  readonly #count: Float64Array;
  readonly #at: number;
  readonly #ownsCount: boolean;

  /**
   * @param radius how many neighbours on each side a slot is averaged with when read.
   * @param count where its one number goes, at `at`: its owner lists it in its state.
   */
  constructor(slots: number, radius: number, count?: Float64Array, at = 0) {
    this.#slots = floats(slots);
    this.#radius = Math.min(radius, Math.floor((slots - 1) / 2));
    this.#ownsCount = count === undefined;
    this.#count = count ?? doubles(1);
    this.#at = at;
  }

  /** Whole periods seen; a slot is known once one is complete. */
  get periods(): number {
    return Math.floor((this.#count[this.#at] as number) / this.#slots.length);
  }

  /** Slots come one after another: call it once a step. */
  learn(slot: number, value: number): void {
    const gain = Math.max(rate, 1 / (this.periods + 1));
    const old = this.#slots[slot] as number;
    this.#slots[slot] = old + gain * (value - old);
    this.#count[this.#at] = (this.#count[this.#at] as number) + 1;
  }

  at(slot: number): number {
    const radius = this.#radius;
    if (radius === 0) return this.#slots[slot] as number;
    const slots = this.#slots;
    const last = slots.length - 1;
    let sum = 0;
    let index = slot < radius ? slot - radius + slots.length : slot - radius;
    for (let count = 2 * radius; count >= 0; count--) {
      sum += slots[index] as number;
      index = index === last ? 0 : index + 1;
    }
    return sum / (2 * radius + 1);
  }

  /** Brings the mean of all slots down to a level, where it is above; their shape stays. */
  lowerTo(level: number): void {
    let sum = 0;
    for (const value of this.#slots) sum += value;
    const mean = sum / this.#slots.length;
    if (!(mean > level)) return;
    for (let slot = 0; slot < this.#slots.length; slot++) {
      this.#slots[slot] = (this.#slots[slot] as number) * (level / mean);
    }
  }

  state(): readonly StateArray[] {
    return this.#ownsCount ? [this.#slots, this.#count] : [this.#slots];
  }
}
