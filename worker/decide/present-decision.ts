import { isoOrNull } from '../../shared/domain/iso-time.ts';
import type { Explanation } from '../engine/types.ts';

/** The engine's explanation in the API's words. */
export function presentExplanation(
  explanation: Explanation,
  reasonCode: string,
  cost: object,
): Record<string, unknown> {
  const quality = explanation.dataQuality;
  return {
    reason_code: reasonCode,
    wanted_instances: explanation.wanted,
    binding: explanation.binding,
    earliest_next_change: isoOrNull(explanation.earliestNextChangeMs),
    candidates: explanation.candidates,
    stages: explanation.stages,
    data_quality: {
      verdict: quality.verdict,
      samples_used: quality.samplesUsed,
      samples_dropped: quality.samplesDropped,
      newest_sample_age_seconds:
        quality.newestSampleAgeMs === null ? null : quality.newestSampleAgeMs / 1_000,
    },
    confidence: presentConfidence(explanation.confidence),
    prediction: explanation.prediction,
    forecast: explanation.forecast,
    blocks: explanation.blocks,
    metric_responses: explanation.responses.map(({ metric, response, baseRatio, changes }) => ({
      metric,
      response,
      base_percent: Math.round(baseRatio * 1_000) / 10,
      changes,
    })),
    cost,
    engine_version: explanation.engineVersion,
    policy_version: explanation.policyVersion,
  };
}

function presentConfidence({ value, basis, withinRatio, n, learning }: Explanation['confidence']) {
  return { value, basis, within_utilization: withinRatio * 100, n, learning };
}
