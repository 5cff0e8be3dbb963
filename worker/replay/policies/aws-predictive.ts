import type { PolicyMaker } from '../policy.ts';
import { targetTracking } from './target-tracking.ts';

const hourMs = 3_600_000;
const hoursPerDay = 24;
const hoursPerWeek = 168;
const historyDays = 14;
/** Instances are launched this long before the hour they are forecast for. */
const launchAheadMs = 300_000;

/**
 * AWS predictive scaling beside target tracking ("Predictive scaling for Amazon EC2 Auto Scaling", user guide): hourly
 * forecasts of the load from at least one and up to 14 days of history, capacity = load / target for the hour ahead,
 * launched 300 s early; the larger of both policies holds. Its forecasting model is not published: here an hour is the
 * mean of the same hour of day over the last days, moved to the same hour a week ago once there is one.
 */
export const awsPredictive: PolicyMaker = (options) => {
  const tracking = targetTracking(options);
  const hours = new Map<number, { sum: number; count: number; most: number }>();
  return {
    decide(observed) {
      const { atMs, utilisation, ready, total } = observed;
      const hour = Math.floor(atMs / hourMs);
      if (utilisation !== null) {
        const entry = hours.get(hour) ?? { sum: 0, count: 0, most: 0 };
        const load = utilisation * ready;
        hours.set(hour, {
          sum: entry.sum + load,
          count: entry.count + 1,
          most: Math.max(entry.most, load),
        });
        hours.delete(hour - historyDays * hoursPerDay - 1);
      }
      const reactive = tracking.decide(observed);
      const nextHour = Math.floor((atMs + options.stepMs + options.delayMs + launchAheadMs) / hourMs);
      const expected = Math.max(forecastHour(hours, hour, hour), forecastHour(hours, hour, nextHour));
      const planned = Math.ceil(expected / options.target - 1e-9);
      // Predictive scaling alone never scales in: it is a floor under the other policy.
      return Math.max(reactive < total ? reactive : Math.max(reactive, 1), planned);
    },
  };
};

/** The load expected in an hour, from hours that are complete; 0 while there is less than a day. */
function forecastHour(
  hours: ReadonlyMap<number, { sum: number; count: number }>,
  now: number,
  hour: number,
): number {
  const means: number[] = [];
  for (let day = 1; day <= historyDays; day++) {
    const past = hour - day * hoursPerDay;
    const entry = past < now ? hours.get(past) : undefined;
    if (entry !== undefined) means.push(entry.sum / entry.count);
  }
  if (means.length === 0) return 0;
  const mean = means.reduce((sum, value) => sum + value, 0) / means.length;
  const weekAgo = hours.get(hour - hoursPerWeek);
  return weekAgo === undefined ? mean : (mean + weekAgo.sum / weekAgo.count) / 2;
}
