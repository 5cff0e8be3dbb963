/**
 * The cheapest plan that never exceeds the limit, with full foresight. Levels are independent: the n-th instance has to
 * serve whenever n are needed, and over a gap of g steps it is either kept (g steps paid) or let go and launched anew
 * (`delaySteps` paid while it starts), whichever is less.
 * @returns the instances paid in each step, so that any stretch of it can be summed.
 */
export function oraclePlan(
  demand: Float64Array,
  options: {
    readonly limit: number;
    readonly delaySteps: number;
    readonly minInstances: number;
    readonly maxInstances: number;
  },
): Float64Array {
  const { limit, delaySteps, minInstances, maxInstances } = options;
  const needs = Int32Array.from(demand, (value) =>
    Math.min(maxInstances, Math.max(minInstances, Math.ceil(value / limit - 1e-9))),
  );
  const paid = new Float64Array(needs.length).fill(0);
  // For each level, the step it was last needed in.
  const lastNeeded = new Int32Array(needs.reduce((most, need) => Math.max(most, need), 0) + 1).fill(-1);
  for (let step = 0; step < needs.length; step++) {
    const need = needs[step] as number;
    paid[step] = (paid[step] as number) + need;
    for (let level = 1; level <= need; level++) {
      const last = lastNeeded[level] as number;
      lastNeeded[level] = step;
      if (last < 0) continue;
      // The steps paid before it is needed again: of a short gap all, of a long one the launch.
      const from = Math.max(last + 1, step - delaySteps);
      for (let gap = from; gap < step; gap++) paid[gap] = (paid[gap] as number) + 1;
    }
  }
  return paid;
}
