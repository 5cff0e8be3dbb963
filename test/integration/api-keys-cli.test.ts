import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parseKey } from '../../api/keys/api-key.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { forFile } from '../support/for-file.ts';
import { openTestPool } from '../support/test-database.ts';

const { pool, url } = forFile(await openTestPool(1));

/** Runs `npm run keys -- …`. @throws with what it wrote when it ends with another status than 0. */
async function keys(...args: string[]): Promise<string> {
  const program = join(projectRoot(), 'dist/api/keys/cli.js');
  const env = { ...process.env, DATABASE_URL: url, API_KEY_PEPPER: 'a pepper for tests' };
  return (await promisify(execFile)(process.execPath, [program, ...args], { env })).stdout;
}

describe('the keys program', () => {
  it('makes keys with selectors, lists and revokes them', async () => {
    const selectors = [{ provider: 'aws', scope: 'eu-west-1', name: 'shop-*' }];
    const made = await keys(
      ...['create', '--name', 'shop', '--scopes', 'read,execute', '--selectors', JSON.stringify(selectors)],
    );
    const id = parseKey(made.split('\n')[0] as string)?.id;
    expect(id).toBeDefined();
    expect(await keys('list')).toMatch(new RegExp(`${id} .*only .*"name":"shop-\\*"`));
    expect(await keys('revoke', id as string)).toContain('revoked');
    expect(await keys('list')).toMatch(new RegExp(`${id} .*revoked`));
  });

  it.each([
    [['--selectors', '[{"nmae":"x"}]']],
    [['--selectors', 'shop-*']],
    [['--expires-days', '91']],
    [['--scopes', 'everything']],
  ])('makes none with %j', async (wrong) => {
    await expect(keys('create', '--name', 'wrong', '--scopes', 'read,admin', ...wrong)).rejects.toThrow(
      'keys: ',
    );
    expect((await pool.query(`select 1 from api_keys where name = 'wrong'`)).rowCount).toBe(0);
  });
});
