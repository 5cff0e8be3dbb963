import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type pg from 'pg';
import { z } from 'zod';
import { errorMessage } from '../../shared/errors.ts';
import { ChainVerifier, chainPrefix, type Finding, type HistoryTable, historyTables } from './hash-chain.ts';
import {
  listMissingTriggers,
  type MissingTrigger,
  readChainedRows,
  readChainHeads,
  withHistorySnapshot,
} from './history-store.ts';
import { PeekableIterator } from './peekable-iterator.ts';
import { VerificationReport, type VerifyOptions, type VerifyResult } from './verification-report.ts';
import { readHeads, verifyFile } from './verify-export.ts';

const help = `Usage: npm run audit:verify -- [--resource ID] [--head FILE] [--file EXPORT] [--json]

  Works every hash of scaling_events and audit_log out again and compares the chains with their heads. Reads the
  database in DATABASE_URL (rights of scaler_auditor are enough), or an export. Status 1 when anything was changed, is
  missing, was put in or stands in the wrong place; 2 when it could not look.

  --resource ID   only the chains of this resource; \`global\` for the rows without one
  --head FILE     heads kept elsewhere (GET /audit/heads): finds a chain that was written again as a whole
  --file EXPORT   verify this file (GET /audit/export) instead of the database
  --json          one JSON object on standard output
  --help          this text`;

/**
 * Verifies the chains of a database in one snapshot. Rows and heads are read side by side in the order of the chains,
 * so memory does not grow with either.
 * @throws what `pg` throws when it cannot connect or read.
 */
export async function verifyDatabase(
  databaseUrl: string,
  options: VerifyOptions = {},
): Promise<VerifyResult> {
  const report = new VerificationReport(options.progress);
  await withHistorySnapshot(databaseUrl, async (client) => {
    report.addFindings((await listMissingTriggers(client)).map(unguarded));
    for (const table of historyTables) await verifyTable(client, table, options, report);
  });
  return report.result();
}

function unguarded({ table, name }: MissingTrigger): Finding {
  return {
    chain: `${chainPrefix[table]}:*`,
    position: '0',
    row: null,
    fault: 'unguarded',
    message: `the trigger ${name} is gone or switched off: nothing keeps ${table} from being changed`,
  };
}

async function verifyTable(
  client: pg.Client,
  table: HistoryTable,
  options: VerifyOptions,
  report: VerificationReport,
): Promise<void> {
  const heads = new PeekableIterator(readChainHeads(client, table, options.resource));
  const unseen = knownChains(table, options);
  const begin = (chain: string) => {
    report.chains++;
    unseen.delete(chain);
    return new ChainVerifier(chain, options.known?.get(chain));
  };
  const end = async (verifier: ChainVerifier) => {
    let head = await heads.peek();
    // Heads that sort before this chain have no rows.
    for (; head !== null && head.chain < verifier.chain; head = await heads.next())
      report.addFindings(begin(head.chain).verifyEnd(head));
    const isOwn = head?.chain === verifier.chain;
    report.addFindings(verifier.verifyEnd(isOwn ? head : null));
    if (isOwn) await heads.next();
  };
  let current: ChainVerifier | null = null;
  for await (const row of readChainedRows(client, table, options.resource)) {
    if (current?.chain !== row.chain) {
      if (current !== null) await end(current);
      current = begin(row.chain);
    }
    report.addFindings(current.verifyRow(row, true));
    report.countRow();
  }
  if (current !== null) await end(current);
  for (let head = await heads.peek(); head !== null; head = await heads.next())
    report.addFindings(begin(head.chain).verifyEnd(head));
  for (const chain of unseen) report.addFindings(begin(chain).verifyEnd(undefined));
}

/** The chains of this table whose heads were kept elsewhere. */
function knownChains(table: HistoryTable, { known, resource }: VerifyOptions): Set<string> {
  const prefix = `${chainPrefix[table]}:`;
  const isAsked = (chain: string) =>
    resource === undefined ? chain.startsWith(prefix) : chain === `${prefix}${resource}`;
  return new Set([...(known?.keys() ?? [])].filter(isAsked));
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      resource: { type: 'string' },
      head: { type: 'string' },
      file: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(help);
    return 0;
  }
  const { resource } = values;
  if (resource !== undefined && resource !== 'global' && !z.guid().safeParse(resource).success)
    throw new Error(`--resource must be a resource's id or global, not ${JSON.stringify(resource)}`);
  const url = process.env.DATABASE_URL;
  if (values.file === undefined && (url === undefined || url === ''))
    throw new Error('set DATABASE_URL to the database to verify, or give --file EXPORT');
  const options: VerifyOptions = {
    resource: resource?.toLowerCase(),
    progress: (line) => console.error(`audit: ${line}`),
    ...(values.head === undefined ? {} : { known: await readHeads(values.head) }),
  };
  const result =
    values.file === undefined
      ? await verifyDatabase(url as string, options)
      : await verifyFile(values.file, options);
  if (values.json === true) console.log(JSON.stringify(result));
  else printResult(result);
  return result.ok ? 0 : 1;
}

function printResult(result: VerifyResult): void {
  for (const { chain, position, row, fault, message } of result.findings)
    console.log(`${chain} position ${position}${row === null ? '' : ` (row ${row})`}: ${fault}: ${message}`);
  const more = result.findings_total - result.findings.length;
  if (more > 0) console.log(`… and ${more} more`);
  console.log(
    `audit: ${result.rows} rows in ${result.chains} chains read in ${result.ms} ms: ${
      result.ok
        ? 'nothing was changed, is missing or stands in the wrong place'
        : `${result.findings_total} finding(s)`
    }`,
  );
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main().then(
    (status) => {
      process.exitCode = status;
    },
    (error: unknown) => {
      console.error(`audit: ${errorMessage(error)}`);
      process.exitCode = 2;
    },
  );
}
