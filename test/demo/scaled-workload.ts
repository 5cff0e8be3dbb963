import type { ServiceClient } from './service-client.ts';
import { ServiceRefusal } from './service-client.ts';
import type { TraceStep } from './trace.ts';

interface Decision {
  readonly id: string;
  readonly decision_type: 'scaleup' | 'scaledown' | 'noaction';
  readonly current_instances: number;
  readonly target_instances: number;
  readonly reason: string;
  readonly estimated_cost: number;
}

export interface StepReport {
  readonly at: string;
  readonly workload: string;
  readonly demand: number;
  readonly ready: number;
  readonly decision: Decision;
  readonly executed: 'yes' | 'no' | string;
  readonly decideMs: number;
  readonly executeMs: number | null;
}

export interface Totals {
  readonly name: string;
  steps: number;
  breaches: number;
  instanceSteps: number;
  cost: number;
  actions: number;
  jobs: number;
  readonly decideMs: number[];
  readonly executeMs: number[];
}

/** One cloud object under load: each step posts what a monitoring agent would see, asks for a decision and carries it out. */
export class ScaledWorkload {
  readonly totals: Totals;
  readonly #client: ServiceClient;
  readonly #resourceId: string;
  readonly #trace: readonly TraceStep[];
  readonly #running: () => { desired: number; ready: number };
  readonly #predicts: boolean;
  readonly #stepsPerDay: number;

  constructor(options: {
    readonly name: string;
    readonly client: ServiceClient;
    readonly resourceId: string;
    readonly trace: readonly TraceStep[];
    /** What the cloud runs now, as the cloud knows it. */
    readonly running: () => { desired: number; ready: number };
    /** Whether a platform service writes predictions for this workload (here: yesterday's value at the same time). */
    readonly predicts: boolean;
    readonly stepsPerDay: number;
  }) {
    this.totals = {
      name: options.name,
      steps: 0,
      breaches: 0,
      instanceSteps: 0,
      cost: 0,
      actions: 0,
      jobs: 0,
      decideMs: [],
      executeMs: [],
    };
    this.#client = options.client;
    this.#resourceId = options.resourceId;
    this.#trace = options.trace;
    this.#running = options.running;
    this.#predicts = options.predicts;
    this.#stepsPerDay = options.stepsPerDay;
  }

  /** @param stepHours how long a step lasts in the trace's own time, for instance-hours and cost. */
  async step(index: number, stepHours: number): Promise<StepReport> {
    const { timestamp, demand } = this.#trace[index] as TraceStep;
    const { desired, ready } = this.#running();
    const serving = Math.max(1, ready);
    const utilisation = demand / serving;
    await this.#client.call('POST', `/resources/${this.#resourceId}/metrics`, {
      timestamp: new Date().toISOString(),
      cpu: Math.min(100, round(utilisation * 100)),
      memory: Math.min(100, round(20 + utilisation * 40)),
      instances: serving,
    });
    if (this.#predicts) await this.#predict(index, serving);

    const decided = await this.#client.call<Decision>(
      'POST',
      '/scale/decide',
      { resource_id: this.#resourceId, use_prediction: this.#predicts },
      { prefer: 'wait=20' },
    );
    const decision = decided.body;
    this.totals.jobs++;
    this.totals.decideMs.push(decided.ms);
    let executed = 'no';
    let executeMs: number | null = null;
    if (decision.decision_type !== 'noaction') [executed, executeMs] = await this.#execute(decision.id);

    this.totals.steps++;
    if (utilisation > 0.9) this.totals.breaches++;
    this.totals.instanceSteps += desired * stepHours;
    this.totals.cost +=
      (decision.estimated_cost / Math.max(1, decision.target_instances)) * desired * stepHours;
    return {
      at: timestamp,
      workload: this.totals.name,
      demand,
      ready,
      decision,
      executed,
      decideMs: decided.ms,
      executeMs,
    };
  }

  async #execute(decisionId: string): Promise<[string, number]> {
    const startedAt = performance.now();
    this.totals.jobs++;
    try {
      const { ms } = await this.#client.call(
        'POST',
        '/scale/execute',
        { decision_id: decisionId },
        { prefer: 'wait=20' },
      );
      this.totals.executeMs.push(ms);
      this.totals.actions++;
      return ['yes', ms];
    } catch (error) {
      if (!(error instanceof ServiceRefusal) || error.status >= 500) throw error;
      return [error.code, performance.now() - startedAt];
    }
  }

  async #predict(index: number, serving: number): Promise<void> {
    const ahead = Math.min(this.#trace.length - 1, index + 2);
    const yesterday = this.#trace[ahead - this.#stepsPerDay];
    if (yesterday === undefined) return;
    await this.#client.call('POST', `/resources/${this.#resourceId}/predictions`, {
      timestamp: new Date(Date.now() + 1_000).toISOString(),
      predicted_cpu: round((yesterday.demand / serving) * 100),
      predicted_memory: round(Math.min(100, 20 + (yesterday.demand / serving) * 40)),
      instances: serving,
      model_version: 'yesterday',
    });
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
