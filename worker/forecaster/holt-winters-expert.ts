import type { Expert, Moment } from './expert.ts';
import { doubles, floats, type StateArray } from './state.ts';

const levelRate = 0.4;
const trendRate = 0.01;
const seasonRate = 0.2;
const damping = 0.98;

/**
 * Additive Holt-Winters with a damped trend and a season of one day (Gardner 1985; Hyndman and Athanasopoulos, FPP3,
 * 8.4).
 */
export class HoltWintersExpert implements Expert {
  readonly name = 'holt_winters';
  /** phi + phi^2 + ... + phi^h: how far the trend carries to the horizon. */
  readonly #reach: number;
  readonly #season: Float32Array;
  /** Level, trend, steps seen, mean of the first day. */
  readonly #numbers = doubles(4);

  constructor(horizonSteps: number, slotsPerDay: number) {
    this.#reach = (damping * (1 - damping ** horizonSteps)) / (1 - damping);
    this.#season = floats(slotsPerDay);
  }

  forecast({ demand, slot, slotAhead }: Moment): number {
    const numbers = this.#numbers;
    const seen = (numbers[2] as number) + 1;
    numbers[2] = seen;
    const day = this.#season.length;
    if (seen <= day) {
      // The first day only fills the season, as differences from that day's mean.
      this.#season[slot] = demand;
      numbers[3] = (numbers[3] as number) + (demand - (numbers[3] as number)) / seen;
      const level = numbers[0] as number;
      numbers[0] = seen === 1 ? demand : level + levelRate * (demand - level);
      if (seen === day) this.#startSeason(slot);
      return seen === day ? this.#ahead(slotAhead) : (numbers[0] as number);
    }
    const season = this.#season[slot] as number;
    const before = numbers[0] as number;
    const trend = damping * (numbers[1] as number);
    const level = levelRate * (demand - season) + (1 - levelRate) * (before + trend);
    numbers[0] = level;
    numbers[1] = trendRate * (level - before) + (1 - trendRate) * trend;
    this.#season[slot] = seasonRate * (demand - level) + (1 - seasonRate) * season;
    return this.#ahead(slotAhead);
  }

  #startSeason(slot: number): void {
    const mean = this.#numbers[3] as number;
    for (let index = 0; index < this.#season.length; index++) {
      this.#season[index] = (this.#season[index] as number) - mean;
    }
    this.#numbers[0] = (this.#numbers[0] as number) - (this.#season[slot] as number);
  }

  #ahead(slotAhead: number): number {
    const level = this.#numbers[0] as number;
    return Math.max(
      0,
      level + this.#reach * (this.#numbers[1] as number) + (this.#season[slotAhead] as number),
    );
  }

  state(): readonly StateArray[] {
    return [this.#season, this.#numbers];
  }
}
