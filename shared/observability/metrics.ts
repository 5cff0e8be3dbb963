import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export interface Metrics {
  readonly registry: Registry;
  readonly jobs: Counter<'queue' | 'outcome'>;
  readonly jobWait: Histogram<'queue'>;
  readonly jobDuration: Histogram<'queue'>;
  readonly queueDepth: Gauge<'queue'>;
  readonly decisions: Counter<'outcome' | 'reason'>;
  readonly providerCalls: Counter<'provider' | 'operation' | 'result'>;
  readonly circuitOpen: Gauge<'provider'>;
  readonly refused: Counter<'code'>;
  readonly protections: Gauge<'kind'>;
  readonly scopeCircuits: Gauge<'scope'>;
  readonly unclassified: Counter<'where'>;
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The process's metrics. Labels are short closed lists; a resource id is never a label. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  return {
    registry,
    jobs: new Counter({
      name: 'autoscaler_jobs_total',
      help: 'Jobs finished, by queue and outcome',
      labelNames: ['queue', 'outcome'],
      registers,
    }),
    jobWait: new Histogram({
      name: 'autoscaler_job_wait_seconds',
      help: 'Time from acceptance to the first claim',
      labelNames: ['queue'],
      buckets: seconds,
      registers,
    }),
    jobDuration: new Histogram({
      name: 'autoscaler_job_duration_seconds',
      help: 'Time from claim to outcome',
      labelNames: ['queue'],
      buckets: seconds,
      registers,
    }),
    queueDepth: new Gauge({
      name: 'autoscaler_queue_depth',
      help: 'Jobs not finished, by queue, as PostgreSQL has them',
      labelNames: ['queue'],
      registers,
    }),
    decisions: new Counter({
      name: 'autoscaler_decisions_total',
      help: 'Decisions, by type and reason',
      labelNames: ['outcome', 'reason'],
      registers,
    }),
    providerCalls: new Counter({
      name: 'autoscaler_provider_calls_total',
      help: 'Cloud calls',
      labelNames: ['provider', 'operation', 'result'],
      registers,
    }),
    circuitOpen: new Gauge({
      name: 'autoscaler_circuit_open',
      help: 'Circuit breakers now open',
      labelNames: ['provider'],
      registers,
    }),
    refused: new Counter({
      name: 'autoscaler_executions_refused_total',
      help: 'Executions that were refused or failed, by code',
      labelNames: ['code'],
      registers,
    }),
    protections: new Gauge({
      name: 'autoscaler_protections_active',
      help: 'What holds executions now: stops, freezes, holds for correlated scale-in, open circuits, budgets that are used up, resources that flap, workers stopped by SCALER_STOP',
      labelNames: ['kind'],
      registers,
    }),
    scopeCircuits: new Gauge({
      name: 'autoscaler_scope_circuit_open',
      help: '1 for each region or cluster that all workers leave alone after repeated failures',
      labelNames: ['scope'],
      registers,
    }),
    unclassified: new Counter({
      name: 'autoscaler_unclassified_errors_total',
      help: 'Errors no table knows; should be zero',
      labelNames: ['where'],
      registers,
    }),
  };
}
