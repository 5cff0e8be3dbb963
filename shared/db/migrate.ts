import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { PG_MIGRATE_LOCK_ID, runner } from 'node-pg-migrate';
import pg from 'pg';
import { errorMessage } from '../errors.ts';
import { projectRoot } from '../project-root.ts';
import { applyGrants, ensureLogin } from './grants.ts';
import { withoutLimits } from './session.ts';

/**
 * Brings the database to this release's schema: every file of db/migrations not yet applied, each in a transaction,
 * under a lock for which a second run waits; then the privileges of the application roles.
 * @param count at most this many migrations; for tests of older schemas.
 * @returns the names of the migrations applied now.
 */
export async function migrate(databaseUrl: string, count = Number.POSITIVE_INFINITY): Promise<string[]> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    // The lock is the transaction's: behind a pooler one of the session's would stay in a session that is no longer ours.
    await client.query(`begin; ${withoutLimits}`);
    await client.query(`select pg_advisory_xact_lock(${PG_MIGRATE_LOCK_ID})`);
    const applied = await runner({
      databaseUrl,
      dir: join(projectRoot(), 'shared/db/migrations'),
      migrationsTable: 'schema_migrations',
      direction: 'up',
      count,
      noLock: true,
      logger: { debug() {}, info() {}, warn: console.warn, error: console.error },
    });
    const missing = await applyGrants(client);
    await client.query('commit');
    if (missing.length > 0)
      console.warn(
        `migrate: this user may not create roles, so ${missing.join(', ')} got no privileges: have an administrator run \`create role … nologin\` for each, then migrate again. As the tables' owner everything works without them.`,
      );
    return applied.map((migration) => migration.name);
  } finally {
    await client.end();
  }
}

/** Users that the processes of a deployment log in as: their name, and the variable with their password. */
const logins = [
  { role: 'scaler_api', login: 'scaler_api_login', variable: 'API_DATABASE_PASSWORD' },
  { role: 'scaler_worker', login: 'scaler_worker_login', variable: 'WORKER_DATABASE_PASSWORD' },
] as const;

/** @returns the users that were made, or given their password. */
async function makeLogins(databaseUrl: string): Promise<string[]> {
  const wanted = logins.flatMap(({ role, login, variable }) => {
    const password = process.env[variable];
    return password === undefined || password === '' ? [] : [{ role, login, password }];
  });
  if (wanted.length === 0) return [];
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    for (const { role, login, password } of wanted) await ensureLogin(client, role, login, password);
  } finally {
    await client.end();
  }
  return wanted.map(({ login }) => login);
}

const help = `Usage: npm run migrate

  Brings the database in DATABASE_URL to this release's schema, and sets the privileges of its roles. Needs the rights
  of the database's owner. With API_DATABASE_PASSWORD and WORKER_DATABASE_PASSWORD it makes the users scaler_api_login
  and scaler_worker_login, or gives them these passwords; for that it must be allowed to create roles.

  --help   this text`;

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { values } = parseArgs({ options: { help: { type: 'boolean' } } });
    if (values.help === true) {
      console.log(help);
      process.exit(0);
    }
    const url = process.env.DATABASE_URL;
    if (url === undefined || url === '') {
      console.error(
        'migrate: set DATABASE_URL to the database to migrate, e.g. postgres://user:password@host:5432/scaler',
      );
      process.exit(2);
    }
    const names = await migrate(url);
    console.log(names.length === 0 ? 'migrate: nothing to do' : `migrate: applied ${names.join(', ')}`);
    const made = await makeLogins(url);
    if (made.length > 0)
      console.log(`migrate: ${made.join(', ')} may log in, with no more rights than needed`);
  } catch (error) {
    console.error(`migrate: ${errorMessage(error)}`);
    process.exit(1);
  }
}
