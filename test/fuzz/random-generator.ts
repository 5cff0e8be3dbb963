import { type Random, seededRandom } from '../simulators/core/seeded-random.ts';

/** Draws numbers, choices and texts: the same seed draws the same ones, in the same order. */
export class RandomGenerator {
  readonly #random: Random;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  /** From 0 to below `count`. */
  below(count: number): number {
    return Math.floor(this.#random() * count);
  }

  between(least: number, most: number): number {
    return least + this.#random() * (most - least);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('nothing to pick from');
    return items[this.below(items.length)] as T;
  }

  uuid(): string {
    const hex = (length: number) => Array.from({ length }, () => this.below(16).toString(16)).join('');
    return `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
  }

  text(length: number, letters = 'abcdefghijklmnopqrstuvwxyz0123456789'): string {
    return Array.from({ length }, () => letters[this.below(letters.length)]).join('');
  }
}
