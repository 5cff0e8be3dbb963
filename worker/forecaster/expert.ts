import type { Stateful } from './state.ts';

/** What every expert may know of the step that has just ended. Demand is in instances' worth of work. */
export interface Moment {
  demand: number;
  /** Index of the step within its day. */
  slot: number;
  slotAhead: number;
  /** False until one whole day has been seen; the profile fields are 0 then. */
  knowsDay: boolean;
  /** The day profile at this step and at the horizon. */
  profileNow: number;
  profileAhead: number;
  /** How much the week profile changes from now to the horizon; 0 until a whole week has been seen. */
  weekChange: number;
  /** How much demand changed over the same stretch a day ago; 0 until then. */
  yesterdayChange: number;
  /** The same over the last few periods of what comes again within a day; 0 where nothing does. */
  recurringChange: number;
  /** What another service predicts for the horizon; NaN when nothing. */
  predicted: number;
}

/** One way to forecast. Add one to the list in ensemble.ts and it is weighted by its record like the others. */
export interface Expert extends Stateful {
  readonly name: string;
  /** Takes the step in and names the demand expected at the horizon; NaN when it has no forecast. */
  forecast(moment: Moment): number;
}
