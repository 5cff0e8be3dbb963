const ratio = 1.02;
const logRatio = Math.log(ratio);

/** Latencies in buckets 2 % wide, so that hours of them take no memory. Milliseconds. */
export class Histogram {
  readonly #counts = new Map<number, number>();
  #total = 0;

  static from(buckets: readonly (readonly [number, number])[]): Histogram {
    const histogram = new Histogram();
    for (const [bucket, count] of buckets) histogram.#put(bucket, count);
    return histogram;
  }

  add(ms: number): void {
    this.#put(Math.ceil(Math.log(Math.max(0.01, ms)) / logRatio), 1);
  }

  merge(other: Histogram): void {
    for (const [bucket, count] of other.#counts) this.#put(bucket, count);
  }

  get total(): number {
    return this.#total;
  }

  /** The upper edge of the bucket that holds the quantile; null when nothing was added. */
  quantile(share: number): number | null {
    let left = Math.max(1, Math.ceil(share * this.#total));
    for (const [bucket, count] of [...this.#counts].sort(([a], [b]) => a - b)) {
      left -= count;
      if (left <= 0) return ratio ** bucket;
    }
    return null;
  }

  /** As it travels between processes. */
  buckets(): [number, number][] {
    return [...this.#counts];
  }

  #put(bucket: number, count: number): void {
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + count);
    this.#total += count;
  }
}
