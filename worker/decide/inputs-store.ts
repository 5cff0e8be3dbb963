import type { Queryable } from '../../shared/db/pool.ts';
import type { UnitMix } from '../../shared/domain/resource.ts';
import type {
  Activity,
  EngineInput,
  EnginePrediction,
  MetricResponses,
  ObservedObject,
  PredictionOutcome,
} from '../engine/types.ts';
import { type InstanceSize, relativeSizeOf, sizeOf } from '../samples/instance-size.ts';
import { toSamples } from '../samples/read-samples.ts';
import { type HistoryRow, historyRow, inPercent } from '../samples/samples-store.ts';

/** What one decision needs to know beside its job. */
export interface DecisionInputs {
  readonly engine: Omit<EngineInput, 'usePrediction'>;
  readonly price: {
    readonly cloud_provider: 'aws' | 'kubernetes';
    readonly region: string | null;
    readonly instance_type: string | null;
    readonly hourly_price: string | null;
    readonly cpu_request: string | null;
    readonly memory_request: string | null;
    readonly instance_mix: readonly UnitMix[] | null;
  };
  readonly place: {
    readonly id: string;
    readonly cloud_provider: 'aws' | 'kubernetes';
    readonly region: string | null;
    readonly cluster: string | null;
  };
  /** What one instance is now. */
  readonly size: InstanceSize;
  readonly mode: 'manual' | 'recommend' | 'auto';
  readonly executeQueue: 'execute-aws' | 'execute-kubernetes';
}

/** How far back samples are read, and how many: enough for the longest stabilization window and for residuals. */
const lookbackSeconds = 3 * 3_600;
const maxSamples = 120;

interface InputRow {
  id: string;
  cloud_provider: 'aws' | 'kubernetes';
  region: string | null;
  cluster: string | null;
  instance_type: string | null;
  hourly_price: string | null;
  cpu_request: string | null;
  memory_request: string | null;
  mode: 'manual' | 'recommend' | 'auto';
  current_instances: number;
  version: number;
  min_instances: number;
  max_instances: number;
  target_cpu: number;
  target_memory: number;
  max_scale_up_step: number;
  max_scale_down_step: number;
  cooldown_period: number;
  scale_down_cooldown: number | null;
  max_actions_per_hour: number;
  tolerance: number;
  planning: 'target' | 'risk';
  max_utilization: number;
  tolerated_risk: number;
  stabilization_window: number;
  provisioning_delay: number;
  decision_interval: number;
  up_paused_ms: number | null;
  down_paused_ms: number | null;
  max_reversals_per_half_hour: number;
  now_ms: number;
  samples: HistoryRow[] | null;
  prediction:
    | [
        number,
        number,
        number | null,
        number | null,
        number | null,
        number | null,
        string | null,
        number | null,
        number | null,
      ]
    | null;
  actions: [number, 'ScaleUp' | 'ScaleDown'][] | null;
  stopped: { scope: string; reason: string } | null;
  utilization_unit: 'percent' | 'ratio' | null;
  max_sample_age: number | null;
  scale_to_zero_after: number;
  delivery_delay_ms: number | null;
  requests_activity: ActivityRow | null;
  predictions_activity: ActivityRow | null;
  outcomes: OutcomeRow[] | null;
  responses: MetricResponses | null;
  observed: (ObservedObject & { readonly mix: readonly UnitMix[] | null }) | null;
}

type ActivityRow = [firstMs: number, newestMs: number, lastActiveMs: number | null, longestGapMs: number];
/** Percent and instances, of the prediction and of the sample of its time. */
type OutcomeRow = [
  atMs: number,
  predictedCpu: number | null,
  predictedMemory: number | null,
  predictedInstances: number,
  cpu: number | null,
  memory: number | null,
  instances: number,
];

const ms = (column: string) => `floor(extract(epoch from ${column}) * 1000)`;

/** Median time from a sample's moment to its arrival; only where the newest is old, and by several arrivals. */
const deliveryDelay = `case when samples.newest < clock.now - interval '3 minutes' then (
    select percentile_disc(0.5) within group (order by ${ms('a.received_at - a.newest')})
    from (select received_at, max(timestamp) as newest from metric_samples m
      where m.resource_id = r.id and m.timestamp > clock.now - interval '3 hours' group by received_at) a
    having count(*) >= 3)::double precision end`;

/** Of requests, by rate or by a counter that has risen; with an hour more than the silence that is looked for. */
const requestsActivity = `case when r.min_instances = 0 then (
    select json_build_array(${ms('min(q.timestamp)')}, ${ms('max(q.timestamp)')}, ${ms('max(q.timestamp) filter (where q.active)')},
      coalesce(${ms("max(q.gap) filter (where q.timestamp > clock.now - r.scale_to_zero_after * interval '1 second')")}, 0))
    from (select timestamp, coalesce(requests > 0, requests_total > lag(requests_total) over (order by timestamp), false) as active,
        timestamp - lag(timestamp) over (order by timestamp) as gap
      from metric_samples m where m.resource_id = r.id and (requests is not null or requests_total is not null)
        and m.timestamp > clock.now - (r.scale_to_zero_after + 3600) * interval '1 second') q
    having count(*) > 0) end`;

const predictionsActivity = `case when r.min_instances = 0 then (
    select json_build_array(${ms('min(p.timestamp)')}, ${ms('max(p.timestamp)')}, ${ms(`max(p.timestamp) filter (where
      coalesce(p.predicted_requests > 0, p.predicted_cpu > 0, false)
        and p.timestamp <= clock.now + (r.provisioning_delay + 2 * r.decision_interval) * interval '1 second')`)}, 0)
    from predictions p where p.resource_id = r.id
      and p.timestamp > clock.now - (r.scale_to_zero_after + 3600) * interval '1 second'
    having count(*) > 0) end`;

/** The newest predictions that were made ahead of their time, each with the sample of that time, of today's instances. */
const outcomes = `(select json_agg(json_build_array(${ms('o.timestamp')}, ${inPercent('o.predicted_cpu')},
      ${inPercent('o.predicted_memory')}, o.instances, ${inPercent('m.cpu')}, ${inPercent('m.memory')}, m.instances) order by o.timestamp)
    from (select * from predictions p where p.resource_id = r.id and p.timestamp > clock.now - interval '1 day'
        and p.timestamp <= clock.now and p.created_at < p.timestamp
        and p.instance_type is not distinct from r.instance_type and p.cpu_request is not distinct from r.cpu_request
        and p.memory_request is not distinct from r.memory_request
      order by p.timestamp desc limit 5) o
    cross join lateral (select * from metric_samples m where m.resource_id = r.id
        and m.timestamp >= o.timestamp - interval '1 minute' and m.timestamp < o.timestamp + interval '10 minutes'
        and m.instance_type is not distinct from r.instance_type and m.cpu_request is not distinct from r.cpu_request
        and m.memory_request is not distinct from r.memory_request
      order by m.timestamp limit 1) m)`;

/**
 * Reads everything for many resources in one round trip, by the database's clock. Index: primary keys of
 * metric_samples and predictions, attempts_cooldown (gist on resource_id).
 */
export async function loadDecisionInputs(
  db: Queryable,
  resourceIds: readonly string[],
): Promise<Map<string, DecisionInputs>> {
  const { rows } = await db.query<InputRow>({
    name: 'load_decision_inputs',
    text: `with clock as (select clock_timestamp() as now)
      select r.id, r.cloud_provider, r.region, r.instance_type, r.hourly_price::text, r.cpu_request::text, r.memory_request::text, r.mode,
        r.current_instances, r.version, r.min_instances, r.max_instances, r.target_cpu, r.target_memory, r.max_scale_up_step,
        r.max_scale_down_step, r.cooldown_period, r.scale_down_cooldown, r.max_actions_per_hour, r.tolerance, r.planning, r.max_utilization, coalesce(1 / (1 + r.shortage_price), r.tolerated_risk) as tolerated_risk, r.stabilization_window,
        r.provisioning_delay, r.decision_interval, r.max_reversals_per_half_hour, r.cluster,
        floor(extract(epoch from r.scale_up_paused_until) * 1000)::double precision as up_paused_ms,
        floor(extract(epoch from r.scale_down_paused_until) * 1000)::double precision as down_paused_ms,
        floor(extract(epoch from clock.now) * 1000)::double precision as now_ms,
        samples.rows as samples, prediction.row as prediction, actions.rows as actions, stop.row as stopped,
        r.utilization_unit, r.max_sample_age, r.scale_to_zero_after, ${deliveryDelay} as delivery_delay_ms,
        ${requestsActivity} as requests_activity, ${predictionsActivity} as predictions_activity,
        ${outcomes} as outcomes, response.state as responses,
        case when r.observed_at > clock.now - interval '5 minutes' then r.observed_state end as observed
      from resources r cross join clock
      left join lateral (
        select json_agg(${historyRow} order by s.timestamp) as rows, max(s.timestamp) as newest
        from (select * from metric_samples m where m.resource_id = r.id and m.timestamp > clock.now - $2 * interval '1 second'
          order by m.timestamp desc limit $3) s) samples on true
      left join lateral (
        select json_build_array(floor(extract(epoch from p.timestamp) * 1000), floor(extract(epoch from p.created_at) * 1000),
          ${inPercent('p.predicted_cpu')}, ${inPercent('p.predicted_memory')}, p.instances, p.confidence, p.instance_type, p.cpu_request, p.memory_request) as row
        from predictions p where p.resource_id = r.id and p.timestamp > clock.now - least(r.decision_interval, 60) * interval '1 second'
          and p.timestamp <= clock.now + (r.provisioning_delay + 2 * r.decision_interval) * interval '1 second'
        -- The horizon's greatest need: capacity ordered now must carry all of it.
        order by coalesce(p.instances, r.current_instances) * greatest(coalesce(p.predicted_cpu, 0) / r.target_cpu,
          coalesce(p.predicted_memory, 0) / r.target_memory) desc, p.timestamp limit 1) prediction on true
      left join lateral (
        select json_agg(json_build_array(floor(extract(epoch from a.at) * 1000), a.action) order by a.at) as rows
        from (select coalesce(effect_at, intent_at) as at, action from attempts
          where resource_id = r.id and state in ('open', 'unknown', 'succeeded')
            and intent_at > clock.now - greatest(3600, r.cooldown_period, coalesce(r.scale_down_cooldown, 0)) * interval '1 second'
          order by intent_at desc limit 4000) a) actions on true
      left join lateral (
        select json_build_object('scope', c.scope, 'reason', c.reason) as row from active_stops c
        where c.scope in ('global', 'provider:' || r.cloud_provider, 'resource:' || r.id::text,
          'scope:' || r.cloud_provider || ':' || coalesce(r.region, r.cluster, '')) order by c.scope limit 1) stop on true
      left join metric_responses response on response.resource_id = r.id
      where r.id = any ($1::uuid[])`,
    values: [resourceIds, lookbackSeconds, maxSamples],
  });
  return new Map(rows.map((row) => [row.id, toInputs(row)]));
}

function toInputs(row: InputRow): DecisionInputs {
  const size = sizeOf(row);
  return {
    engine: {
      currentInstances: row.current_instances,
      policy: {
        version: row.version,
        minInstances: row.min_instances,
        maxInstances: row.max_instances,
        targetCpuRatio: row.target_cpu / 100,
        targetMemoryRatio: row.target_memory / 100,
        planning: row.planning,
        limitRatio: row.max_utilization / 100,
        toleratedRisk: row.tolerated_risk,
        maxScaleUpStep: row.max_scale_up_step,
        maxScaleDownStep: row.max_scale_down_step,
        scaleUpCooldownMs: row.cooldown_period * 1_000,
        scaleDownCooldownMs: (row.scale_down_cooldown ?? row.cooldown_period) * 1_000,
        maxActionsPerHour: row.max_actions_per_hour,
        tolerance: row.tolerance,
        stabilizationWindowMs: row.stabilization_window * 1_000,
        provisioningDelayMs: row.provisioning_delay * 1_000,
        decisionIntervalMs: row.decision_interval * 1_000,
        scaleUpPausedUntilMs: row.up_paused_ms,
        scaleDownPausedUntilMs: row.down_paused_ms,
        maxReversalsPerHalfHour: row.max_reversals_per_half_hour,
        utilizationUnit: row.utilization_unit,
        maxSampleAgeMs: row.max_sample_age === null ? null : row.max_sample_age * 1_000,
        scaleToZeroAfterMs: row.scale_to_zero_after * 1_000,
      },
      samples: toSamples(row.samples ?? [], size),
      prediction: row.prediction === null ? null : toPrediction(row.prediction, row),
      recentActions: (row.actions ?? []).map(([atMs, action]) => ({ atMs, action })),
      stopped: row.stopped,
      ...(row.delivery_delay_ms === null ? {} : { deliveryDelayMs: row.delivery_delay_ms }),
      ...(row.min_instances > 0
        ? {}
        : {
            activity: {
              requests: toActivity(row.requests_activity),
              predictions: toActivity(row.predictions_activity),
            },
          }),
      predictionOutcomes: (row.outcomes ?? []).flatMap(toOutcome),
      ...(row.responses === null ? {} : { responses: row.responses }),
      ...(row.observed === null
        ? {}
        : { observed: { blocks: row.observed.blocks, removable: row.observed.removable } }),
      nowMs: row.now_ms,
    },
    price: {
      cloud_provider: row.cloud_provider,
      region: row.region,
      instance_type: row.instance_type,
      hourly_price: row.hourly_price,
      cpu_request: row.cpu_request,
      memory_request: row.memory_request,
      instance_mix: row.observed?.mix ?? null,
    },
    place: { id: row.id, cloud_provider: row.cloud_provider, region: row.region, cluster: row.cluster },
    size,
    mode: row.mode,
    executeQueue: row.cloud_provider === 'aws' ? 'execute-aws' : 'execute-kubernetes',
  };
}

function toActivity(row: ActivityRow | null): Activity | null {
  if (row === null) return null;
  const [firstMs, newestMs, lastActiveMs, longestGapMs] = row;
  return { firstMs, newestMs, lastActiveMs, longestGapMs };
}

/** Of CPU; of memory where either side has no CPU. */
function toOutcome([
  atMs,
  predictedCpu,
  predictedMemory,
  predictedInstances,
  cpu,
  memory,
  instances,
]: OutcomeRow): PredictionOutcome[] {
  const [predicted, measured] =
    predictedCpu !== null && cpu !== null ? [predictedCpu, cpu] : [predictedMemory, memory];
  if (predicted === null || measured === null) return [];
  return [
    { atMs, predicted: (predicted * predictedInstances) / 100, measured: (measured * instances) / 100 },
  ];
}

const ratio = (percent: number | null): number | null => (percent === null ? null : percent / 100);

function toPrediction(
  [forMs, madeAtMs, cpu, memory, instances, confidence, ...then]: NonNullable<InputRow['prediction']>,
  row: InputRow,
): EnginePrediction {
  const [instance_type, cpu_request, memory_request] = then;
  return {
    forMs,
    madeAtMs,
    cpuRatio: ratio(cpu),
    memoryRatio: ratio(memory),
    instances: instances ?? row.current_instances,
    confidence,
    ...relativeSizeOf(sizeOf({ instance_type, cpu_request, memory_request }), sizeOf(row)),
  };
}
