import type { PolicyMaker } from '../policy.ts';

const highMinutes = 3;
const lowMinutes = 15;
const warmupMs = 300_000;

/**
 * AWS target tracking, modelled after its public description ("Target tracking scaling policies", Amazon EC2 Auto
 * Scaling user guide): CloudWatch alarms of one-minute periods, 3 of 3 above the target scale out in proportion, 15 of
 * 15 below 90 % of the target scale in gradually; instances still warming up count as capacity on the way, and
 * nothing is taken away while they do. The service's own rounding is not published.
 */
export const targetTracking: PolicyMaker = ({ stepMs, target }) => {
  const minutes = Math.max(1, stepMs / 60_000);
  let high = 0;
  let low = 0;
  const loads: { atMs: number; load: number }[] = [];
  let warmUntilMs = Number.NEGATIVE_INFINITY;
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null) return total;
      high = utilisation > target ? high + minutes : 0;
      low = utilisation < 0.9 * target ? low + minutes : 0;
      const load = utilisation * ready;
      loads.push({ atMs, load });
      while (loads[0] !== undefined && loads[0].atMs < atMs - lowMinutes * 60_000) loads.shift();
      const needed = Math.ceil(load / target - 1e-9);
      if (high >= highMinutes && needed > total) {
        warmUntilMs = atMs + warmupMs;
        return needed;
      }
      if (low >= lowMinutes && needed < total && atMs >= warmUntilMs) {
        // What the alarm's quarter of an hour would have needed at most.
        const most = Math.max(...loads.map((each) => each.load));
        return Math.min(total, Math.ceil(most / target - 1e-9));
      }
      return total;
    },
  };
};
