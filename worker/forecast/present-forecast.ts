import { enoughResiduals } from '../engine/own-forecast.ts';
import type { EngineForecast, EnginePolicy } from '../engine/types.ts';
import type { ResourceForecaster } from '../forecaster/resource-forecaster.ts';
import type { Accuracy } from '../forecaster/track-record.ts';

const learningMs = 2 * 3_600_000;

/** A forecast in the API's words. Demand is in instances' worth of work. */
export function presentForecast(
  forecast: EngineForecast,
  forecaster: ResourceForecaster,
  policy: EnginePolicy,
): Record<string, unknown> {
  const doubted = forecast.metrics.find((metric) => !metric.trusted);
  const learning =
    forecast.observedMs < learningMs || forecast.metrics.some((metric) => metric.residuals < enoughResiduals);
  return {
    state: learning ? 'learning' : doubted === undefined ? 'trusted' : 'distrusted',
    why: learning
      ? 'under two hours of samples, or too few outcomes: targets are kept, too'
      : (doubted?.distrust ?? null),
    made_at: new Date(forecast.madeAtMs).toISOString(),
    forecast_for: new Date(forecast.forMs).toISOString(),
    step_seconds: forecaster.shape.stepMs / 1_000,
    horizon_steps: forecaster.shape.horizonSteps,
    observed_seconds: forecast.observedMs / 1_000,
    tolerated_risk: policy.toleratedRisk,
    max_utilization: policy.limitRatio * 100,
    metrics: forecast.metrics.map((metric) => {
      const detail = forecaster.detail(metric.metric);
      return {
        metric: metric.metric,
        demand: metric.demand,
        expected: metric.expected,
        upper: metric.upper,
        risk: metric.risk,
        quantiles: metric.distribution.map(([probability, demand]) => ({ probability, demand })),
        weights: detail?.weights,
        accuracy: presentAccuracy(detail?.accuracy),
        breached_share: detail?.breachedShare,
        residuals: metric.residuals,
        trusted: metric.trusted,
      };
    }),
  };
}

function presentAccuracy(accuracy: Accuracy | undefined): Record<string, unknown> | null {
  if (accuracy === undefined) return null;
  return {
    bias: accuracy.bias,
    mean_absolute_error: accuracy.meanAbsoluteError,
    mase: Number.isFinite(accuracy.mase) ? accuracy.mase : null,
    coverage: accuracy.coverage,
    pinball_ratio: Number.isFinite(accuracy.pinballRatio) ? accuracy.pinballRatio : null,
    steps: accuracy.steps,
  };
}
