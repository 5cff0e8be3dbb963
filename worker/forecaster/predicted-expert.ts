import type { Expert, Moment } from './expert.ts';
import type { StateArray } from './state.ts';

/** What another service wrote into `predictions`, as demand: it earns its weight like any other. */
export class PredictedExpert implements Expert {
  readonly name = 'prediction';

  forecast({ predicted }: Moment): number {
    return predicted;
  }

  state(): readonly StateArray[] {
    return [];
  }
}
