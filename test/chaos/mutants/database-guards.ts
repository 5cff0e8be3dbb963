/** Rows that are there when a guard is tried; all of one resource. */
export interface GuardedRows {
  readonly resource: string;
  /** A pending decision 4 → 6, and another one. */
  readonly decision: string;
  readonly other: string;
  /** A queued execution of `decision`, and a finished job. */
  readonly job: string;
  readonly finished: string;
}

/** One guard of the schema, with what it must refuse when everything before it has failed. */
export interface DatabaseGuard {
  /** As the catalogue has it: `check resources_check`, `index jobs_one_execution`, `trigger jobs.jobs_terminal` … */
  readonly guard: string;
  readonly drop: string;
  /** The last of these statements is the one that must be refused. */
  readonly violate: (rows: GuardedRows) => readonly string[];
  /** How it is refused: by the guard's name, with these words, or by touching no row. */
  readonly refusal: 'by name' | RegExp | 'no rows';
}

const bad = (
  table: string,
  assignments: Readonly<Record<string, string>>,
  where: (rows: GuardedRows) => string,
) =>
  Object.entries(assignments).map(
    ([name, set]): DatabaseGuard => ({
      guard: `check ${name}`,
      drop: `alter table ${table} drop constraint ${name}`,
      violate: (rows) => [`update ${table} set ${set} where ${where(rows)}`],
      refusal: 'by name',
    }),
  );

const added = (table: string, inserts: Readonly<Record<string, (rows: GuardedRows) => string>>) =>
  Object.entries(inserts).map(
    ([name, insert]): DatabaseGuard => ({
      guard: `check ${name}`,
      drop: `alter table ${table} drop constraint ${name}`,
      violate: (rows) => [`insert into ${table} ${insert(rows)}`],
      refusal: 'by name',
    }),
  );

const index = (name: string, violate: DatabaseGuard['violate']): DatabaseGuard => ({
  guard: `index ${name}`,
  drop: `drop index ${name}`,
  violate,
  refusal: 'by name',
});

const key = (table: string, name: string, violate: DatabaseGuard['violate']): DatabaseGuard => ({
  guard: `key ${name}`,
  drop: `alter table ${table} drop constraint ${name}`,
  violate,
  refusal: 'by name',
});

const trigger = (
  name: string,
  refusal: RegExp | 'no rows',
  violate: DatabaseGuard['violate'],
): DatabaseGuard => ({
  guard: `trigger ${name}`,
  drop: `drop trigger ${name.split('.')[1]} on ${name.split('.')[0]}`,
  violate,
  refusal,
});

const sample = (columns: string, values: string) => (rows: GuardedRows) =>
  `(resource_id, timestamp, instances, ${columns}) values ('${rows.resource}', now(), 1, ${values})`;
const prediction = (columns: string, values: string) => (rows: GuardedRows) =>
  `(resource_id, timestamp, ${columns}) values ('${rows.resource}', now(), ${values})`;
const freeze = (columns: string, values: string) => () =>
  `(scope, reason, actor, ${columns}) values ('global', 'r', 'a', ${values})`;
const event = (rows: GuardedRows, columns: string, values: string) =>
  `insert into scaling_events (resource_id, actor, ${columns}) values ('${rows.resource}', 'a', ${values})`;
const attempt = (rows: GuardedRows, no: number, decision = rows.decision) =>
  `insert into attempts (decision_id, resource_id, job_id, no, epoch, from_instances, target_instances, action, state, intent_at, settle_after, blocked)
    values ('${decision}', '${rows.resource}', '${rows.job}', ${no}, 1, 4, 6, 'ScaleUp', 'not_applied', now(), now(), 'empty')`;
/** Attempts 1 and 2 of `decision` and attempt 1 of `other`, all over. */
const attempts = (rows: GuardedRows) => [attempt(rows, 1), attempt(rows, 2), attempt(rows, 1, rows.other)];
const chained = (table: string, resource: string, columns: string) => [
  `alter table ${table} disable trigger ${table}_chain`,
  `insert into ${table} (${columns}, chain_no, prev_hash, hash) values (${resource}, 1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'))`,
  `insert into ${table} (${columns}, chain_no, prev_hash, hash) values (${resource}, 1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'))`,
];
const entry = (action: string) => `insert into audit_log (actor, action) values ('a', '${action}')`;

/** Every constraint, index and trigger of the schema that refuses what breaks. */
export const databaseGuards: readonly DatabaseGuard[] = [
  ...bad(
    'resources',
    {
      resources_actuation_check: `actuation = 'x'`,
      resources_check: 'min_instances = 5, max_instances = 4',
      resources_check1: `resource_type = 'kubernetes'`,
      resources_cloud_provider_check: `resource_type = 'kubernetes', cloud_provider = 'gcp'`,
      resources_cooldown_period_check: 'cooldown_period = -1',
      resources_current_instances_check: 'current_instances = -1',
      resources_decision_interval_check: 'decision_interval = 4',
      resources_hourly_price_check: 'hourly_price = -1',
      resources_max_actions_per_hour_check: 'max_actions_per_hour = 0',
      resources_max_reversals_per_half_hour_check: 'max_reversals_per_half_hour = 0',
      resources_max_scale_down_step_check: 'max_scale_down_step = 0',
      resources_max_scale_up_step_check: 'max_scale_up_step = 0',
      resources_max_utilization_check: 'max_utilization = 0',
      resources_min_instances_check: 'min_instances = -1',
      resources_max_sample_age_check: 'max_sample_age = 0',
      resources_mode_check: `mode = 'x'`,
      resources_name_check: `name = ''`,
      resources_planning_check: `planning = 'x'`,
      resources_provisioning_delay_check: 'provisioning_delay = -1',
      resources_resource_type_check: `resource_type = 'vm', cloud_provider = 'kubernetes'`,
      resources_scale_down_cooldown_check: 'scale_down_cooldown = -1',
      resources_scale_to_zero_after_check: 'scale_to_zero_after = -1',
      resources_shortage_price_check: 'shortage_price = 0',
      resources_stabilization_window_check: 'stabilization_window = -1',
      resources_target_cpu_check: 'target_cpu = 0',
      resources_target_memory_check: 'target_memory = 0',
      resources_tolerance_check: 'tolerance = 1',
      resources_tolerated_risk_check: 'tolerated_risk = 0',
      resources_utilization_unit_check: `utilization_unit = 'x'`,
    },
    (rows) => `id = '${rows.resource}'`,
  ),
  index('resources_object', (rows) => [
    `insert into resources (name, resource_type, cloud_provider, region, min_instances, max_instances, current_instances, target_cpu, target_memory, cooldown_period)
      select name, resource_type, cloud_provider, region, 1, 2, 1, 70, 70, 300 from resources where id = '${rows.resource}'`,
  ]),

  ...bad(
    'scaling_decisions',
    {
      scaling_decisions_check: `decision_type = 'noaction', target_instances = current_instances`,
      scaling_decisions_check1: 'target_instances = current_instances',
      scaling_decisions_check2: `decision_type = 'scaledown', target_instances = current_instances`,
      scaling_decisions_check3: 'executed = true',
      scaling_decisions_confidence_check: 'confidence = 2',
      scaling_decisions_current_instances_check: 'current_instances = -1',
      scaling_decisions_decision_type_check: `decision_type = 'x', target_instances = current_instances`,
      scaling_decisions_state_check: `state = 'x'`,
      scaling_decisions_target_instances_check: `decision_type = 'scaledown', target_instances = -1`,
    },
    (rows) => `id = '${rows.decision}'`,
  ),
  key('scaling_decisions', 'scaling_decisions_job_id_key', (rows) => [
    `update scaling_decisions set job_id = (select job_id from scaling_decisions where id = '${rows.decision}') where id = '${rows.other}'`,
  ]),

  ...bad(
    'jobs',
    {
      jobs_check: `status = 'completed', finished_at = now()`,
      jobs_check1: `status = 'completed', outcome = 'succeeded'`,
      jobs_check2: 'decision_id = null',
      jobs_kind_check: `kind = 'x'`,
      jobs_outcome_check: `status = 'completed', outcome = 'x', finished_at = now()`,
      jobs_queue_check: `queue = 'x'`,
      jobs_status_check: `status = 'x'`,
    },
    (rows) => `id = '${rows.job}'`,
  ),
  index('jobs_one_execution', (rows) => [
    `insert into jobs (id, kind, queue, resource_id, decision_id, deadline_at) values (gen_random_uuid(), 'execute', 'execute-aws', '${rows.resource}', '${rows.decision}', now())`,
  ]),
  index('jobs_one_forecast', (rows) => [
    `insert into jobs (id, kind, queue, resource_id, deadline_at) select gen_random_uuid(), 'forecast', 'forecast', '${rows.resource}', now() from generate_series(1, 2)`,
  ]),
  trigger('jobs.jobs_terminal', /never changes again/, (rows) => [
    `update jobs set status = 'queued', outcome = null, finished_at = null where id = '${rows.finished}'`,
  ]),
  trigger('jobs.jobs_outdated_claim', 'no rows', (rows) => [
    'update fleet_settings set min_worker_version = 1000',
    `update jobs set status = 'active', fence = fence + 1 where id = '${rows.job}' returning id`,
  ]),

  ...[
    ['attempts_action_check', `'ScaleUp'`, `'x'`] as const,
    ['attempts_state_check', `'not_applied'`, `'x'`] as const,
    ['attempts_target_instances_check', '4, 6,', '4, -1,'] as const,
  ].map(
    ([name, good, wrong]): DatabaseGuard => ({
      guard: `check ${name}`,
      drop: `alter table attempts drop constraint ${name}`,
      violate: (rows) => [attempt(rows, 1).replace(good, wrong)],
      refusal: 'by name',
    }),
  ),
  key('attempts', 'attempts_decision_id_fkey', (rows) => [
    attempt(rows, 1, '00000000-0000-4000-8000-000000000000'),
  ]),
  key('attempts', 'attempts_decision_id_no_key', (rows) => [attempt(rows, 1), attempt(rows, 1)]),
  key('attempts', 'attempts_cooldown', (rows) => [
    ...attempts(rows),
    `update attempts set state = 'succeeded', blocked = tstzrange(now(), now() + interval '1 hour') where resource_id = '${rows.resource}' and no = 1`,
  ]),
  index('attempts_one_open', (rows) => [
    ...attempts(rows),
    `update attempts set state = 'open' where resource_id = '${rows.resource}' and no = 1`,
  ]),
  index('attempts_one_success', (rows) => [
    ...attempts(rows),
    `update attempts set state = 'succeeded' where decision_id = '${rows.decision}'`,
  ]),
  trigger('attempts.attempts_outdated_worker', /older than/, (rows) => [
    'update fleet_settings set min_worker_version = 1000',
    attempt(rows, 1),
  ]),
  trigger('attempts.attempts_scope', 'no rows', (rows) => [
    attempt(rows, 1),
    `select 1 from attempts where resource_id = '${rows.resource}' and scope is null`,
  ]),

  {
    guard: 'check scaling_events_action_check',
    drop: 'alter table scaling_events drop constraint scaling_events_action_check',
    violate: (rows) => [event(rows, 'phase, action', `'control', 'x'`)],
    refusal: 'by name',
  },
  {
    guard: 'check scaling_events_phase_check',
    drop: 'alter table scaling_events drop constraint scaling_events_phase_check',
    violate: (rows) => [event(rows, 'phase', `'x'`)],
    refusal: 'by name',
  },
  index('scaling_events_one_outcome', (rows) => [
    event(rows, 'phase, attempt_id', `'outcome', 7`),
    event(rows, 'phase, attempt_id', `'outcome', 7`),
  ]),
  index('scaling_events_one_success', (rows) => [
    event(rows, 'phase, attempt_id, decision_id, success', `'outcome', 7, '${rows.decision}', true`),
    event(rows, 'phase, attempt_id, decision_id, success', `'outcome', 8, '${rows.decision}', true`),
  ]),
  index('scaling_events_chain', (rows) =>
    chained('scaling_events', `'${rows.resource}', 'control', 'a'`, 'resource_id, phase, actor'),
  ),
  index('audit_log_chain', () => chained('audit_log', `'a', 'x'`, 'actor, action')),
  trigger('scaling_events.scaling_events_append_only', /append-only/, (rows) => [
    event(rows, 'phase', `'control'`),
    'update scaling_events set success = true',
  ]),
  trigger('scaling_events.scaling_events_no_truncate', /append-only/, () => ['truncate scaling_events']),
  trigger('audit_log.audit_log_append_only', /append-only/, () => [entry('x'), 'delete from audit_log']),
  trigger('audit_log.audit_log_no_truncate', /append-only/, () => ['truncate audit_log']),
  trigger('scaling_events.scaling_events_chain', 'no rows', (rows) => [
    event(rows, 'phase', `'control'`),
    'select 1 from scaling_events where hash is null',
  ]),
  trigger('audit_log.audit_log_chain', 'no rows', () => [
    entry('x'),
    'select 1 from audit_log where hash is null',
  ]),
  trigger('scaling_events.scaling_events_head', 'no rows', (rows) => [
    event(rows, 'phase', `'control'`),
    `select 1 from scaling_events e where not exists (select 1 from audit_heads h where h.chain = 'events:' || e.resource_id and h.length >= e.chain_no)`,
  ]),
  trigger('audit_log.audit_log_head', 'no rows', () => [
    entry('x'),
    `select 1 from audit_log a where not exists (select 1 from audit_heads h where h.chain = 'audit:' || coalesce(a.resource_id::text, 'global') and h.length >= a.chain_no)`,
  ]),
  ...added('audit_heads', {
    audit_heads_hash_check: () => `values ('x', 0, '\\x00')`,
    audit_heads_length_check: () => `values ('x', -1, decode(repeat('00', 32), 'hex'))`,
  }),

  ...added('api_keys', {
    api_keys_scopes_check: () =>
      `(id, name, secret_hash, scopes, expires_at) values ('k', 'k', '', '{}', now())`,
    api_keys_selectors_check: () =>
      `(id, name, secret_hash, scopes, expires_at, selectors) values ('k', 'k', '', '{read}', now(), '[]')`,
  }),
  key('api_keys', 'api_keys_rotated_from_fkey', () => [
    `insert into api_keys (id, name, secret_hash, scopes, expires_at, rotated_from) values ('k', 'k', '', '{read}', now(), 'nobody')`,
  ]),
  key('idempotency_keys', 'idempotency_keys_pkey', () => [
    `insert into idempotency_keys (key_id, route, idempotency_key, body_hash) values ('k', 'r', 'i', 'a'), ('k', 'r', 'i', 'b')`,
  ]),

  ...added('controls', {
    controls_observing: () =>
      `(scope, stopped, reason, actor, observe_until) values ('global', false, 'r', 'a', now())`,
  }),
  ...added('floor_leases', {
    floor_leases_cloud_provider_check: (rows) =>
      `values ('${rows.resource}', 'gcp', null, null, 'a', 1, '{2}', now(), now())`,
    floor_leases_previous_min_check: (rows) =>
      `values ('${rows.resource}', 'aws', null, null, 'a', -1, '{2}', now(), now())`,
  }),
  ...bad(
    'fleet_limits',
    {
      fleet_limits_change_floor_check: 'change_floor = -1',
      fleet_limits_change_percent_check: 'change_percent = -1',
      fleet_limits_correlated_minimum_check: 'correlated_minimum = 1',
      fleet_limits_correlated_percent_check: 'correlated_percent = 101',
      fleet_limits_hold_seconds_check: 'hold_seconds = -1',
      fleet_limits_scale_in_floor_check: 'scale_in_floor = -1',
      fleet_limits_scale_in_percent_check: 'scale_in_percent = -1',
      fleet_limits_window_seconds_check: 'window_seconds = 0',
    },
    () => `scope = 'default'`,
  ),
  ...bad(
    'fleet_settings',
    {
      fleet_settings_id_check: 'id = false',
      fleet_settings_min_worker_version_check: 'min_worker_version = 0',
    },
    () => 'id',
  ),
  ...added('freezes', {
    freezes_check: freeze('schedule', `'0 0 * * *'`),
    freezes_check1: freeze('starts_at', 'now()'),
    freezes_check2: freeze('starts_at, ends_at', 'now(), now()'),
    freezes_direction_check: freeze('direction, starts_at, ends_at', `'x', now(), now() + interval '1 hour'`),
    freezes_duration_minutes_check: freeze('schedule, duration_minutes', `'0 0 * * *', 0`),
  }),
  ...added('metric_samples', {
    metric_samples_check: (rows) =>
      `(resource_id, timestamp, instances) values ('${rows.resource}', now(), 1)`,
    metric_samples_cpu_check: sample('cpu', '-1'),
    metric_samples_instances_check: (rows) =>
      `(resource_id, timestamp, instances, cpu) values ('${rows.resource}', now(), -1, 1)`,
    metric_samples_memory_check: sample('memory', '-1'),
    metric_samples_requests_check: sample('requests', '-1'),
    metric_samples_requests_total_check: sample('requests_total', '-1'),
  }),
  ...added('predictions', {
    predictions_check: prediction('confidence', '0.5'),
    predictions_confidence_check: prediction('predicted_cpu, confidence', '1, 2'),
    predictions_instances_check: prediction('predicted_cpu, instances', '1, -1'),
    predictions_predicted_cpu_check: prediction('predicted_cpu', '-1'),
    predictions_predicted_memory_check: prediction('predicted_memory', '-1'),
    predictions_predicted_requests_check: prediction('predicted_requests', '-1'),
  }),
];

/** Not in the table above, with the reason. Everything else that the catalogue has must be there. */
export const unguarded: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern: /^key \w+_pkey$/,
    reason: 'ids are drawn at random or by a sequence; upserts need the key to exist',
  },
  { pattern: /^key scaling_(decisions|events)_seq_key$/, reason: 'drawn by a sequence' },
  {
    pattern: /^key (forecasts|metric_responses|metric_samples|predictions)_resource_id_fkey$/,
    reason: 'there for the cascade: series go with their resource',
  },
];
