/** Counters by name, bounded: names beyond the first `maxNames` are counted together. */
export class NamedCounts {
  readonly #maxNames: number;
  readonly #counts = new Map<string, number>();
  #others = 0;

  constructor(maxNames: number) {
    this.#maxNames = maxNames;
  }

  add(name: string): void {
    const count = this.#counts.get(name);
    if (count === undefined && this.#counts.size >= this.#maxNames) this.#others++;
    else this.#counts.set(name, (count ?? 0) + 1);
  }

  /** Serialises as `{ name: count }`; `(others)` counts the names beyond the first `maxNames`. */
  toJSON(): Record<string, number> {
    const named = Object.fromEntries(this.#counts);
    return this.#others === 0 ? named : { ...named, '(others)': this.#others };
  }
}
