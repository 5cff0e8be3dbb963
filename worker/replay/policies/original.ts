import type { PolicyMaker } from '../policy.ts';

const cooldownMs = 300_000;
const stepUp = 3;
const stepDown = 2;

/**
 * The scaler this one replaces: the last utilisation stands for the next, up when it is above the target, down when it
 * is more than 20 % below, in proportion, at most 3 up and 2 down at once, 300 s apart.
 */
export const original: PolicyMaker = ({ target }) => {
  let lastMs = Number.NEGATIVE_INFINITY;
  return {
    decide({ atMs, utilisation, ready, total }) {
      if (utilisation === null || atMs - lastMs < cooldownMs) return total;
      const needed = Math.ceil((ready * utilisation) / target - 1e-9);
      const wanted = Math.max(total - stepDown, Math.min(total + stepUp, Math.max(needed, 1)));
      if (wanted !== total) lastMs = atMs;
      return wanted;
    },
  };
};
