-- Up Migration
-- What posted utilisation is in; null: not declared, taken as percent and doubted where it looks like a ratio.
alter table resources
  add column utilization_unit text check (utilization_unit in ('percent', 'ratio')),
  add column max_sample_age integer check (max_sample_age between 1 and 86400), -- seconds; null: by the data's own rhythm
  add column scale_to_zero_after integer not null default 900 check (scale_to_zero_after between 0 and 86400); -- seconds

-- What the last look at the cloud object showed besides its size: {blocks, removable, mix}; null: nothing of note.
alter table resources add column observed_state json;

-- How CPU and memory were seen to respond to changes of the count: see worker/engine/metric-response.ts. Disposable.
create table metric_responses (
  resource_id uuid primary key references resources (id) on delete cascade,
  state json not null,
  updated_at timestamptz not null default now()
);

-- The unit that the stored forecaster's samples were read in: with another one it is built again.
alter table forecasts add column utilization_unit text;

-- Minimums of autoscalers and groups that actuation "floor" has moved. Without a foreign key: a lease outlives its resource.
create table floor_leases (
  resource_id uuid primary key,
  cloud_provider text not null check (cloud_provider in ('aws', 'kubernetes')),
  region text,
  cluster text,
  name text not null,
  previous_min integer not null check (previous_min >= 0), -- before the first change
  ours integer[] not null,                                 -- what was asked for since
  raised_at timestamptz not null default now(),
  expires_at timestamptz not null,
  claimed_until timestamptz
);
