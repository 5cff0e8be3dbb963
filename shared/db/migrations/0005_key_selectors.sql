-- Up Migration
-- Which resources a key may see and touch: a list of {provider, scope, name, resource_id}, each optional; null: all of them.
alter table api_keys add column selectors jsonb
  check (selectors is null or (jsonb_typeof(selectors) = 'array' and jsonb_array_length(selectors) between 1 and 50));

-- True when one of the selectors names the resource. In `name` only * has a meaning: any number of characters.
-- A resource without a region or cluster is covered only by selectors that name none.
create function selectors_cover(selectors jsonb, provider text, scope text, name text, resource_id uuid) returns boolean
language sql immutable parallel safe as $$
  select selectors is null or exists (
    select 1 from jsonb_array_elements(selectors) as s
    where coalesce(s ->> 'provider' = provider, s ->> 'provider' is null)
      and coalesce(s ->> 'scope' = scope, s ->> 'scope' is null)
      and coalesce((s ->> 'resource_id')::uuid = resource_id, s ->> 'resource_id' is null)
      and coalesce(name like replace(replace(replace(replace(s ->> 'name', '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'), s ->> 'name' is null))
$$;
