-- Up Migration
-- What one instance was when a sample was measured or a prediction made, where that is known: after a change of type or of
-- requests, demand of before is converted into today's instances, not learnt anew as a level shift.
alter table metric_samples
  add column requests_total double precision check (requests_total >= 0 and requests_total <= 1e18), -- a counter that only rises, and begins anew at restarts
  add column instance_type text,
  add column cpu_request numeric(12, 3),    -- vCPU per replica
  add column memory_request numeric(14, 6), -- GiB per replica
  drop constraint metric_samples_check,
  -- Rows of before were checked more strictly: no need to read them all.
  add constraint metric_samples_check
    check (cpu is not null or memory is not null or requests is not null or requests_total is not null) not valid;
alter table predictions
  add column instance_type text,
  add column cpu_request numeric(12, 3),
  add column memory_request numeric(14, 6);

-- What one instance was worth to the forecaster that is stored: its demand is in such instances.
alter table forecasts
  add column unit_vcpu double precision,
  add column unit_gib double precision;
