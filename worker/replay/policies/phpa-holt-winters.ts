import type { PolicyMaker } from '../policy.ts';
import { recommend, stabilizeDown } from './hpa.ts';

/** The example in the project's documentation: alpha, beta, gamma. */
export const exampleRates = { level: 0.9, trend: 0.9, season: 0.9, damping: 1 };
/** Chosen on recorded workloads; shipped by nobody. */
export const tunedRates = { level: 0.4, trend: 0.01, season: 0.2, damping: 0.98 };

const dayMs = 86_400_000;

/**
 * The predictive-horizontal-pod-autoscaler (jthomperoo, "Holt-Winters Time Series model" in its user guide): additive
 * Holt-Winters over the replica counts that the HPA's algorithm asked for, a season of one day; the larger of the
 * forecast for the horizon and the present count is taken (decision type `maximum`), and
 * scaling in is stabilized for 300 s.
 */
export const phpaHoltWinters =
  (rates: typeof exampleRates): PolicyMaker =>
  (options) => {
    const calm = stabilizeDown();
    const slots = Math.max(2, Math.round(dayMs / options.stepMs));
    const horizon = Math.round(options.delayMs / options.stepMs) + 1;
    const season = new Float64Array(slots);
    let level = 0;
    let trend = 0;
    let seen = 0;
    return {
      decide({ atMs, utilisation, ready, total }) {
        if (utilisation === null) return total;
        const value = recommend(utilisation, ready, total, options.target);
        const slot = seen % slots;
        if (seen < slots) {
          season[slot] = value;
          level += (value - level) / (seen + 1);
          if (seen === slots - 1)
            for (let index = 0; index < slots; index++) season[index] = (season[index] as number) - level;
        } else {
          const before = level;
          const old = season[slot] as number;
          level = rates.level * (value - old) + (1 - rates.level) * (before + rates.damping * trend);
          trend = rates.trend * (level - before) + (1 - rates.trend) * rates.damping * trend;
          season[slot] = rates.season * (value - level) + (1 - rates.season) * old;
        }
        seen++;
        if (seen <= slots) return calm(atMs, value, total);
        let reach = 0;
        for (let step = 1; step <= horizon; step++) reach += rates.damping ** step;
        const ahead = level + reach * trend + (season[(seen - 1 + horizon) % slots] as number);
        return calm(atMs, Math.max(value, Math.ceil(Math.min(ahead, 1e6) - 1e-9)), total);
      },
    };
  };
