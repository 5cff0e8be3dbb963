-- Up Migration
-- Rows in the platform's format keep its meaning of a target; 'risk' plans with the tolerated risk alone.
alter table resources
  add column planning text not null default 'target' check (planning in ('target', 'risk')),
  add column max_utilization double precision not null default 90 check (max_utilization > 0 and max_utilization <= 100), -- percent
  add column tolerated_risk double precision not null default 0.02 check (tolerated_risk between 0.001 and 0.5), -- share of time above max_utilization
  -- What a missing instance-minute costs, in idle instance-minutes; takes the place of tolerated_risk where it is set.
  add column shortage_price double precision check (shortage_price between 1 and 999);

-- What the forecaster of a resource has learnt. Disposable: it is built again from metric_samples.
create table forecasts (
  resource_id uuid primary key references resources (id) on delete cascade,
  format integer not null,           -- of state; another release may not read it
  step_ms integer not null,
  horizon_steps integer not null,
  metrics text[] not null,
  newest timestamptz,                -- the step taken in last; an older state never replaces a newer one
  state bytea not null,
  forecast jsonb,                    -- the newest forecast, as the API shows it
  forecast_at timestamptz,
  saved_at timestamptz not null default now()
);
-- Numbers do not compress, and trying costs more than it saves.
alter table forecasts alter column state set storage external;

alter table jobs drop constraint jobs_kind_check, drop constraint jobs_queue_check;
alter table jobs
  add constraint jobs_kind_check check (kind in ('decide', 'execute', 'forecast', 'simulate', 'verify')),
  add constraint jobs_queue_check check (queue in ('decide', 'execute-aws', 'execute-kubernetes', 'forecast'));

-- A claim changes the status of every job, and an index whose condition names the status would have to be written each time,
-- with all the others. What does not change until the job is over lets PostgreSQL update the row in place (HOT).
alter table jobs add column finished boolean generated always as (status in ('completed', 'failed')) stored;
drop index jobs_due, jobs_leases, jobs_one_execution;
create index jobs_unfinished on jobs (queue, available_at) where not finished;
create unique index jobs_one_execution on jobs (decision_id) where kind = 'execute' and not finished;
create unique index jobs_one_forecast on jobs (resource_id) where kind = 'forecast' and not finished;

-- Written with every decision and read whole: kept as they come, not taken apart.
alter table scaling_decisions alter column inputs type json using inputs::json, alter column explanation type json using explanation::json;
