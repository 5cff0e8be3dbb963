import fc from 'fast-check';

/** Checks a law on `numRuns` random values. @throws with the smallest values that break it, and the seed. */
export function forAll<Values extends [unknown, ...unknown[]]>(
  numRuns: number,
  arbitraries: { readonly [Index in keyof Values]: fc.Arbitrary<Values[Index]> },
  check: (...values: Values) => void,
): void {
  const all = fc.tuple(...(arbitraries as unknown as fc.Arbitrary<unknown>[]));
  fc.assert(
    fc.property(all, (values) => check(...(values as Values))),
    { numRuns },
  );
}
