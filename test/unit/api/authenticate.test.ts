import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { generateKey, hashSecret } from '../../../api/keys/api-key.ts';
import { Authenticator } from '../../../api/middleware/authenticate.ts';

describe('the authenticator', () => {
  it('asks the database once for a key that many requests bring at the same moment', async () => {
    const { id, secret, key } = generateKey();
    let questions = 0;
    const pool = {
      query: async ({ name }: { name: string }) => {
        if (name === 'find_live_key') questions++;
        await new Promise(setImmediate);
        const expires_at = new Date(Date.now() + 60_000).toISOString();
        return { rows: [{ id, scopes: ['read'], expires_at, secret_hash: hashSecret(secret, 'pepper') }] };
      },
    } as unknown as pg.Pool;
    const authenticator = new Authenticator(pool, 'pepper');
    const header = `Bearer ${key}`;
    const rows = await Promise.all(Array.from({ length: 50 }, () => authenticator.authenticate(header)));
    expect(rows.map((row) => row.id)).toEqual(Array(50).fill(id));
    expect(questions).toBe(1);
  });
});
