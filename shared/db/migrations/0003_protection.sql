-- Up Migration
-- Releasing a stop takes two steps and begins with looking on. `stopped` stays true until the end of that, so that a worker
-- of an earlier release, which knows only this column, keeps still.
alter table controls
  add column release_code text,               -- asked for, to be sent back; one use
  add column release_code_until timestamptz,
  add column observe_until timestamptz,       -- released, but only observing until then
  add constraint controls_observing check (observe_until is null or stopped);
create view active_stops as
  select scope, reason, actor, updated_at, observe_until from controls
  where stopped and coalesce(observe_until, 'infinity') > clock_timestamp();

-- When nothing may be scaled in (or out): a recurring window in a time zone, or one from a moment to another.
create table freezes (
  id uuid primary key default gen_random_uuid(),
  scope text not null,
  direction text not null default 'down' check (direction in ('up', 'down', 'both')),
  schedule text,                              -- five cron fields: when it begins, in time_zone
  time_zone text not null default 'UTC',
  duration_minutes integer check (duration_minutes between 1 and 44640),
  starts_at timestamptz,
  ends_at timestamptz,
  reason text not null,
  actor text not null,
  created_at timestamptz not null default clock_timestamp(),
  check ((schedule is null) = (duration_minutes is null)),
  check ((schedule is null) = (starts_at is not null and ends_at is not null)),
  check (ends_at > starts_at)
);

-- What all resources of a scope together may do. The row 'default' holds for every region and cluster without a row of its own.
create table fleet_limits (
  scope text primary key,
  window_seconds integer not null default 600 check (window_seconds between 1 and 86400),
  scale_in_percent double precision not null default 10 check (scale_in_percent between 0 and 100), -- of the instances at the window's start
  scale_in_floor integer not null default 4 check (scale_in_floor between 0 and 100000),           -- instances; what small fleets may always give back
  change_percent double precision not null default 200 check (change_percent between 0 and 100000), -- in and out together
  change_floor integer not null default 100 check (change_floor between 0 and 1000000),
  correlated_percent double precision not null default 60 check (correlated_percent between 0 and 100), -- of the resources; 100 never holds
  correlated_minimum integer not null default 10 check (correlated_minimum between 2 and 100000),       -- resources; fewer are no sign
  hold_seconds integer not null default 1800 check (hold_seconds between 0 and 86400),
  reason text not null,
  actor text not null,
  updated_at timestamptz not null default clock_timestamp()
);
insert into fleet_limits (scope, reason, actor) values ('default', 'as delivered', 'migration');

-- A scope in which too many wanted to scale in at once: held until `held_until`, not again before `quiet_until`.
create table fleet_holds (
  scope text primary key,
  tripped_at timestamptz not null default clock_timestamp(),
  held_until timestamptz not null,
  quiet_until timestamptz not null,
  wanting integer not null,
  resources integer not null,
  released_by text,
  release_reason text
);

-- One circuit for each region and cluster, for all workers together.
create table circuits (
  scope text primary key,
  failures integer not null default 0,  -- in a row
  opens integer not null default 0,     -- in a row: each waits twice as long
  opened_at timestamptz,
  open_until timestamptz,
  probe_until timestamptz,              -- one worker is trying
  last_code text,
  last_message text,
  updated_at timestamptz not null default clock_timestamp()
);

alter table resources
  add column max_reversals_per_half_hour integer not null default 3 check (max_reversals_per_half_hour between 1 and 3600);

-- Where an attempt counts. Filled in here, so that what a worker of an earlier release does counts, too.
alter table attempts add column scope text;
update attempts a set scope = 'scope:' || r.cloud_provider || ':' || coalesce(r.region, r.cluster, '') from resources r where r.id = a.resource_id;
create index attempts_by_scope on attempts (scope, intent_at);
create function attempt_scope() returns trigger language plpgsql as $$
begin
  select 'scope:' || cloud_provider || ':' || coalesce(region, cluster, '') into new.scope from resources where id = new.resource_id;
  return new;
end $$;
create trigger attempts_scope before insert on attempts for each row execute function attempt_scope();
-- The guard against correlated scale-in counts these, and few decisions are.
create index scaling_decisions_scale_in on scaling_decisions (created_at) where decision_type = 'scaledown';
