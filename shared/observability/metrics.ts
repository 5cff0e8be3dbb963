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
      name: 'scaler_jobs_total',
      help: 'Finished jobs by queue and outcome',
      labelNames: ['queue', 'outcome'],
      registers,
    }),
    jobWait: new Histogram({
      name: 'scaler_job_wait_seconds',
      help: 'Seconds from the acceptance of a job to its first claim',
      labelNames: ['queue'],
      buckets: seconds,
      registers,
    }),
    jobDuration: new Histogram({
      name: 'scaler_job_duration_seconds',
      help: 'Seconds from the claim of a job to its outcome',
      labelNames: ['queue'],
      buckets: seconds,
      registers,
    }),
    queueDepth: new Gauge({
      name: 'scaler_queue_depth',
      help: 'Waiting jobs by queue, from PostgreSQL',
      labelNames: ['queue'],
      registers,
    }),
    decisions: new Counter({
      name: 'scaler_decisions_total',
      help: 'Decisions by type and reason code',
      labelNames: ['outcome', 'reason'],
      registers,
    }),
    providerCalls: new Counter({
      name: 'scaler_provider_calls_total',
      help: 'Cloud API calls by provider, operation and result',
      labelNames: ['provider', 'operation', 'result'],
      registers,
    }),
    circuitOpen: new Gauge({
      name: 'scaler_circuit_open',
      help: '1 while the circuit breaker of this worker for the provider is open',
      labelNames: ['provider'],
      registers,
    }),
    refused: new Counter({
      name: 'scaler_executions_refused_total',
      help: 'Executions refused or failed, by error code',
      labelNames: ['code'],
      registers,
    }),
    protections: new Gauge({
      name: 'scaler_protections_active',
      help: 'Active protections by kind: stops, freezes, correlated scale-in holds, open circuits, used-up budgets, flapping resources, workers stopped by SCALER_STOP',
      labelNames: ['kind'],
      registers,
    }),
    scopeCircuits: new Gauge({
      name: 'scaler_scope_circuit_open',
      help: '1 for each region or cluster whose shared circuit breaker is open',
      labelNames: ['scope'],
      registers,
    }),
    unclassified: new Counter({
      name: 'scaler_unclassified_errors_total',
      help: 'Errors that no error table classifies; alert on any increase',
      labelNames: ['where'],
      registers,
    }),
  };
}
