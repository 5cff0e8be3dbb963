import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { projectRoot } from '../../shared/project-root.ts';

const root = projectRoot();
const compose = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true });

describe('docker-compose.yml', () => {
  it('has every part of the service, each in its right order', () => {
    expect(Object.keys(compose.services).sort()).toEqual(['api', 'migrate', 'postgres', 'redis', 'worker']);
    for (const name of ['api', 'worker']) {
      expect(compose.services[name].depends_on.migrate.condition).toBe('service_completed_successfully');
      expect(compose.services[name].depends_on.redis.condition).toBe('service_healthy');
    }
  });

  it('gives everything that stays up a health check, and nothing privileges', () => {
    for (const name of ['postgres', 'redis', 'api', 'worker'])
      expect(compose.services[name].healthcheck.test).toBeDefined();
    for (const name of ['api', 'worker', 'migrate']) {
      expect(compose.services[name]).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      });
    }
    expect(JSON.stringify(compose)).not.toContain('privileged":true');
  });

  it('lets nobody but migrate log in as the owner of the tables', () => {
    const user = (name: string) =>
      new URL(compose.services[name].environment.DATABASE_URL.replace(/\$\{.*?\}/, 'x')).username;
    expect(['migrate', 'api', 'worker'].map(user)).toEqual([
      'scaler',
      'scaler_api_login',
      'scaler_worker_login',
    ]);
    expect(compose.services.migrate.environment).toMatchObject({
      API_DATABASE_PASSWORD: expect.any(String),
      WORKER_DATABASE_PASSWORD: expect.any(String),
    });
  });

  it('lets workers be added and Redis never evict', () => {
    expect(compose.services.worker.container_name).toBeUndefined();
    expect(compose.services.worker.ports).toBeUndefined();
    expect(compose.services.redis.command.join(' ')).toContain(
      '--maxmemory-policy noeviction --appendonly yes',
    );
  });

  it('starts programs that exist', () => {
    for (const name of ['api', 'worker', 'migrate']) {
      const program = compose.services[name].command[1] as string;
      expect(existsSync(join(root, program.replace(/^dist\//, '').replace(/\.js$/, '.ts'))), program).toBe(
        true,
      );
    }
  });
});

describe('the runbook', () => {
  it('names metrics that there are, and a code or name for each that alarms', () => {
    const sources = [
      'shared/observability/metrics.ts',
      'api/app.ts',
      'api/compose.ts',
      'api/audit/audit-trail.ts',
    ]
      .map((file) => readFileSync(join(root, file), 'utf8'))
      .join('');
    const runbook = readFileSync(join(root, 'docs/how-to/runbook.md'), 'utf8');
    const named = new Set(
      [...runbook.matchAll(/scaler_(?!api\b|worker\b|auditor\b|owner\b|api_login|worker_login)\w+/g)].map(
        ([name]) => name.replace(/_count$/, ''),
      ),
    );
    expect(named.size).toBeGreaterThan(10);
    for (const name of named) expect(sources).toContain(`name: '${name}'`);
  });
});
