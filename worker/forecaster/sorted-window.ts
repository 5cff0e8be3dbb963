import { doubles, floats, type StateArray, type Stateful } from './state.ts';

/**
 * The last `capacity` values, sorted: a rank is a binary search, a quantile is one read. One insertion moves at most
 * the values between the one that leaves and the one that comes. Quantiles that are asked for at every step are kept
 * beside each other: read where they lie in the window, each would be a cache line of its own.
 */
export class SortedWindow implements Stateful {
  readonly #arrivals: Float32Array;
  readonly #sorted: Float32Array;
  /** How many are in, and where the next arrival goes. */
  readonly #cursor = doubles(2);
  readonly #shares: readonly number[];
  readonly #quantiles: Float32Array;

  /** @param shares for which the quantiles are kept at hand. */
  constructor(capacity: number, shares: readonly number[] = []) {
    this.#arrivals = floats(capacity);
    this.#sorted = floats(capacity);
    this.#shares = shares;
    this.#quantiles = floats(shares.length);
  }

  get size(): number {
    return this.#cursor[0] as number;
  }

  add(value: number): void {
    const rounded = Math.fround(value);
    const capacity = this.#arrivals.length;
    const size = this.size;
    const at = this.#cursor[1] as number;
    // Where a hole is: the place of the value that leaves, or the end.
    const hole = size === capacity ? this.countBelow(this.#arrivals[at] as number) : size;
    const place = this.countBelow(rounded);
    if (place > hole) {
      this.#sorted.copyWithin(hole, hole + 1, place);
      this.#sorted[place - 1] = rounded;
    } else {
      this.#sorted.copyWithin(place + 1, place, hole);
      this.#sorted[place] = rounded;
    }
    this.#arrivals[at] = rounded;
    this.#cursor[1] = at + 1 === capacity ? 0 : at + 1;
    if (size < capacity) {
      this.#cursor[0] = size + 1;
      this.#keepQuantiles(0, size);
    } else this.#keepQuantiles(Math.min(hole, place), Math.max(hole, place));
  }

  /** Reads the quantiles that lie between two places anew: no other value has moved. */
  #keepQuantiles(from: number, to: number): void {
    const shares = this.#shares;
    for (let index = 0; index < shares.length; index++) {
      const at = this.#placeOf(shares[index] as number);
      if (at >= from && at <= to) this.#quantiles[index] = this.#sorted[at] as number;
    }
  }

  #placeOf(share: number): number {
    const rank = Math.ceil(share * (this.size + 1));
    return Math.min(Math.max(rank, 1), this.size) - 1;
  }

  /** The smallest value that at least `share` of the values and one more to come are expected not to exceed. */
  quantile(share: number): number {
    return this.#sorted[this.#placeOf(share)] as number;
  }

  /** The quantile of `shares[index]`. */
  quantileAt(index: number): number {
    return this.#quantiles[index] as number;
  }

  countBelow(value: number): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as number) < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Forgets all but so many of the newest. Seldom: not made to be fast. */
  keepNewest(count: number): void {
    const capacity = this.#arrivals.length;
    const kept: number[] = [];
    for (let ago = Math.min(count, this.size); ago >= 1; ago--) {
      kept.push(this.#arrivals[((this.#cursor[1] as number) - ago + capacity) % capacity] as number);
    }
    this.clear();
    for (const value of kept) this.add(value);
  }

  clear(): void {
    this.#cursor.fill(0);
  }

  state(): readonly StateArray[] {
    return [this.#arrivals, this.#sorted, this.#quantiles, this.#cursor];
  }
}
