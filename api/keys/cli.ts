import { parseArgs } from 'node:util';
import { createPool } from '../../shared/db/pool.ts';
import { scopes as allScopes } from '../../shared/domain/api-key.ts';
import { errorMessage } from '../../shared/errors.ts';
import { createKeyBody } from './contract.ts';
import { createKey, type KeyRow, listKeys, revokeKey } from './keys-store.ts';

const createOptions = `--name NAME --scopes ${allScopes.join(',')} [--expires-days 90] [--selectors JSON]`;
const help = `Usage: npm run keys -- create ${createOptions}
       npm run keys -- list
       npm run keys -- revoke ID

Needs DATABASE_URL, and API_KEY_PEPPER as the API has it. A new key is shown once. Without --selectors it may touch
every resource; with them only those that fit, e.g. '[{"provider":"aws","scope":"us-east-1","name":"shop-*"}]'.`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      name: { type: 'string' },
      scopes: { type: 'string' },
      'expires-days': { type: 'string' },
      selectors: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  const [command, id] = positionals;
  if (values.help === true || command === undefined) {
    console.log(help);
    return;
  }
  const url = process.env.DATABASE_URL;
  if (!url) throw new Error('set DATABASE_URL');
  const pool = createPool(url, { name: 'scaler-keys', size: 1 });
  try {
    if (command === 'create') {
      const { name, scopes, selectors, expires_days } = createKeyBody.parse({
        name: values.name,
        scopes: (values.scopes ?? '').split(','),
        selectors: JSON.parse(values.selectors ?? 'null'),
        expires_days: Number(values['expires-days'] ?? 90),
      });
      const { key, row } = await createKey(pool, process.env.API_KEY_PEPPER ?? '', {
        name,
        scopes,
        selectors,
        days: expires_days,
      });
      console.log(
        `${key}\n(${row.name}: ${row.scopes.join(', ')}, until ${row.expires_at}; shown this once)`,
      );
    } else if (command === 'list') {
      for (const row of await listKeys(pool)) console.log(keyLine(row));
    } else if (command === 'revoke' && id !== undefined) {
      if (!(await revokeKey(pool, id))) throw new Error(`there is no live key ${id}`);
      console.log(`revoked ${id}`);
    } else throw new Error(`unknown command ${command}: see --help`);
  } finally {
    await pool.end();
  }
}

function keyLine(row: KeyRow): string {
  const revoked = row.revoked_at === null ? '' : '  revoked';
  const selectors = row.selectors === null ? '' : `  only ${JSON.stringify(row.selectors)}`;
  return `${row.id}  ${row.name}  ${row.scopes.join(',')}  until ${row.expires_at}${revoked}${selectors}`;
}

main().catch((error: unknown) => {
  console.error(`keys: ${errorMessage(error)}`);
  process.exit(1);
});
