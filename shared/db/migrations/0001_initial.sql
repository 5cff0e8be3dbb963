-- Up Migration
create extension if not exists btree_gist;

-- The first eleven columns are the platform's own and load as they are; ours follow with defaults.
create table resources (
  id uuid primary key default gen_random_uuid(),
  name varchar(255) not null check (name <> ''),
  resource_type varchar(50) not null check (resource_type in ('ec2', 'kubernetes')),
  cloud_provider varchar(50) not null check (cloud_provider in ('aws', 'kubernetes')),
  min_instances integer not null check (min_instances >= 0),
  max_instances integer not null,
  current_instances integer not null check (current_instances >= 0),
  target_cpu double precision not null check (target_cpu > 0 and target_cpu <= 100),
  target_memory double precision not null check (target_memory > 0 and target_memory <= 100),
  cooldown_period integer not null check (cooldown_period between 0 and 86400), -- seconds
  created_at timestamptz default now(),

  region text,   -- AWS; null means the worker's AWS_REGION and is filled in at the first observation
  cluster text,  -- Kubernetes; a kubeconfig context, null means the current one
  max_scale_up_step integer not null default 3 check (max_scale_up_step between 1 and 100000),
  max_scale_down_step integer not null default 2 check (max_scale_down_step between 1 and 100000),
  scale_down_cooldown integer check (scale_down_cooldown between 0 and 86400), -- seconds; null: cooldown_period
  max_actions_per_hour integer not null default 12 check (max_actions_per_hour between 1 and 3600),
  tolerance double precision not null default 0.1 check (tolerance >= 0 and tolerance < 1),
  stabilization_window integer not null default 300 check (stabilization_window between 0 and 3600), -- seconds
  provisioning_delay integer not null default 120 check (provisioning_delay between 0 and 3600),     -- seconds
  decision_interval integer not null default 60 check (decision_interval between 5 and 3600),        -- seconds
  hourly_price numeric(18, 6) check (hourly_price >= 0), -- USD per unit and hour, overrides the price table
  instance_type text,                                    -- read from the cloud, or given
  cpu_request numeric(12, 3),                            -- vCPU per replica, read from the pod template
  memory_request numeric(14, 6),                         -- GiB per replica
  mode text not null default 'manual' check (mode in ('manual', 'recommend', 'auto')),
  actuation text not null default 'desired' check (actuation in ('desired', 'floor')),
  scale_up_paused_until timestamptz,
  scale_down_paused_until timestamptz,
  version integer not null default 1,   -- of the policy; the ETag
  updated_at timestamptz not null default now(),

  -- What we know and hold of the cloud object; never written by clients.
  epoch bigint not null default 0,      -- fencing token: every begun attempt moves it
  observed_at timestamptz,
  observed_ready integer,
  last_effect_at timestamptz not null default '-infinity',
  last_effect_action text,
  check (max_instances >= min_instances),
  check ((resource_type = 'ec2') = (cloud_provider = 'aws'))
);
-- Two rows for one cloud object would defeat every lock.
create unique index resources_object on resources (cloud_provider, coalesce(region, ''), coalesce(cluster, ''), name);
create index resources_created on resources (created_at, id);

create table metric_samples (
  resource_id uuid not null references resources (id) on delete cascade,
  timestamp timestamptz not null,
  cpu double precision check (cpu >= 0 and cpu <= 10000),         -- percent, mean over the ready instances
  memory double precision check (memory >= 0 and memory <= 10000),
  requests double precision check (requests >= 0 and requests <= 1e12), -- per second, whole resource
  instances integer not null check (instances >= 0),              -- ready when measured
  received_at timestamptz not null default now(),
  primary key (resource_id, timestamp),
  check (cpu is not null or memory is not null or requests is not null)
);
create index metric_samples_retention on metric_samples using brin (timestamp);

create table predictions (
  resource_id uuid not null references resources (id) on delete cascade,
  timestamp timestamptz not null,
  predicted_cpu double precision check (predicted_cpu >= 0 and predicted_cpu <= 10000),
  predicted_memory double precision check (predicted_memory >= 0 and predicted_memory <= 10000),
  predicted_requests double precision check (predicted_requests >= 0 and predicted_requests <= 1e12),
  confidence double precision check (confidence >= 0 and confidence <= 1),
  model_version text,
  instances integer check (instances >= 0), -- the count the percentages were made for; null: current_instances when decided
  created_at timestamptz not null default now(),
  primary key (resource_id, timestamp),
  check (predicted_cpu is not null or predicted_memory is not null or predicted_requests is not null)
);
create index predictions_retention on predictions using brin (timestamp);

create table api_keys (
  id text primary key,
  name text not null,
  secret_hash bytea not null,
  scopes text[] not null check (scopes <@ array['read', 'decide', 'execute', 'admin'] and cardinality(scopes) > 0),
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  rotated_from text references api_keys (id),
  last_used_at timestamptz
);

create table jobs (
  id uuid primary key,
  kind text not null check (kind in ('decide', 'execute')),
  queue text not null check (queue in ('decide', 'execute-aws', 'execute-kubernetes')),
  resource_id uuid not null, -- no foreign key: history outlives the resource
  decision_id uuid,
  input jsonb not null default '{}',
  notify boolean not null default false, -- somebody waits for it: publish the result
  status text not null default 'queued' check (status in ('queued', 'active', 'retrying', 'completed', 'failed')),
  outcome text check (outcome in ('succeeded', 'noop', 'rejected', 'expired', 'superseded', 'cancelled', 'dead')),
  fence integer not null default 0,        -- claims so far; every later write names it
  attempts integer not null default 0,     -- claims that count against max_attempts
  max_attempts integer not null default 5,
  available_at timestamptz not null default now(),
  deadline_at timestamptz not null,
  lease_until timestamptz,
  dispatch_seq integer not null default 0,
  dispatched_at timestamptz not null default now(),
  result jsonb,
  error jsonb,
  actor_key_id text,
  request_id text,
  remote_address text,
  replay_of uuid,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz,
  check ((status in ('completed', 'failed')) = (outcome is not null)),
  check ((status in ('completed', 'failed')) = (finished_at is not null)),
  check (kind <> 'execute' or decision_id is not null)
) with (fillfactor = 80);
create index jobs_due on jobs (available_at) where status in ('queued', 'retrying');
create index jobs_leases on jobs (lease_until) where status = 'active';
create unique index jobs_one_execution on jobs (decision_id) where kind = 'execute' and status in ('queued', 'active', 'retrying');
create index jobs_listing on jobs (created_at desc, id desc);
create index jobs_by_resource on jobs (resource_id, created_at desc);

create table idempotency_keys (
  key_id text not null,
  route text not null,
  idempotency_key text not null,
  body_hash bytea not null,
  job_id uuid,
  response_status integer,
  response_body jsonb,
  response_headers jsonb,
  created_at timestamptz not null default now(),
  primary key (key_id, route, idempotency_key)
);
create index idempotency_keys_retention on idempotency_keys using brin (created_at);

create table scaling_decisions (
  id uuid primary key,
  job_id uuid not null unique,
  resource_id uuid not null,
  seq bigint generated always as identity unique, -- total order of decisions
  decision_type text not null check (decision_type in ('scaleup', 'scaledown', 'noaction')),
  current_instances integer not null check (current_instances >= 0),
  target_instances integer not null check (target_instances >= 0),
  reason text not null,
  reason_code text not null,
  estimated_cost numeric(18, 6) not null,
  confidence double precision not null check (confidence between 0 and 1),
  executed boolean not null default false,
  state text not null check (state in ('none', 'pending', 'executing', 'executed', 'failed', 'expired', 'superseded')),
  explanation jsonb not null,
  inputs jsonb not null,
  engine_version text not null,
  policy_version integer not null,
  expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  check ((decision_type = 'noaction') = (state = 'none')),
  check ((decision_type = 'scaleup') = (target_instances > current_instances)),
  check ((decision_type = 'scaledown') = (target_instances < current_instances)),
  check (executed = (state = 'executed'))
);
create index scaling_decisions_by_resource on scaling_decisions (resource_id, seq desc);

create table attempts (
  id bigint generated always as identity primary key,
  decision_id uuid not null references scaling_decisions (id),
  resource_id uuid not null,
  job_id uuid not null,
  no integer not null,
  epoch bigint not null,
  from_instances integer not null,
  target_instances integer not null check (target_instances >= 0),
  action text not null check (action in ('ScaleUp', 'ScaleDown')),
  state text not null check (state in ('open', 'unknown', 'succeeded', 'not_applied', 'rejected', 'superseded')),
  intent_at timestamptz not null,
  settle_after timestamptz not null, -- an unknown write can no longer land after this
  effect_at timestamptz,
  fence jsonb not null default '{}', -- what the provider needs to recognise its own write (uid, resourceVersion)
  blocked tstzrange not null,        -- [intent, infinity) while open, [intent, effect + cooldown) after success
  unique (decision_id, no)
);
create unique index attempts_one_open on attempts (resource_id) where state in ('open', 'unknown');
create unique index attempts_one_success on attempts (decision_id) where state = 'succeeded';
-- Guards the intent. Closing an attempt only shrinks "blocked", so this can never reject an outcome.
alter table attempts add constraint attempts_cooldown
  exclude using gist (resource_id with =, blocked with &&) where (state in ('open', 'unknown', 'succeeded'));

create table scaling_events (
  id uuid primary key default gen_random_uuid(),
  seq bigint generated always as identity unique,
  resource_id uuid not null,
  decision_id uuid,
  attempt_id bigint,
  phase text not null check (phase in ('intent', 'outcome', 'late_report', 'observed', 'control')),
  outcome text, -- succeeded, inferred, already_satisfied, rejected, not_applied, unknown, superseded, conflict …
  action text check (action in ('ScaleUp', 'ScaleDown')),
  previous_instances integer,
  new_instances integer,
  success boolean,
  error_code text,
  error_message text,
  execution_time_ms integer,
  epoch bigint,
  actor text not null, -- key id, or worker id
  created_at timestamptz not null default clock_timestamp()
);
create unique index scaling_events_one_outcome on scaling_events (attempt_id) where phase = 'outcome';
create unique index scaling_events_one_success on scaling_events (decision_id) where phase = 'outcome' and success;
create index scaling_events_by_resource on scaling_events (resource_id, seq desc);

create table audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null,
  action text not null,
  resource_id uuid,
  subject text,
  request_id text,
  remote_address text,
  detail jsonb not null default '{}'
);

-- scope: 'global', 'provider:aws', 'scope:aws:us-east-1', 'resource:<uuid>'
create table controls (
  scope text primary key,
  stopped boolean not null,
  reason text not null,
  actor text not null,
  updated_at timestamptz not null default clock_timestamp()
);

create table worker_heartbeats (
  worker_id text primary key,
  queues text[] not null,
  version text not null,
  started_at timestamptz not null default now(),
  beat_at timestamptz not null default now()
);

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op using errcode = 'restrict_violation';
end $$;
create trigger scaling_events_append_only before update or delete on scaling_events for each row execute function refuse_change();
create trigger scaling_events_no_truncate before truncate on scaling_events for each statement execute function refuse_change();
create trigger audit_log_append_only before update or delete on audit_log for each row execute function refuse_change();
create trigger audit_log_no_truncate before truncate on audit_log for each statement execute function refuse_change();

create function terminal_is_absorbing() returns trigger language plpgsql as $$
begin
  raise exception 'job % is finished (%): it never changes again', old.id, old.status using errcode = 'restrict_violation';
end $$;
create trigger jobs_terminal before update on jobs for each row
  when (old.status in ('completed', 'failed')) execute function terminal_is_absorbing();
