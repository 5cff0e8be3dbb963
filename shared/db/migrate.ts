import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runner } from 'node-pg-migrate';
import { errorMessage } from '../errors.ts';
import { projectRoot } from '../project-root.ts';

/**
 * Brings the database to this release's schema: every file of db/migrations not yet applied, each in a transaction,
 * under a lock so that two runs at once are harmless.
 * @returns the names of the migrations applied now.
 */
export async function migrate(databaseUrl: string): Promise<string[]> {
  const applied = await runner({
    databaseUrl,
    dir: join(projectRoot(), 'shared/db/migrations'),
    migrationsTable: 'schema_migrations',
    direction: 'up',
    count: Number.POSITIVE_INFINITY,
    logger: { debug() {}, info() {}, warn: console.warn, error: console.error },
  });
  return applied.map((migration) => migration.name);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const url = process.env.DATABASE_URL;
  if (url === undefined || url === '') {
    console.error(
      'migrate: set DATABASE_URL to the database to migrate, e.g. postgres://user:password@host:5432/scaler',
    );
    process.exit(2);
  }
  try {
    const names = await migrate(url);
    console.log(names.length === 0 ? 'migrate: nothing to do' : `migrate: applied ${names.join(', ')}`);
  } catch (error) {
    console.error(`migrate: ${errorMessage(error)}`);
    process.exit(1);
  }
}
