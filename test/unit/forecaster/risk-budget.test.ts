import { describe, expect, it } from 'vitest';
import { RiskBudget } from '../../../worker/forecaster/risk-budget.ts';

const stepMs = 300_000;
const [day, week] = [288, 2_016];

function budgetAfter(steps: number, breached: (step: number) => boolean = () => false): RiskBudget {
  const budget = new RiskBudget(stepMs);
  for (let step = 0; step < steps; step++) budget.add(breached(step));
  return budget;
}

describe('RiskBudget', () => {
  it('begins with the risk that is tolerated', () => {
    expect(budgetAfter(0).riskFor(0.02)).toBeCloseTo(0.02, 15);
    expect(budgetAfter(0).breached).toBe(0);
  });

  it('allows more while there are no breaches, up to twice as much after a week', () => {
    // The stated risk stands in for one day: its share is 1/2 after a day, 1/7 after six, 0 after seven.
    expect(budgetAfter(day).riskFor(0.02)).toBeCloseTo(0.03, 12);
    expect(budgetAfter(week - day).riskFor(0.02)).toBeCloseTo(0.02 * (2 - 1 / 7), 12);
    expect(budgetAfter(week).riskFor(0.02)).toBeCloseTo(0.04, 12);
    expect(budgetAfter(5 * week).riskFor(0.02)).toBeCloseTo(0.04, 12);
  });

  it('allows less after breaches, down to a quarter', () => {
    // Eight breaches in a day: (8 + 0.017 × 288) / 576 of the steps, where 0.017 is aimed at of 0.02.
    const share = (8 + 0.017 * day) / (2 * day);
    expect(budgetAfter(day, (step) => step < 8).riskFor(0.02)).toBeCloseTo(0.02 * (2 - share / 0.017), 12);
    expect(budgetAfter(day, (step) => step < 60).riskFor(0.02)).toBeCloseTo(0.005, 15);
    expect(budgetAfter(day, () => true).riskFor(0.02)).toBeCloseTo(0.005, 15);
  });

  it('leaves the risk as it is where breaches are as many as are aimed at: somewhat fewer than tolerated', () => {
    // 34 of 2,016 are 0.01687, and 0.017 is 85 % of 0.02.
    const many = budgetAfter(week, (step) => step % 59 === 58);
    expect(many.riskFor(0.02)).toBeCloseTo(0.02 * (2 - 34 / week / 0.017), 12);
    expect(Math.abs(many.riskFor(0.02) - 0.02)).toBeLessThan(2e-4);
  });

  it('forgets in about a week', () => {
    const budget = budgetAfter(week, (step) => step % 10 === 0);
    expect(budget.breached).toBeCloseTo(0.1, 3);
    for (let step = 0; step < 3 * week; step++) budget.add(false);
    // An exponential mean once the week is full: e^-3 of it is left.
    expect(budget.breached).toBeCloseTo(0.1 * Math.exp(-3), 3);
  });
});
