import { createHash } from 'node:crypto';

export const historyTables = ['scaling_events', 'audit_log'] as const;
export type HistoryTable = (typeof historyTables)[number];

/** What a table's chains are called, and the column that numbers its rows. */
export const chainPrefix: Readonly<Record<HistoryTable, string>> = {
  scaling_events: 'events',
  audit_log: 'audit',
};
export const numberColumn: Readonly<Record<HistoryTable, 'seq' | 'id'>> = {
  scaling_events: 'seq',
  audit_log: 'id',
};

/** A row of history as it is exported: `row` has every column that is not null, but the two hashes, as text. */
export interface ChainedRow {
  readonly table: HistoryTable;
  readonly chain: string;
  /** Hexadecimal, as is `hash`. */
  readonly prev_hash: string;
  readonly hash: string;
  readonly row: Readonly<Record<string, string>>;
}

export interface Head {
  readonly chain: string;
  readonly length: bigint;
  readonly hash: string;
}

const genesis = '0'.repeat(64);

export function chainOf(table: HistoryTable, resourceId: string | undefined): string {
  return `${chainPrefix[table]}:${resourceId ?? 'global'}`;
}

/** The hash a row must have, worked out from what it says; docs/audit.md has the format. The database's own is `audit_hash`. */
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
  | 'changed' // the row does not give its hash
  | 'missing' // positions are left out
  | 'reordered' // a position comes twice or late, or the rows' own numbers fall
  | 'broken_link' // the row does not follow on the one before it
  | 'truncated' // the chain ends before its head
  | 'head_mismatch' // the chain does not end as its head says
  | 'unguarded' // a trigger that guards the table is gone or switched off
  | 'rewritten'; // the chain is sound in itself, but is not the one whose head was kept elsewhere

export interface Finding {
  readonly chain: string;
  /** Position in the chain, from 1. */
  readonly position: string;
  /** The row's id; null where there is no row. */
  readonly row: string | null;
  readonly fault: Fault;
  readonly message: string;
}

/** Walks along one chain, row by row, in the order of positions. */
export class ChainVerifier {
  readonly chain: string;
  length = 0n;
  hash = genesis;
  #begun = false;
  #number = 0n;
  readonly #known: Head | undefined;

  /** @param known this chain's head as it was kept elsewhere. */
  constructor(chain: string, known: Head | undefined) {
    this.chain = chain;
    this.#known = known;
  }

  /** @param whole false when the chain may begin after its first row. */
  *step(given: ChainedRow, whole: boolean): Generator<Finding> {
    const position = BigInt(given.row.chain_no ?? 0);
    const number = BigInt(given.row[numberColumn[given.table]] ?? 0);
    const id = given.row.id ?? null;
    // Where the rows before the first one were left out, only what follows it can be checked.
    const anchored = whole || this.#begun || position === 1n;
    const expected = anchored ? this.length + 1n : position;
    this.#begun = true;
    const say = (fault: Fault, message: string): Finding => ({
      chain: this.chain,
      position: String(position),
      row: id,
      fault,
      message,
    });
    if (position > expected)
      yield say(
        'missing',
        `${position - expected} row(s) before this one are gone: positions ${expected} to ${position - 1n}`,
      );
    else if (position < expected)
      yield say(
        'reordered',
        `position ${position} where ${expected} was to come: it is there twice, or late`,
      );
    else if (number <= this.#number)
      yield say('reordered', `its number ${number} is not above ${this.#number}, that of the row before it`);
    if (rowHash(given) !== given.hash)
      yield say('changed', 'what it says does not give its hash: it was changed after it was written');
    if (anchored && position === expected && given.prev_hash !== this.hash)
      yield say(
        'broken_link',
        'it does not follow on the row before it: one of the two was put in, replaced or written again',
      );
    if (this.#known?.length === position && this.#known.hash !== given.hash)
      yield say(
        'rewritten',
        'its hash is not the one kept elsewhere: the chain was written again up to here',
      );
    if (position > this.length) this.length = position;
    this.#number = number;
    this.hash = given.hash;
  }

  /** @param head this chain's own head; undefined where there is none to compare with, as in a file. */
  *end(head: Head | null | undefined): Generator<Finding> {
    const say = (position: bigint, fault: Fault, message: string): Finding => ({
      chain: this.chain,
      position: String(position),
      row: null,
      fault,
      message,
    });
    if (head === null) yield say(this.length, 'head_mismatch', 'the chain has rows and no head');
    else if (head !== undefined && head.length > this.length)
      yield say(
        head.length,
        'truncated',
        `the head says ${head.length} rows, the last one here is ${this.length}`,
      );
    else if (head !== undefined && (head.length < this.length || head.hash !== this.hash))
      yield say(
        this.length,
        'head_mismatch',
        `the head (length ${head.length}) is not that of the chain's last row (${this.length})`,
      );
    if (this.#known !== undefined && this.#known.length > this.length)
      yield say(
        this.#known.length,
        'truncated',
        `the head kept elsewhere says ${this.#known.length} rows, the last one here is ${this.length}`,
      );
  }
}
