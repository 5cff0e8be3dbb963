import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../deploy/local/postgres.ts';
import { serverHome } from '../../deploy/local/postgres-user.ts';
import { migrate } from '../../shared/db/migrate.ts';
import { createPool, isDatabaseAway } from '../../shared/db/pool.ts';

const missing =
  spawnSync('openssl', ['version']).status === 0 ? '' : ' (skipped: openssl is not on the PATH)';

describe.skipIf(missing !== '')(`PostgreSQL over TLS, sslmode=verify-full${missing}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'scaler-tls-'));
  let postgres: EmbeddedPostgres;
  let home: ReturnType<typeof serverHome>;
  const file = (name: string) => join(home.folder, name);
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });

  /** A certificate authority of its own, and a certificate for `localhost` by it. */
  function makeCertificates(): void {
    const newKey = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    for (const ca of ['ca', 'other'])
      openssl(...newKey, '-keyout', file(`${ca}.key`), '-out', file(`${ca}.crt`), '-subj', `/CN=${ca}`);
    openssl(
      ...newKey,
      ...['-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-subj', '/CN=server'],
      ...['-addext', 'subjectAltName=DNS:localhost', '-addext', 'basicConstraints=critical,CA:FALSE'],
      ...['-keyout', file('server.key'), '-out', file('server.crt')],
    );
    if (home.user !== undefined)
      for (const name of ['server.key', 'server.crt']) chownSync(file(name), home.user.uid, home.user.gid);
  }

  beforeAll(async () => {
    const dataDir = join(folder, 'postgres');
    home = serverHome(dataDir, () => {});
    makeCertificates();
    const settings = { ssl: 'on', ssl_cert_file: file('server.crt'), ssl_key_file: file('server.key') };
    postgres = await startEmbeddedPostgres({ dataDir, settings, log: () => {} });
  });
  afterAll(async () => {
    await postgres?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  function url(authority: string, host = 'localhost'): string {
    const to = new URL(postgres.url);
    to.hostname = host;
    to.search = `?sslmode=verify-full&sslrootcert=${encodeURIComponent(file(authority))}`;
    return to.href;
  }

  it('is encrypted, for `migrate` as well, also when the file of authorities is gone meanwhile', async () => {
    expect(await migrate(url('ca.crt'))).not.toEqual([]);
    copyFileSync(file('ca.crt'), file('gone.crt'));
    const pool = createPool(url('gone.crt'), { name: 'tls-test', size: 1 });
    rmSync(file('gone.crt'));
    const { rows } = await pool.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()');
    await pool.end();
    expect(rows).toEqual([{ ssl: true }]);
  });

  it.each([
    ['another authority', 'other.crt', 'localhost', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    ['another host', 'ca.crt', '127.0.0.1', 'ERR_TLS_CERT_ALTNAME_INVALID'],
  ])('does not trust a certificate for %s', async (_what, authority, host, code) => {
    const pool = createPool(url(authority, host), { name: 'tls-test', size: 1 });
    const failure = await pool.query('select 1').catch((error: unknown) => error);
    await pool.end();
    expect(failure).toMatchObject({
      message: `PostgreSQL gives us no session: its TLS certificate is not accepted (${code})`,
    });
    expect(isDatabaseAway(failure)).toBe(true);
  });

  it('says at the start which file of authorities it cannot read', () => {
    expect(() => createPool(url('none.crt'), { name: 'tls-test' })).toThrow(/^DATABASE_URL: .*none\.crt/);
  });
});
