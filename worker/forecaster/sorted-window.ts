import { doubles, floats, type StateArray, type Stateful } from './state.ts';

/**
 * Every so many values of the sorted ones are kept apart: a search reads those first, in two cache lines instead of
 * six.
 */
const stride = 64;

/**
 * The last `capacity` values, sorted: a rank is a binary search, a quantile is one read. One insertion moves at most
 * the values between the one that leaves and the one that comes. Quantiles that are asked for at every step are kept
 * beside each other: read where they lie in the window, each would be a cache line of its own.
 */
export class SortedWindow implements Stateful {
  readonly #capacity: number;
  readonly #shares: readonly number[];
  /** The values as they came, then sorted; the quantiles; every `stride`th sorted value. */
  readonly #values: Float32Array;
  readonly #signposts: number;
  /** How many are in, and where the next arrival goes; in an array that may be shared. */
  readonly #cursor: Float64Array;
  readonly #at: number;
  readonly #ownsCursor: boolean;

  /**
   * @param shares for which the quantiles are kept at hand.
   * @param cursor where its two numbers go, from `at` on: its owner lists them in its state.
   */
  constructor(capacity: number, shares: readonly number[] = [], cursor?: Float64Array, at = 0) {
    this.#capacity = capacity;
    this.#shares = shares;
    this.#signposts = 2 * capacity + shares.length;
    this.#values = floats(this.#signposts + Math.ceil(capacity / stride));
    this.#ownsCursor = cursor === undefined;
    this.#cursor = cursor ?? doubles(2);
    this.#at = at;
  }

  get size(): number {
    return this.#cursor[this.#at] as number;
  }

  add(value: number): void {
    const values = this.#values;
    const capacity = this.#capacity;
    const rounded = Math.fround(value);
    const size = this.size;
    const at = this.#cursor[this.#at + 1] as number;
    // Where a hole is: the place of the value that leaves, or the end.
    const hole = size === capacity ? this.countBelow(values[at] as number) : size;
    const place = this.countBelow(rounded);
    if (place > hole) {
      values.copyWithin(capacity + hole, capacity + hole + 1, capacity + place);
      values[capacity + place - 1] = rounded;
    } else {
      values.copyWithin(capacity + place + 1, capacity + place, capacity + hole);
      values[capacity + place] = rounded;
    }
    values[at] = rounded;
    this.#cursor[this.#at + 1] = at + 1 === capacity ? 0 : at + 1;
    if (size < capacity) {
      this.#cursor[this.#at] = size + 1;
      this.#keepQuantiles(0, size);
    } else this.#keepQuantiles(Math.min(hole, place), Math.max(hole, place));
    this.#setSignposts(Math.min(hole, place), Math.max(hole, place));
  }

  #setSignposts(from: number, to: number): void {
    const values = this.#values;
    for (let post = Math.ceil(from / stride); post * stride <= to && post * stride < this.size; post++) {
      values[this.#signposts + post] = values[this.#capacity + post * stride] as number;
    }
  }

  /** Reads the quantiles that lie between two places anew: no other value has moved. */
  #keepQuantiles(from: number, to: number): void {
    const shares = this.#shares;
    const values = this.#values;
    for (let index = 0; index < shares.length; index++) {
      const at = this.#placeOf(shares[index] as number);
      if (at >= from && at <= to) values[2 * this.#capacity + index] = values[this.#capacity + at] as number;
    }
  }

  #placeOf(share: number): number {
    const rank = Math.ceil(share * (this.size + 1));
    return Math.min(Math.max(rank, 1), this.size) - 1;
  }

  /** The smallest value that at least `share` of the values and one more to come are expected not to exceed. */
  quantile(share: number): number {
    return this.#values[this.#capacity + this.#placeOf(share)] as number;
  }

  /** The quantile of `shares[index]`. */
  quantileAt(index: number): number {
    return this.#values[2 * this.#capacity + index] as number;
  }

  countBelow(value: number): number {
    const values = this.#values;
    const capacity = this.#capacity;
    const size = this.size;
    const posts = Math.ceil(size / stride);
    let post = 0;
    while (post < posts && (values[this.#signposts + post] as number) < value) post++;
    // From the last signpost that is below, to the first that is not.
    let low = post === 0 ? 0 : (post - 1) * stride + 1;
    let high = Math.min(size, post * stride);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((values[capacity + middle] as number) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Forgets all but so many of the newest. Seldom: not made to be fast. */
  keepNewest(count: number): void {
    const kept: number[] = [];
    for (let ago = Math.min(count, this.size); ago >= 1; ago--) {
      const at = ((this.#cursor[this.#at + 1] as number) - ago + this.#capacity) % this.#capacity;
      kept.push(this.#values[at] as number);
    }
    this.clear();
    for (const value of kept) this.add(value);
  }

  clear(): void {
    this.#cursor.fill(0, this.#at, this.#at + 2);
  }

  state(): readonly StateArray[] {
    return this.#ownsCursor ? [this.#values, this.#cursor] : [this.#values];
  }
}
