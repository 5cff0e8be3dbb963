-- Up Migration
-- Whether its environment stops a worker (SCALER_STOP): it can only be seen there.
alter table worker_heartbeats add column stopped boolean not null default false;
-- The request that an event goes back to; the audit log has its key, scope and address. Nullable: no old hash changes.
alter table scaling_events add column request_id text;
