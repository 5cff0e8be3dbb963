import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { databaseError } from '../../shared/db/pool.ts';
import type { Deps } from '../http/deps.ts';
import { pageResponse } from '../http/list-response.ts';
import { type Route, type RouteRequest, type RouteResponse, route } from '../http/route.ts';
import { listAuditEntries } from './audit-entries-store.ts';
import { exportHeads, exportRows } from './audit-export-store.ts';
import * as contracts from './contract.ts';

/** The audit log, and exports of history with its hashes for verification elsewhere. */
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
      responses: { 200: { description: 'Entries', schema: contracts.auditPageSchema } },
      handle: async ({ query }) => pageResponse('entries', await listAuditEntries(deps.pool, query)),
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
      handle: async (request) => {
        const { table, resource_id, after, limit } = request.query;
        return await streamNdjson(
          request,
          exportRows(deps.pool, { table, resource: resource_id, after, limit }),
        );
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
      handle: async (request) => {
        const at = new Date().toISOString();
        return await streamNdjson(request, headLines(exportHeads(deps.pool), at));
      },
    }),
  ];
}

async function* headLines(pages: ReturnType<typeof exportHeads>, at: string): AsyncGenerator<object[]> {
  for await (const heads of pages)
    yield heads.map(({ chain, length, hash }) => ({ chain, length: String(length), hash, at }));
}

/** The connection of a client that reads nothing for so long is closed. */
const stallTimeoutMs = 60_000;

/**
 * Streams pages as NDJSON, with backpressure. A failure before the first page is a problem response; a later one cuts
 * the transfer short, which the client sees.
 */
async function streamNdjson(
  request: RouteRequest,
  pages: AsyncGenerator<readonly object[]>,
): Promise<RouteResponse> {
  const response = request.raw.res;
  if (response === undefined) throw new Error('a request without a response');
  const first = await pages.next().catch((error: unknown) => {
    throw databaseError(error);
  });
  response.setHeader('Content-Type', 'application/x-ndjson; charset=utf-8');
  response.setTimeout(stallTimeoutMs, () => response.destroy());
  const text = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  async function* chunks(): AsyncGenerator<string> {
    if (first.done === true) return;
    yield text(first.value);
    for await (const rows of pages) yield text(rows);
  }
  try {
    // Not ended here: `sendResponse` ends every response.
    await pipeline(Readable.from(chunks(), { highWaterMark: 1 }), response, { end: false });
  } catch (error) {
    if (!response.destroyed) throw error;
  }
  return { status: 200 };
}
