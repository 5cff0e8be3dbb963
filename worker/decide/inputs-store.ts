import type { Queryable } from '../../shared/db/pool.ts';
import type { EngineInput, EnginePrediction } from '../engine/types.ts';
import { type InstanceSize, relativeSizeOf, sizeOf } from '../samples/instance-size.ts';
import { toSamples } from '../samples/read-samples.ts';
import { type HistoryRow, historyRow } from '../samples/samples-store.ts';

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
}

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
        samples.rows as samples, prediction.row as prediction, actions.rows as actions, stop.row as stopped
      from resources r cross join clock
      left join lateral (
        select json_agg(${historyRow} order by s.timestamp) as rows
        from (select * from metric_samples m where m.resource_id = r.id and m.timestamp > clock.now - $2 * interval '1 second'
          order by m.timestamp desc limit $3) s) samples on true
      left join lateral (
        select json_build_array(floor(extract(epoch from p.timestamp) * 1000), floor(extract(epoch from p.created_at) * 1000),
          p.predicted_cpu, p.predicted_memory, p.instances, p.confidence, p.instance_type, p.cpu_request, p.memory_request) as row
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
      },
      samples: toSamples(row.samples ?? [], size),
      prediction: row.prediction === null ? null : toPrediction(row.prediction, row),
      recentActions: (row.actions ?? []).map(([atMs, action]) => ({ atMs, action })),
      stopped: row.stopped,
      nowMs: row.now_ms,
    },
    price: {
      cloud_provider: row.cloud_provider,
      region: row.region,
      instance_type: row.instance_type,
      hourly_price: row.hourly_price,
      cpu_request: row.cpu_request,
      memory_request: row.memory_request,
    },
    place: { id: row.id, cloud_provider: row.cloud_provider, region: row.region, cluster: row.cluster },
    size,
    mode: row.mode,
    executeQueue: row.cloud_provider === 'aws' ? 'execute-aws' : 'execute-kubernetes',
  };
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
