import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { databaseError } from '../../shared/db/pool.ts';
import type { Deps } from '../http/deps.ts';
import { type Answer, type Call, type Route, route } from '../http/route.ts';
import { listAuditEntries } from './audit-entries-store.ts';
import { exportHeads, exportRows } from './audit-export-store.ts';
import * as contracts from './contract.ts';

/** History for auditors: to look through, and to take away and verify elsewhere. */
export function auditRoutes(deps: Deps): Route[] {
  return [
    route({
      method: 'get',
      path: '/audit',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'listAudit',
      summary: 'The audit log, newest first',
      query: contracts.auditQuery,
      responses: {
        200: {
          description: 'Entries',
          schema: z.object({
            entries: z.array(contracts.auditEntrySchema),
            count: z.int(),
            cursor: z.string().nullable(),
          }),
        },
      },
      handle: async ({ query }) => {
        const { entries, cursor } = await listAuditEntries(deps.pool, query);
        return { status: 200, body: { entries, count: entries.length, cursor } };
      },
    }),
    route({
      method: 'get',
      path: '/audit/export',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'exportAudit',
      summary: 'History with its hashes as NDJSON, oldest first; npm run audit:verify -- --file verifies it',
      query: contracts.exportQuery,
      responses: { 200: { description: 'application/x-ndjson: a row of history on each line' } },
      handle: async (call) => {
        const { table, resource_id, after, limit } = call.query;
        return await streamLines(call, exportRows(deps.pool, { table, resource: resource_id, after, limit }));
      },
    }),
    route({
      method: 'get',
      path: '/audit/heads',
      scope: 'admin',
      touches: 'fleet',
      operationId: 'exportAuditHeads',
      summary:
        'Where each chain of history ends, as NDJSON: to be kept where nobody who can change the database can write',
      responses: { 200: { description: 'application/x-ndjson: chain, length and hash on each line' } },
      handle: async (call) => {
        const at = new Date().toISOString();
        return await streamLines(call, headLines(exportHeads(deps.pool), at));
      },
    }),
  ];
}

async function* headLines(pages: ReturnType<typeof exportHeads>, at: string): AsyncGenerator<object[]> {
  for await (const heads of pages)
    yield heads.map(({ chain, length, hash }) => ({ chain, length: String(length), hash, at }));
}

/** A reader that takes nothing for this long is let go. */
const stalledMs = 60_000;

/**
 * Writes each page when the reader has taken the one before it. The answer begins with the first page, so what fails
 * before that is a problem like any other; what fails later cuts the transfer short, which the client sees.
 */
async function streamLines(call: Call, pages: AsyncGenerator<readonly object[]>): Promise<Answer> {
  const response = call.raw.res;
  if (response === undefined) throw new Error('a request without a response');
  const first = await pages.next().catch((error: unknown) => {
    throw databaseError(error);
  });
  response.setHeader('Content-Type', 'application/x-ndjson; charset=utf-8');
  response.setTimeout(stalledMs, () => response.destroy());
  const text = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  async function* chunks(): AsyncGenerator<string> {
    if (first.done === true) return;
    yield text(first.value);
    for await (const rows of pages) yield text(rows);
  }
  try {
    // Not ended here: that is the caller's, as for every answer.
    await pipeline(Readable.from(chunks(), { highWaterMark: 1 }), response, { end: false });
  } catch (error) {
    if (!response.destroyed) throw error;
  }
  return { status: 200 };
}
