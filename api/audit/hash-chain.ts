import { createHash } from 'node:crypto';

export const historyTables = ['scaling_events', 'audit_log'] as const;
export type HistoryTable = (typeof historyTables)[number];

/** The prefix of a table's chain names; below, the column that numbers its rows. */
export const chainPrefix: Readonly<Record<HistoryTable, string>> = {
  scaling_events: 'events',
  audit_log: 'audit',
};
export const numberColumn: Readonly<Record<HistoryTable, 'seq' | 'id'>> = {
  scaling_events: 'seq',
  audit_log: 'id',
};

/** A row of history as it is exported. `row` has every non-null column but the two hashes, as text. */
export interface ChainedRow {
  readonly table: HistoryTable;
  readonly chain: string;
  /** Hexadecimal, as is `hash`. */
  readonly prev_hash: string;
  readonly hash: string;
  readonly row: Readonly<Record<string, string>>;
}

/** Where a chain ends. */
export interface Head {
  readonly chain: string;
  readonly length: bigint;
  readonly hash: string;
}

const genesis = '0'.repeat(64);

/** A chain's name: one chain a resource and table, and one for the rows without a resource. */
export function chainOf(table: HistoryTable, resourceId: string | undefined): string {
  return `${chainPrefix[table]}:${resourceId ?? 'global'}`;
}

/**
 * The hash a row must have (SHA-256, hexadecimal). The format is in docs/explanation/audit.md; `audit_hash` is its SQL
 * twin.
 */
export function rowHash({ table, prev_hash, row }: Omit<ChainedRow, 'hash' | 'chain'>): string {
  const fields = { ...row, prev_hash };
  let text = netstring('scaler-audit-1') + netstring(table);
  for (const [name, value] of Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1)))
    text += netstring(name) + netstring(value);
  return createHash('sha256').update(text).digest('hex');
}

function netstring(text: string): string {
  return `${Buffer.byteLength(text)}:${text},`;
}

export type Fault =
  | 'changed' // the row's content does not match its hash
  | 'missing' // positions are left out
  | 'reordered' // a position comes twice or late, or the rows' own numbers decrease
  | 'broken_link' // prev_hash is not the hash of the row before it
  | 'truncated' // the chain ends before its head
  | 'head_mismatch' // the chain does not end as its head says
  | 'unguarded' // an integrity trigger of the table is dropped or disabled
  | 'rewritten'; // the chain is consistent in itself, but differs from the head that was kept elsewhere

/** One fault of a chain; the CLI prints it, and `--json` has these fields. */
export interface Finding {
  readonly chain: string;
  /** Position in the chain, from 1. */
  readonly position: string;
  /** The row's id; null where there is no row. */
  readonly row: string | null;
  readonly fault: Fault;
  readonly message: string;
}

/** Verifies one chain, row by row, in the order of positions. */
export class ChainVerifier {
  readonly chain: string;
  length = 0n;
  hash = genesis;
  #started = false;
  #number = 0n;
  readonly #known: Head | undefined;

  /** @param known this chain's head as it was kept elsewhere. */
  constructor(chain: string, known: Head | undefined) {
    this.chain = chain;
    this.#known = known;
  }

  /** @param complete false when the chain may begin after its first row, as in an export. */
  *verifyRow(given: ChainedRow, complete: boolean): Generator<Finding> {
    const position = BigInt(given.row.chain_no ?? 0);
    const number = BigInt(given.row[numberColumn[given.table]] ?? 0);
    const id = given.row.id ?? null;
    // In a partial chain the first row has no predecessor to be compared with.
    const anchored = complete || this.#started || position === 1n;
    const expected = anchored ? this.length + 1n : position;
    this.#started = true;
    const finding = (fault: Fault, message: string): Finding => ({
      chain: this.chain,
      position: String(position),
      row: id,
      fault,
      message,
    });
    if (position > expected)
      yield finding(
        'missing',
        `${position - expected} row(s) before this one are gone: positions ${expected} to ${position - 1n}`,
      );
    else if (position < expected)
      yield finding(
        'reordered',
        `position ${position} where ${expected} was to come: it is there twice, or late`,
      );
    else if (number <= this.#number)
      yield finding(
        'reordered',
        `its number ${number} is not above ${this.#number}, that of the row before it`,
      );
    if (rowHash(given) !== given.hash)
      yield finding('changed', 'what it says does not give its hash: it was changed after it was written');
    if (anchored && position === expected && given.prev_hash !== this.hash)
      yield finding(
        'broken_link',
        'it does not follow on the row before it: one of the two was put in, replaced or written again',
      );
    if (this.#known?.length === position && this.#known.hash !== given.hash)
      yield finding(
        'rewritten',
        'its hash is not the one kept elsewhere: the chain was written again up to here',
      );
    if (position > this.length) this.length = position;
    this.#number = number;
    this.hash = given.hash;
  }

  /** @param head the stored head: null when it is missing, undefined when there is none to compare with (exports). */
  *verifyEnd(head: Head | null | undefined): Generator<Finding> {
    const finding = (position: bigint, fault: Fault, message: string): Finding => ({
      chain: this.chain,
      position: String(position),
      row: null,
      fault,
      message,
    });
    if (head === null) yield finding(this.length, 'head_mismatch', 'the chain has rows and no head');
    else if (head !== undefined && head.length > this.length)
      yield finding(
        head.length,
        'truncated',
        `the head says ${head.length} rows, the last one here is ${this.length}`,
      );
    else if (head !== undefined && (head.length < this.length || head.hash !== this.hash))
      yield finding(
        this.length,
        'head_mismatch',
        `the head (length ${head.length}) is not that of the chain's last row (${this.length})`,
      );
    if (this.#known !== undefined && this.#known.length > this.length)
      yield finding(
        this.#known.length,
        'truncated',
        `the head kept elsewhere says ${this.#known.length} rows, the last one here is ${this.length}`,
      );
  }
}
