interface Bucket {
  tokens: number;
  filledAt: number;
}

/**
 * A token bucket a name: `burst` tokens, refilled at `perSecond`. All buckets are dropped (and so begin full again)
 * when there are more than `maxNames`, to bound memory.
 */
export class TokenBuckets {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #maxNames: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: {
    readonly burst: number;
    readonly perSecond: number;
    readonly maxNames: number;
  }) {
    this.#burst = options.burst;
    this.#perSecond = options.perSecond;
    this.#maxNames = options.maxNames;
  }

  /** Takes a token. @param nowMs a monotonic clock. @returns false when the bucket is empty. */
  take(name: string, nowMs: number): boolean {
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#maxNames) this.#buckets.clear();
      bucket = { tokens: this.#burst, filledAt: nowMs };
      this.#buckets.set(name, bucket);
    }
    const refill = ((nowMs - bucket.filledAt) / 1_000) * this.#perSecond;
    bucket.tokens = Math.min(this.#burst, bucket.tokens + refill);
    bucket.filledAt = nowMs;
    if (bucket.tokens < 1) return false;
    bucket.tokens--;
    return true;
  }
}
