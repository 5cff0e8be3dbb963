import { doubles, type StateArray, type Stateful } from './state.ts';

/** Breaches of the last week count; before a week is full, the stated risk stands in for one day. */
const windowMs = 7 * 86_400_000;
const priorMs = 86_400_000;

/** Less than what is stated is aimed at: of one week's breaches, half of all services would else have more. */
const aim = 0.85;

/** However few breaches there were, a bound is exceeded at most so many times as often as stated; and the other way. */
const most = 2;
const least = 0.25;

/**
 * Keeps the breaches that really happen at the risk that the operator stated. Whole instances, waiting before scaling
 * in and the floor under a forecast all make for fewer breaches than the bound allows; a burst makes for more. So the
 * risk that the bound is asked for is moved against the share of steps that were really above the limit (proportional
 * feedback; adaptive conformal inference, Gibbs and Candès 2021, moves the level by the same difference).
 */
export class RiskBudget implements Stateful {
  readonly #windowSteps: number;
  /** Share of steps in breach, steps counted. */
  readonly #numbers: Float64Array;
  readonly #priorSteps: number;

  constructor(stepMs: number) {
    this.#windowSteps = windowMs / stepMs;
    this.#priorSteps = priorMs / stepMs;
    this.#numbers = doubles(2);
  }

  add(breached: boolean): void {
    const numbers = this.#numbers;
    const count = Math.min((numbers[1] as number) + 1, this.#windowSteps);
    numbers[1] = count;
    const share = numbers[0] as number;
    numbers[0] = share + ((breached ? 1 : 0) - share) / count;
  }

  /** Share of the last week's steps in breach. */
  get breached(): number {
    return this.#numbers[0] as number;
  }

  /** The risk to plan the next step with, where this much is tolerated. */
  riskFor(tolerated: number): number {
    const count = this.#numbers[1] as number;
    const prior = Math.min(this.#priorSteps, this.#windowSteps - count);
    const share = ((this.#numbers[0] as number) * count + aim * tolerated * prior) / (count + prior);
    return tolerated * Math.min(most, Math.max(least, 2 - share / (aim * tolerated)));
  }

  state(): readonly StateArray[] {
    return [this.#numbers];
  }
}
