import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';

export interface ApplicationUser {
  readonly url: string;
  drop(): Promise<void>;
}

/** A login user of its own with one of the application roles, as production has them. @param url of the database. */
export async function createApplicationUser(url: string, role: string): Promise<ApplicationUser> {
  const name = `user_${randomUUID().replaceAll('-', '')}`;
  const password = randomUUID();
  await asAdministrator(`create role ${name} login password '${password}' in role ${role}`);
  const own = new URL(url);
  own.username = name;
  own.password = password;
  return { url: own.href, drop: () => asAdministrator(`drop role ${name}`) };
}

async function asAdministrator(sql: string): Promise<void> {
  const client = new pg.Client(inject('databaseUrl'));
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
