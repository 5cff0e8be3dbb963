interface Entry<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Group commit without a timer: what arrives while a flush is under way is the next batch, so an idle service
 * answers at once and a busy one commits many items together.
 */
export class Batcher<Item, Result> {
  readonly #flush: (items: readonly Item[]) => Promise<readonly Result[]>;
  readonly #maxItems: number;
  readonly #maxInFlight: number;
  #waiting: Entry<Item, Result>[] = [];
  #inFlight = 0;
  #scheduled = false;

  /**
   * @param flush handles the items and resolves to one result each, in order. When it rejects a batch of several,
   *   every item is tried again alone, so that one bad item does not fail its neighbours.
   */
  constructor(
    flush: (items: readonly Item[]) => Promise<readonly Result[]>,
    options: { readonly maxItems?: number; readonly maxInFlight?: number } = {},
  ) {
    this.#flush = flush;
    this.#maxItems = options.maxItems ?? 200;
    this.#maxInFlight = options.maxInFlight ?? 2;
  }

  /** Items not yet handed to a flush. */
  get backlog(): number {
    return this.#waiting.length;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#inFlight >= this.#maxInFlight || this.#waiting.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      void this.#run(this.#waiting.splice(0, this.#maxItems));
      this.#schedule();
    });
  }

  async #run(batch: readonly Entry<Item, Result>[]): Promise<void> {
    this.#inFlight++;
    try {
      const results = await this.#flush(batch.map((entry) => entry.item));
      for (const [index, entry] of batch.entries()) entry.resolve(results[index] as Result);
    } catch (error) {
      if (batch.length === 1) batch[0]?.reject(error);
      else await this.#oneByOne(batch);
    } finally {
      this.#inFlight--;
      this.#schedule();
    }
  }

  async #oneByOne(batch: readonly Entry<Item, Result>[]): Promise<void> {
    for (const entry of batch) {
      try {
        const [result] = await this.#flush([entry.item]);
        entry.resolve(result as Result);
      } catch (error) {
        entry.reject(error);
      }
    }
  }
}
