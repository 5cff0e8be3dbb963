export interface RateLimit {
  readonly perSecond: number;
  readonly burst: number;
}

/** Token buckets by region, in real time. `'*'` is one bucket that all actions of the region share, as in AWS. */
export interface RateLimits {
  /** Takes one token from every bucket that applies; false when one of them is empty. */
  admits(region: string, action: string): boolean;
}

/** Token buckets by region and action, in real time; `*` is shared by all actions of a region. */
export function createRateLimits(limits: Readonly<Record<string, RateLimit>>): RateLimits {
  const buckets = new Map<string, { tokens: number; filledAt: number }>();

  function take(name: string, limit: RateLimit): boolean {
    const now = performance.now();
    const bucket = buckets.get(name) ?? { tokens: limit.burst, filledAt: now };
    const earned = ((now - bucket.filledAt) / 1000) * limit.perSecond;
    const tokens = Math.min(limit.burst, bucket.tokens + earned);
    const isAdmitted = tokens >= 1;
    buckets.set(name, { tokens: isAdmitted ? tokens - 1 : tokens, filledAt: now });
    return isAdmitted;
  }

  return {
    admits(region, action) {
      return ['*', action].every((name) => {
        const limit = limits[name];
        return limit === undefined || take(`${region}/${name}`, limit);
      });
    },
  };
}
