interface Bucket {
  tokens: number;
  filledAt: number;
}

/** Allows each name `burst` at once and `perSecond` lasting. Forgets all when too many names come: then they begin full. */
export class TokenBuckets {
  readonly #burst: number;
  readonly #perSecond: number;
  readonly #mostNames: number;
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: {
    readonly burst: number;
    readonly perSecond: number;
    readonly mostNames: number;
  }) {
    this.#burst = options.burst;
    this.#perSecond = options.perSecond;
    this.#mostNames = options.mostNames;
  }

  /** @param nowMs any clock that only goes forward. */
  take(name: string, nowMs: number): boolean {
    let bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      if (this.#buckets.size >= this.#mostNames) this.#buckets.clear();
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
