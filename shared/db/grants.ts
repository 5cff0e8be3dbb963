import pg from 'pg';
import { constraintOf, type Queryable } from './pool.ts';
import { sessionLimits } from './session.ts';

/** Group roles without login: production grants them to the users its processes log in as. */
export const applicationRoles = ['scaler_api', 'scaler_worker', 'scaler_auditor'] as const;
type ApplicationRole = (typeof applicationRoles)[number];

/** True: the whole table; else all columns but these, among them those of later migrations. */
type Right = true | { readonly except: readonly string[] };
type Rights = Partial<Readonly<Record<'select' | 'insert' | 'update' | 'delete', Right>>>;

const read: Rights = { select: true };
const readAndWrite: Rights = { select: true, insert: true, update: true, delete: true };
/** What the database alone says of a row of history: its time, its number and its place in the chain. */
const appendEvents: Rights = {
  select: true,
  insert: { except: ['id', 'seq', 'created_at', 'chain_no', 'prev_hash', 'hash'] },
};
const appendAudit: Rights = {
  select: true,
  insert: { except: ['id', 'at', 'chain_no', 'prev_hash', 'hash'] },
};
/** What only the worker that acts on a cloud object may move. */
const held = [
  ...['epoch', 'observed_at', 'observed_ready', 'observed_state'],
  ...['last_effect_at', 'last_effect_action'],
];
/** What binds the worker, and so is not for the worker to change. */
const limits = [
  ...['id', 'name', 'resource_type', 'cloud_provider', 'min_instances', 'max_instances', 'cooldown_period'],
  ...['max_scale_up_step', 'max_scale_down_step', 'scale_down_cooldown', 'max_actions_per_hour', 'mode'],
  'max_reversals_per_half_hour',
  ...['scale_up_paused_until', 'scale_down_paused_until', 'version'],
];

/** Who may do what with which table: every table is here, with nothing said for those a role has no business with. */
export const privileges: Readonly<Record<string, Partial<Record<ApplicationRole, Rights>>>> = {
  resources: {
    scaler_api: { select: true, insert: true, update: { except: ['id', ...held] }, delete: true },
    scaler_worker: { select: true, update: { except: limits } },
  },
  metric_samples: {
    scaler_api: { select: true, insert: true, update: true },
    scaler_worker: { select: true, delete: true },
  },
  floor_leases: { scaler_worker: readAndWrite },
  metric_responses: { scaler_worker: { select: true, insert: true, update: true } },
  predictions: {
    scaler_api: { select: true, insert: true, update: true },
    scaler_worker: { select: true, delete: true },
  },
  api_keys: {
    scaler_api: { select: true, insert: true, update: true },
    scaler_worker: { select: { except: ['secret_hash'] } },
  },
  jobs: {
    scaler_api: { select: true, insert: true },
    // Deletes what is older than HISTORY_RETENTION_DAYS; a foreign key keeps decisions that were tried on a cloud.
    scaler_worker: readAndWrite,
  },
  idempotency_keys: { scaler_api: readAndWrite, scaler_worker: { select: true, delete: true } },
  scaling_decisions: { scaler_api: read, scaler_worker: readAndWrite },
  attempts: { scaler_api: read, scaler_worker: { select: true, insert: true, update: true } },
  scaling_events: { scaler_api: read, scaler_worker: appendEvents, scaler_auditor: read },
  audit_log: { scaler_api: appendAudit, scaler_worker: appendAudit, scaler_auditor: read },
  audit_heads: { scaler_api: read, scaler_auditor: read },
  controls: { scaler_api: { select: true, insert: true, update: true }, scaler_worker: read },
  active_stops: { scaler_api: read, scaler_worker: read },
  freezes: { scaler_api: { select: true, insert: true, delete: true }, scaler_worker: read },
  fleet_limits: { scaler_api: readAndWrite, scaler_worker: read },
  fleet_holds: {
    scaler_api: { select: true, update: true },
    scaler_worker: { select: true, insert: true, update: true },
  },
  circuits: { scaler_api: read, scaler_worker: { select: true, insert: true, update: true } },
  fleet_settings: { scaler_api: { select: true, update: { except: ['id'] } }, scaler_worker: read },
  worker_heartbeats: { scaler_api: read, scaler_worker: readAndWrite },
  forecasts: { scaler_api: read, scaler_worker: readAndWrite },
  schema_migrations: { scaler_api: read, scaler_worker: read, scaler_auditor: read },
};

/**
 * Makes the application roles if they are missing and sets their privileges to exactly those above, on the tables there
 * are. Run by every migration, so that a restored database gets them as well.
 * @returns the roles that are missing still, because this user may not create roles.
 */
export async function applyGrants(tx: pg.ClientBase): Promise<ApplicationRole[]> {
  const missing: ApplicationRole[] = [];
  for (const role of applicationRoles) {
    if (!(await ensureRole(tx, role))) missing.push(role);
  }
  const columns = await columnsByTable(tx);
  for (const [table, rights] of Object.entries(privileges)) {
    const present = columns.get(table);
    if (present === undefined) continue;
    for (const role of applicationRoles.filter((name) => !missing.includes(name))) {
      await tx.query(`revoke all on table public.${table} from ${role}`);
      for (const [action, right] of Object.entries(rights[role] ?? {})) {
        const named = right === true ? '' : ` (${present.filter((name) => !right.except.includes(name))})`;
        await tx.query(`grant ${action}${named} on table public.${table} to ${role}`);
      }
    }
  }
  return missing;
}

/** Roles belong to the whole server: another database's migration may make the same one at this moment. */
async function ensureRole(tx: pg.ClientBase, role: ApplicationRole): Promise<boolean> {
  if ((await tx.query('select 1 from pg_roles where rolname = $1', [role])).rowCount === 1) return true;
  await tx.query('savepoint new_role');
  try {
    await tx.query(`create role ${role} nologin`);
    await tx.query('release savepoint new_role');
    return true;
  } catch (error) {
    await tx.query('rollback to savepoint new_role');
    const code = constraintOf(error)?.code;
    if (code === '42710' || code === '23505') return true; // made meanwhile
    if (code === '42501') return false; // not ours to make
    throw error;
  }
}

/**
 * Makes a user that a process logs in as, with the rights of an application role and nothing of its own, or gives the
 * user that is there its password (and takes away what made it more).
 */
export async function ensureLogin(
  client: pg.ClientBase,
  role: ApplicationRole,
  login: string,
  password: string,
): Promise<void> {
  const name = pg.escapeIdentifier(login);
  const known = await client.query('select 1 from pg_roles where rolname = $1', [login]);
  if (known.rowCount === 0) await client.query(`create role ${name}`);
  await client.query(
    `alter role ${name} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls password ${pg.escapeLiteral(password)}`,
  );
  await client.query(`grant ${role} to ${name}`);
  // Behind a pooler our sessions cannot have limits of their own.
  for (const [limit, value] of Object.entries(sessionLimits))
    await client.query(`alter role ${name} set ${limit} = '${value}'`);
}

async function columnsByTable(db: Queryable): Promise<Map<string, string[]>> {
  const { rows } = await db.query<{ table: string; columns: string[] }>(
    `select c.relname as table, array_agg(a.attname::text order by a.attnum) as columns
      from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') group by c.relname`,
  );
  return new Map(rows.map((row) => [row.table, row.columns]));
}
