import { BoundMix } from './bound-mix.ts';
import { Calibration, levels } from './calibration.ts';
import { Ensemble } from './ensemble.ts';
import type { Moment } from './expert.ts';
import { LevelDrop } from './level-drop.ts';
import { Recurrence } from './recurrence.ts';
import { RiskBudget } from './risk-budget.ts';
import { SlotProfile } from './slot-profile.ts';
import { doubles, floats, RunningMean, type StateArray, type Stateful } from './state.ts';
import { type Accuracy, TrackRecord } from './track-record.ts';
import type { BoundStep } from './upper-bound.ts';

const dayMs = 86_400_000;
/** One residual every five minutes for a week: tails need samples, and not of the same minute. */
const poolEveryMs = 300_000;
const poolDays = 7;
/** The seasonal envelope looks so many days back. */
const envelopeDays = 3;
/**
 * What comes again within a day is looked up so many periods back: the most of it for a bound, the mean change for an
 * expert.
 */
const envelopePeriods = 4;
const changePeriods = 3;

/**
 * The stated risk is a ceiling. Shares of it are tried too, and taken where the margin they need costs less than what
 * the breaches they avoid are worth. Who tolerates more of them holds each for less: one breached step is worth this
 * share of the service's mean load over the steps that may pass for one breach.
 */
const breachWorth = 0.075;
const riskShares = [1, 0.75, 0.5, 0.25] as const;

export interface ForecasterOptions {
  /** The step of the demand series; a day is a whole number of steps. */
  readonly stepMs: number;
  /** How many steps ahead a launch made now is ready. */
  readonly horizonSteps: number;
}

/** What happened in one step. */
export interface Observation {
  /** Instances' worth of work; null when nothing was measured: the last value stands in and teaches nothing. */
  readonly demand: number | null;
  /** Whether utilisation was above the limit; null when that is not known. */
  readonly breached: boolean | null;
  /** What another service predicts for the horizon; NaN when nothing. */
  readonly predicted: number;
}

/** Forecasts one demand series, a step at a time. Everything it knows is in typed arrays: see checkpoint.ts. */
export class DemandForecaster implements Stateful {
  readonly stepMs: number;
  readonly horizonSteps: number;
  readonly #slots: number;
  readonly #ensemble: Ensemble;
  readonly #day: SlotProfile;
  readonly #week: SlotProfile;
  readonly #bounds: BoundMix;
  readonly #recurrence: Recurrence;
  readonly #drop: LevelDrop;
  readonly #budget: RiskBudget;
  readonly #record: TrackRecord;
  readonly #calibration: Calibration;
  /** Demand of the last days, a ring buffer. */
  readonly #history: Float32Array;
  readonly #level = new RunningMean(0.01);
  readonly #slowLevel: RunningMean;
  /** Step, steps taken, observed ones, forecast, last demand, upper bound, risk it was made for. */
  readonly #numbers = doubles(7);
  readonly #poolEvery: number;
  readonly #envelopeRadius: number;
  readonly #moment: Moment;
  readonly #step: BoundStep;

  constructor({ stepMs, horizonSteps }: ForecasterOptions) {
    this.stepMs = stepMs;
    this.horizonSteps = horizonSteps;
    const slotsPerDay = Math.round(dayMs / stepMs);
    this.#slots = slotsPerDay;
    this.#ensemble = new Ensemble(horizonSteps, slotsPerDay);
    // Five minutes wide when steps are shorter.
    this.#day = new SlotProfile(slotsPerDay, Math.floor(poolEveryMs / stepMs / 2));
    this.#week = new SlotProfile(slotsPerDay * 7, 0);
    this.#poolEvery = Math.max(1, Math.round(poolEveryMs / stepMs));
    this.#envelopeRadius = this.#poolEvery;
    this.#history = floats(envelopeDays * slotsPerDay + this.#envelopeRadius + 1);
    this.#slowLevel = new RunningMean(1 / slotsPerDay);
    this.#recurrence = new Recurrence(stepMs, horizonSteps);
    this.#drop = new LevelDrop(stepMs);
    this.#budget = new RiskBudget(stepMs);
    this.#record = new TrackRecord(horizonSteps, slotsPerDay);
    const options = {
      horizonSteps,
      slotsPerDay,
      poolSize: Math.round((poolDays * dayMs) / (this.#poolEvery * stepMs)),
      slotRadius: Math.round((stepMs >= poolEveryMs ? 1_200_000 : 480_000) / stepMs),
    };
    this.#calibration = new Calibration(horizonSteps, options.poolSize);
    this.#bounds = new BoundMix(options);
    this.#moment = {
      demand: 0,
      slot: 0,
      slotAhead: 0,
      knowsDay: false,
      profileNow: 0,
      profileAhead: 0,
      weekChange: 0,
      yesterdayChange: 0,
      recurringChange: 0,
      predicted: Number.NaN,
    };
    this.#step = {
      demand: 0,
      level: 0,
      slot: 0,
      slotAhead: 0,
      observed: true,
      disagreement: 0,
      pooled: true,
      risk: 0,
    };
  }

  /**
   * Takes in one step.
   * @param step index of the step since the epoch, floor(atMs / stepMs). Steps must follow one another.
   * @param toleratedRisk the share of steps that may be above the limit.
   */
  update(step: number, { demand, breached, predicted }: Observation, toleratedRisk: number): void {
    const numbers = this.#numbers;
    const observed = demand !== null;
    const value = demand ?? (numbers[4] as number);
    numbers[0] = step;
    numbers[1] = (numbers[1] as number) + 1;
    if (observed) numbers[2] = (numbers[2] as number) + 1;
    numbers[4] = value;
    const slot = step % this.#slots;
    const slotAhead = (step + this.horizonSteps) % this.#slots;
    // Before today's value takes its place.
    const yesterday = (numbers[1] as number) > this.#slots ? this.#past(this.#slots) : Number.NaN;
    if (observed && this.#day.periods >= 1) this.#noticeDrop(step, slot, value);
    this.#learnSeason(step, slot, value);
    this.#describe(step, slot, slotAhead, value, predicted);
    if (breached !== null) this.#budget.add(breached);
    const risk = this.#budget.riskFor(toleratedRisk);
    const forecast = this.#ensemble.forecast(this.#moment, observed);
    numbers[3] = forecast;
    this.#updateBounds(step, slot, slotAhead, observed, risk, forecast);
    this.#plan(risk, toleratedRisk);
    this.#calibration.update(value, observed && this.#step.pooled, this.#bounds.quantileAt);
    this.#record.add(value, yesterday, forecast, numbers[5] as number, numbers[6] as number, observed);
  }

  /** Asked before today's value takes its place in the profiles. */
  #noticeDrop(step: number, slot: number, value: number): void {
    const day = this.#day.at(slot);
    const usual = this.#week.periods >= 1 ? Math.min(day, this.#week.at(step % (this.#slots * 7))) : day;
    if (!this.#drop.add(value, usual)) return;
    this.#bounds.forget(Math.ceil(this.#drop.steps / this.#poolEvery));
    let most = value;
    for (let ago = 1; ago < this.#drop.steps; ago++) most = Math.max(most, this.#past(ago));
    // The envelopes are of what there has been since.
    for (let at = 0; at < this.#history.length; at++) {
      this.#history[at] = Math.min(this.#history[at] as number, most);
    }
  }

  #learnSeason(step: number, slot: number, value: number): void {
    this.#history[step % this.#history.length] = value;
    this.#level.add(value);
    this.#slowLevel.add(value);
    this.#day.learn(slot, value);
    this.#week.learn(step % (this.#slots * 7), value);
    this.#recurrence.add(step, this.#hasSeen(this.horizonSteps) ? value - this.#past(this.horizonSteps) : 0);
  }

  #describe(step: number, slot: number, slotAhead: number, value: number, predicted: number): void {
    const moment = this.#moment;
    const week = this.#slots * 7;
    moment.demand = value;
    moment.slot = slot;
    moment.slotAhead = slotAhead;
    moment.predicted = predicted;
    moment.knowsDay = this.#day.periods >= 1;
    moment.profileNow = moment.knowsDay ? this.#day.at(slot) : 0;
    moment.profileAhead = moment.knowsDay ? this.#day.at(slotAhead) : 0;
    moment.weekChange =
      this.#week.periods >= 1
        ? this.#week.at((step + this.horizonSteps) % week) - this.#week.at(step % week)
        : 0;
    moment.yesterdayChange = this.#hasSeen(this.#slots) ? this.#changeAfter(this.#slots) : 0;
    moment.recurringChange = this.#recurringChange();
  }

  #recurringChange(): number {
    const { period } = this.#recurrence;
    if (period === 0) return 0;
    let sum = 0;
    let count = 0;
    for (; count < changePeriods && this.#hasSeen((count + 1) * period); count++) {
      sum += this.#changeAfter((count + 1) * period);
    }
    return count === 0 ? 0 : sum / count;
  }

  /** Whether there is a value of so many steps ago: of a whole day ago there is after a day and a step. */
  #hasSeen(steps: number): boolean {
    return (this.#numbers[1] as number) > steps;
  }

  /** How demand changed over a horizon that began so many steps ago. */
  #changeAfter(steps: number): number {
    return this.#past(steps - this.horizonSteps) - this.#past(steps);
  }

  /** Demand so many steps ago. */
  #past(steps: number): number {
    const length = this.#history.length;
    const at = ((this.#numbers[0] as number) - steps) % length;
    return this.#history[at < 0 ? at + length : at] as number;
  }

  #updateBounds(
    step: number,
    slot: number,
    slotAhead: number,
    observed: boolean,
    risk: number,
    forecast: number,
  ): void {
    const common = this.#step;
    common.demand = this.#moment.demand;
    common.level = this.#level.value;
    common.slot = slot;
    common.slotAhead = slotAhead;
    common.observed = observed;
    common.disagreement = this.#ensemble.disagreement;
    common.pooled = step % this.#poolEvery === 0;
    common.risk = risk;
    this.#bounds.update(common, {
      ensemble: forecast,
      recurring: Math.max(forecast, this.#recurringEnvelope()),
      holtWinters: this.#ensemble.forecasts[this.#ensemble.holtWinters] as number,
      days: this.#dayEnvelope(forecast),
    });
  }

  /**
   * The most that was seen around the horizon's time of day over the last days, and no less than is forecast: what has
   * begun already is known. The last value on day one.
   */
  #dayEnvelope(forecast: number): number {
    const most = this.#mostAround(this.#slots, envelopeDays, this.#envelopeRadius);
    return most < 0 ? this.#moment.demand : Math.max(most, forecast);
  }

  /** The most that was seen at the horizon's place in the last periods of what comes again within a day; else -1. */
  #recurringEnvelope(): number {
    const { period } = this.#recurrence;
    if (period === 0) return -1;
    return this.#mostAround(period, envelopePeriods, Math.min(this.#envelopeRadius, Math.floor(period / 6)));
  }

  /** The most within `radius` steps of the horizon's place in so many periods back; -1 where none was seen. */
  #mostAround(period: number, periods: number, radius: number): number {
    let most = -1;
    for (let count = 1; count <= periods; count++) {
      const centre = count * period - this.horizonSteps;
      if (!this.#hasSeen(centre + radius)) break;
      for (let offset = -radius; offset <= radius; offset++) {
        const past = this.#past(Math.max(0, centre + offset));
        if (past > most) most = past;
      }
    }
    return most;
  }

  /** Picks the share of the risk that is worth its margin. */
  #plan(risk: number, toleratedRisk: number): void {
    const numbers = this.#numbers;
    const meanLoad = Math.max(this.#slowLevel.value, 0.3);
    let least = Number.POSITIVE_INFINITY;
    for (const share of riskShares) {
      const tried = risk * share;
      const upper = this.upper(1 - tried);
      const cost = upper / meanLoad + (breachWorth / toleratedRisk) * tried;
      if (cost >= least) continue;
      least = cost;
      numbers[5] = upper;
      numbers[6] = tried;
    }
  }

  /** Demand at the horizon that is not exceeded with this probability. */
  upper(probability: number): number {
    return this.#bounds.upper(probability);
  }

  /** The step taken in last; 0 before the first. */
  get step(): number {
    return this.#numbers[0] as number;
  }

  get observedSteps(): number {
    return this.#numbers[2] as number;
  }

  get lastDemand(): number {
    return this.#numbers[4] as number;
  }

  /** Demand expected at the horizon. */
  get expected(): number {
    return this.#numbers[3] as number;
  }

  /** Demand to plan for, and the risk that it is exceeded. */
  get planned(): { readonly upper: number; readonly risk: number } {
    return { upper: this.#numbers[5] as number, risk: this.#numbers[6] as number };
  }

  /** The distribution of demand at the horizon: [probability of not more, demand], both ascending. */
  get distribution(): readonly (readonly [number, number])[] {
    const calibration = this.#calibration;
    const points: (readonly [number, number])[] = [[calibration.underLowest, calibration.newestAt(0)]];
    for (let index = 0; index < levels.length; index++) {
      points.push([calibration.calibratedAt(index), calibration.newestAt(index)]);
    }
    return points;
  }

  /** Residuals that the bounds rest on. */
  get residuals(): number {
    return this.#bounds.residuals;
  }

  get trusted(): boolean {
    return this.#record.trusted;
  }

  get accuracy(): Accuracy {
    return this.#record.accuracy;
  }

  /** Share of the last week's steps above the limit. */
  get breachedShare(): number {
    return this.#budget.breached;
  }

  /** Each expert's share of the forecast. */
  get weights(): Readonly<Record<string, number>> {
    const { experts, weights } = this.#ensemble;
    return Object.fromEntries(experts.map((expert, index) => [expert.name, weights[index] as number]));
  }

  /** Outcomes of predictions that another service wrote, and what they weigh. */
  get predictionOutcomes(): number {
    return this.#ensemble.predictionOutcomes;
  }

  get predictionWeight(): number {
    return this.#ensemble.weights[this.#ensemble.prediction] as number;
  }

  state(): readonly StateArray[] {
    return [
      ...this.#ensemble.state(),
      ...this.#day.state(),
      ...this.#week.state(),
      ...this.#bounds.state(),
      ...this.#recurrence.state(),
      ...this.#drop.state(),
      ...this.#budget.state(),
      ...this.#record.state(),
      ...this.#calibration.state(),
      this.#history,
      ...this.#level.state(),
      ...this.#slowLevel.state(),
      this.#numbers,
    ];
  }
}
