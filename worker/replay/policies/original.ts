import type { PolicyMaker } from '../policy.ts';

const cooldownMs = 300_000;
const stepUp = 3;
const stepDown = 2;

/** Room above the last value, in share and in whole instances. */
const headroom = 1.1;
const spare = 1;

/**
 * The scaler this one replaces: the last demand stands for the next, with a tenth of headroom and one spare instance,
 * at the target; at most 3 up and 2 down at once, 300 s apart. Its source is not at hand: headroom and spare are the
 * reading that comes nearest to the breaches, spend and changes it is known to have had on public workloads.
 */
export const original: PolicyMaker = ({ target }) => {
  let lastMs = Number.NEGATIVE_INFINITY;
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null || atMs - lastMs < cooldownMs) return total;
      const needed = Math.ceil((headroom * ready * utilisation) / target - 1e-9) + spare;
      const wanted = Math.max(total - stepDown, Math.min(total + stepUp, needed));
      if (wanted !== total) lastMs = atMs;
      return wanted;
    },
  };
};
