import type { PolicyMaker } from '../policy.ts';

const tolerance = 0.1;
const downWindowMs = 300_000;

/**
 * Kubernetes' HorizontalPodAutoscaler v2 with its documented defaults ("Horizontal Pod Autoscaling", kubernetes.io:
 * "Algorithm details" and "Default Behavior"): desired = ceil(current × utilisation / target), no change within 10 %,
 * scale-in to the highest recommendation of 300 s, scale-out by at most the larger of 4 pods and 100 % per 15 s. It
 * decides once a step here, so the scale-out policy of the step's 15-second periods compounds.
 */
export const hpa: PolicyMaker = ({ stepMs, target }) => {
  const calm = stabilizeDown();
  const periods = Math.max(1, Math.floor(stepMs / 15_000));
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null) return total;
      const wanted = recommend(utilisation, ready, total, target);
      return Math.min(calm(atMs, wanted, total), mostAfter(total, periods));
    },
  };
};

/** Pods that are not ready yet count as using nothing where that would scale out ("Algorithm details"). */
export function recommend(utilisation: number, ready: number, total: number, target: number): number {
  const load = utilisation * ready;
  const ratio = load / target / Math.max(total, 1);
  return Math.abs(ratio - 1) <= tolerance ? total : Math.ceil(load / target - 1e-9);
}

/** Scaling in goes to the highest recommendation of the last 300 s. */
export function stabilizeDown(): (atMs: number, wanted: number, total: number) => number {
  const recent: { atMs: number; wanted: number }[] = [];
  return (atMs, wanted, total) => {
    recent.push({ atMs, wanted });
    while (recent[0] !== undefined && recent[0].atMs < atMs - downWindowMs) recent.shift();
    if (wanted >= total) return wanted;
    return Math.min(total, Math.max(...recent.map((each) => each.wanted)));
  };
}
function mostAfter(total: number, periods: number): number {
  let most = total;
  for (let period = 0; period < periods && most < 1_000_000; period++) most = Math.max(most + 4, most * 2);
  return most;
}
