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
  const recent: { atMs: number; wanted: number }[] = [];
  const periods = Math.max(1, Math.floor(stepMs / 15_000));
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null) return total;
      const ratio = (utilisation * ready) / target / Math.max(total, 1);
      // Pods that are not ready yet count as using nothing when that would scale out (kubernetes.io, "Algorithm details").
      const wanted = Math.abs(ratio - 1) <= tolerance ? total : Math.ceil((utilisation * ready) / target - 1e-9);
      recent.push({ atMs, wanted });
      while (recent[0] !== undefined && recent[0].atMs < atMs - downWindowMs) recent.shift();
      if (wanted > total) return Math.min(wanted, mostAfter(total, periods));
      return Math.min(total, Math.max(...recent.map((each) => each.wanted)));
    },
  };
};

function mostAfter(total: number, periods: number): number {
  let most = total;
  for (let period = 0; period < periods && most < 1_000_000; period++) most = Math.max(most + 4, most * 2);
  return most;
}
