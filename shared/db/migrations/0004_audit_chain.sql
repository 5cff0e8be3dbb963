-- Up Migration
-- History that shows when it was bent, and workers that know when they are too old. docs/audit.md describes the format.

-- Where each chain ends. Only the trigger below writes it; its row lock puts the rows of one chain in one order.
create table audit_heads (
  chain text primary key, -- 'events:<resource>', 'audit:<resource>', 'audit:global'
  length bigint not null check (length >= 0),
  hash bytea not null check (octet_length(hash) = 32)
) with (fillfactor = 50); -- rewritten with every row of history: leaves room to do so in place

/*
 * Hash of a row: SHA-256 over netstrings ("5:value,") of the format's name, the table's name, and then of name and value of
 * every column that is not null, in the order of the names' bytes. Nulls are left out, so that a nullable column added
 * later changes no old hash.
 */
create function audit_hash(table_name text, fields jsonb) returns bytea language plpgsql immutable as $$
begin
  return (
    select sha256(convert_to('14:scaler-audit-1,' || octet_length(table_name) || ':' || table_name || ','
      || string_agg(octet_length(convert_to(key, 'UTF8')) || ':' || key || ',' || octet_length(convert_to(value, 'UTF8')) || ':' || value || ',', ''
        order by key collate "C"), 'UTF8'))
    from jsonb_each_text(fields) where value is not null);
end $$;

/*
 * Gives a new row its place in its chain, behind the head, which stays locked until the commit, or behind the rows that
 * this statement has inserted already. As the owner, because no application role may write audit_heads; whatever the
 * application gives for these columns is replaced. The row's number is drawn after the lock, so that numbers rise along a chain.
 */
create function audit_chain() returns trigger language plpgsql security definer
  set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
  place text := tg_argv[0] || ':' || coalesce(new.resource_id::text, 'global');
  head record;
  last record;
begin
  select length, hash into head from audit_heads where chain = place for update;
  if not found then
    insert into audit_heads (chain, length, hash) values (place, 0, decode(repeat('00', 32), 'hex')) on conflict do nothing;
    select length, hash into head from audit_heads where chain = place for update;
  end if;
  if tg_argv[0] = 'events' then
    new.seq := nextval('scaling_events_seq_seq');
    select chain_no, hash into last from scaling_events where resource_id = new.resource_id order by chain_no desc limit 1;
  else
    new.id := nextval('audit_log_id_seq');
    if new.resource_id is null then
      select chain_no, hash into last from audit_log where resource_id is null order by resource_id desc, chain_no desc limit 1; -- as the index has them
    else
      select chain_no, hash into last from audit_log where resource_id = new.resource_id order by chain_no desc limit 1;
    end if;
  end if;
  if last.chain_no > head.length then
    new.chain_no := last.chain_no + 1;
    new.prev_hash := last.hash;
  else
    new.chain_no := head.length + 1;
    new.prev_hash := head.hash;
  end if;
  new.hash := audit_hash(tg_table_name, to_jsonb(new) - 'hash' || jsonb_build_object('prev_hash', encode(new.prev_hash, 'hex')));
  return new;
end $$;

-- Once a statement: a head moved with each row of a long one would be a long trail of dead versions to walk each time.
create function audit_head() returns trigger language plpgsql security definer set search_path = public, pg_temp as $$
declare
  tip record;
begin
  for tip in select distinct on (resource_id) resource_id, chain_no, hash from added order by resource_id, chain_no desc loop
    update audit_heads set length = tip.chain_no, hash = tip.hash
      where chain = tg_argv[0] || ':' || coalesce(tip.resource_id::text, 'global') and length < tip.chain_no;
  end loop;
  return null;
end $$;

-- Else a role could hang them on a table of its own and move a head by that.
revoke execute on function audit_chain(), audit_head() from public;

alter table scaling_events add column chain_no bigint, add column prev_hash bytea, add column hash bytea;
alter table audit_log add column chain_no bigint, add column prev_hash bytea, add column hash bytea;

-- What is there already is chained in the order of its numbers.
alter table scaling_events disable trigger scaling_events_append_only;
alter table audit_log disable trigger audit_log_append_only;
set local timezone = 'UTC';
do $$
declare
  genesis constant bytea := decode(repeat('00', 32), 'hex');
  here text;
  place text;
  n bigint;
  prev bytea;
  own bytea;
  line record;
begin
  for line in select * from scaling_events order by resource_id, seq loop
    place := 'events:' || line.resource_id;
    if place is distinct from here then
      if here is not null then insert into audit_heads values (here, n, prev); end if;
      here := place; n := 0; prev := genesis;
    end if;
    n := n + 1;
    own := audit_hash('scaling_events', to_jsonb(line) - 'hash' || jsonb_build_object('chain_no', n, 'prev_hash', encode(prev, 'hex')));
    update scaling_events set chain_no = n, prev_hash = prev, hash = own where id = line.id;
    prev := own;
  end loop;
  if here is not null then insert into audit_heads values (here, n, prev); end if;
  here := null;
  for line in select * from audit_log order by resource_id, id loop
    place := 'audit:' || coalesce(line.resource_id::text, 'global');
    if place is distinct from here then
      if here is not null then insert into audit_heads values (here, n, prev); end if;
      here := place; n := 0; prev := genesis;
    end if;
    n := n + 1;
    own := audit_hash('audit_log', to_jsonb(line) - 'hash' || jsonb_build_object('chain_no', n, 'prev_hash', encode(prev, 'hex')));
    update audit_log set chain_no = n, prev_hash = prev, hash = own where id = line.id;
    prev := own;
  end loop;
  if here is not null then insert into audit_heads values (here, n, prev); end if;
end $$;
-- ALWAYS: a session that plays replica (session_replication_role) is refused as well.
alter table scaling_events enable always trigger scaling_events_append_only, enable always trigger scaling_events_no_truncate;
alter table audit_log enable always trigger audit_log_append_only, enable always trigger audit_log_no_truncate;

alter table scaling_events alter column chain_no set not null, alter column prev_hash set not null, alter column hash set not null;
alter table audit_log alter column chain_no set not null, alter column prev_hash set not null, alter column hash set not null;
create unique index scaling_events_chain on scaling_events (resource_id, chain_no);
create unique index audit_log_chain on audit_log (resource_id, chain_no) nulls not distinct;
create trigger scaling_events_chain before insert on scaling_events for each row execute function audit_chain('events');
create trigger audit_log_chain before insert on audit_log for each row execute function audit_chain('audit');
create trigger scaling_events_head after insert on scaling_events referencing new table as added
  for each statement execute function audit_head('events');
create trigger audit_log_head after insert on audit_log referencing new table as added
  for each statement execute function audit_head('audit');

-- The oldest worker that may still work. 1 is every release before this one, which says nothing about itself.
create table fleet_settings (
  id boolean primary key default true check (id),
  min_worker_version integer not null check (min_worker_version >= 1),
  reason text not null default 'as installed',
  actor text not null default 'migration',
  updated_at timestamptz not null default clock_timestamp()
);
insert into fleet_settings (min_worker_version) values (1);

alter table worker_heartbeats add column worker_version integer not null default 1;
alter table attempts add column worker_version integer not null default 1;
-- A claim that sets it to its own fence has compared versions itself.
alter table jobs add column checked_fence integer not null default 0;

-- A release that does not compare finds nothing to claim, which it takes for somebody else's work.
create function skip_outdated_claim() returns trigger language plpgsql as $$
begin
  if (select min_worker_version from public.fleet_settings) > 1 then return null; end if;
  return new;
end $$;
create trigger jobs_outdated_claim before update on jobs for each row
  when (new.status = 'active' and new.fence > old.fence and new.checked_fence <> new.fence) execute function skip_outdated_claim();

-- And once more where it counts. The constraint's name is one that every release takes for "busy": the job is given back.
create function refuse_outdated_worker() returns trigger language plpgsql as $$
declare
  needed integer;
begin
  select min_worker_version into needed from public.fleet_settings;
  if new.worker_version < needed then
    raise exception 'worker version % is older than %, the oldest that may act: upgrade the worker', new.worker_version, needed
      using errcode = 'restrict_violation', constraint = 'attempts_one_open';
  end if;
  return new;
end $$;
create trigger attempts_outdated_worker before insert on attempts for each row execute function refuse_outdated_worker();
