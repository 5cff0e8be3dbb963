import type { PolicyMaker } from '../policy.ts';
import { recommend, stabilizeDown } from './hpa.ts';

/** As in the project's examples. */
const points = 6;

/**
 * The predictive-horizontal-pod-autoscaler's linear model (jthomperoo, "Linear Regression model" in its user guide): a
 * straight line through the last six replica counts, followed to the horizon; the larger of it and the HPA's count is
 * taken (decision type `maximum`), and scaling in is stabilized for 300 s.
 */
export const phpaLinear: PolicyMaker = (options) => {
  const calm = stabilizeDown();
  const horizon = Math.round(options.delayMs / options.stepMs) + 1;
  const recent: number[] = [];
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null) return total;
      const wanted = recommend(utilisation, ready, total, options.target);
      recent.push(wanted);
      if (recent.length > points) recent.shift();
      const ahead = Math.ceil(lineAt(recent, recent.length - 1 + horizon) - 1e-9);
      return calm(atMs, Math.max(wanted, ahead), total);
    },
  };
};

/** Least squares through (0, y0), (1, y1), …, at x. */
export function lineAt(values: readonly number[], x: number): number {
  const n = values.length;
  const meanX = (n - 1) / 2;
  const meanY = values.reduce((sum, value) => sum + value, 0) / n;
  let above = 0;
  let below = 0;
  for (const [index, value] of values.entries()) {
    above += (index - meanX) * (value - meanY);
    below += (index - meanX) ** 2;
  }
  return below === 0 ? meanY : meanY + (above / below) * (x - meanX);
}
