/** Counts by name, of which the first `mostNames` are told apart; the others are counted together. */
export class Tally {
  readonly #mostNames: number;
  readonly #counts = new Map<string, number>();
  #others = 0;

  constructor(mostNames: number) {
    this.#mostNames = mostNames;
  }

  add(name: string): void {
    const count = this.#counts.get(name);
    if (count === undefined && this.#counts.size >= this.#mostNames) this.#others++;
    else this.#counts.set(name, (count ?? 0) + 1);
  }

  /** As it goes into a row; `(others)` are those beyond the most names. */
  toJSON(): Record<string, number> {
    const named = Object.fromEntries(this.#counts);
    return this.#others === 0 ? named : { ...named, '(others)': this.#others };
  }
}
