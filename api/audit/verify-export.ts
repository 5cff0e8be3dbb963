import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import {
  type ChainedRow,
  ChainVerifier,
  chainPrefix,
  type Finding,
  type Head,
  historyTables,
} from './hash-chain.ts';
import { VerificationReport, type VerifyOptions, type VerifyResult } from './verification-report.ts';

const rowSchema = z.object({
  table: z.enum(historyTables),
  chain: z.string(),
  prev_hash: z.string(),
  hash: z.string(),
  row: z.record(z.string(), z.string()),
});
const headSchema = z.object({ chain: z.string(), length: z.coerce.bigint(), hash: z.string() });

/**
 * Verifies an export (NDJSON, rows of a chain in order). It may begin or end anywhere in a chain: what is left out at
 * either end shows only against heads kept elsewhere. Memory: one small state per chain.
 * @throws Error for a line that is not a row of an export.
 */
export async function verifyFile(path: string, options: VerifyOptions = {}): Promise<VerifyResult> {
  const report = new VerificationReport(options.progress);
  const verifiers = new Map<string, ChainVerifier>();
  for await (const row of parsedLines(path, rowSchema)) {
    if (options.resource !== undefined && row.chain.split(':')[1] !== options.resource) continue;
    let verifier = verifiers.get(row.chain);
    if (verifier === undefined) {
      verifier = new ChainVerifier(row.chain, options.known?.get(row.chain));
      verifiers.set(row.chain, verifier);
      report.chains++;
    }
    report.addFindings(misattributed(row));
    report.addFindings(verifier.verifyRow(row, false));
    report.countRow();
  }
  const prefixes = new Set([...verifiers.keys()].map((chain) => chain.split(':')[0]));
  for (const [chain, head] of options.known ?? []) {
    const [prefix, resource] = chain.split(':');
    const asked = options.resource === undefined || options.resource === resource;
    if (asked && prefixes.has(prefix) && !verifiers.has(chain))
      verifiers.set(chain, new ChainVerifier(chain, head));
  }
  for (const verifier of verifiers.values()) report.addFindings(verifier.verifyEnd(undefined));
  return report.result();
}

/** The chain a line claims must be the one its row belongs to. */
function* misattributed(row: ChainedRow): Generator<Finding> {
  const { chain_no: position = '0', id = null, resource_id } = row.row;
  if (row.chain === `${chainPrefix[row.table]}:${resource_id ?? 'global'}`) return;
  const message = 'the line names another chain than its row belongs to';
  yield { chain: row.chain, position, row: id, fault: 'reordered', message };
}

/** Reads heads in the format of GET /audit/heads, by chain. @throws Error for a line that is not a head. */
export async function readHeads(path: string): Promise<Map<string, Head>> {
  const heads = new Map<string, Head>();
  for await (const head of parsedLines(path, headSchema)) heads.set(head.chain, head);
  return heads;
}

async function* parsedLines<T>(path: string, schema: z.ZodType<T>): AsyncGenerator<T> {
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  let n = 0;
  for await (const line of lines) {
    n++;
    if (line === '') continue;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new Error(`${path}, line ${n} is not JSON: the file is cut short or is not an export`);
    }
    const parsed = schema.safeParse(value);
    if (!parsed.success)
      throw new Error(
        `${path}, line ${n}: ${parsed.error.issues[0]?.path.join('.')} ${parsed.error.issues[0]?.message}`,
      );
    yield parsed.data;
  }
}
