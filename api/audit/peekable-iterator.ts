/** An async iterator whose next item can be looked at before it is consumed. */
export class PeekableIterator<T> {
  readonly #source: AsyncIterator<T>;
  #item: T | null | undefined;

  constructor(source: AsyncGenerator<T>) {
    this.#source = source;
  }

  /** The present item; null at the end. */
  async peek(): Promise<T | null> {
    if (this.#item === undefined) {
      const { value, done } = await this.#source.next();
      this.#item = done === true ? null : value;
    }
    return this.#item;
  }

  /** Drops the present item. @returns the one after it; null at the end. */
  async next(): Promise<T | null> {
    await this.peek();
    if (this.#item !== null) this.#item = undefined;
    return await this.peek();
  }
}
