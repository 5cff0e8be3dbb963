/**
 * What really happened, in one total order, kept apart from what anybody answered. Entries are only ever added:
 * a request is `received`, its change (if any) is `applied`, and `answered` says how the exchange ended for the
 * client, `hang` included. A change may be applied after its answer. A write with no `requestId` was not a client's.
 *
 * `Subject` is what the protocol names: region, group and access key; or namespace, name, uid and user.
 */
export interface LedgerFacts {
  /** The server's id of the request, also sent in its answer; null for external writers and controllers. */
  readonly requestId: string | null;
  readonly action: string;
  /** Real epoch ms at which the request's last byte arrived; for external writes the moment of the write. */
  readonly receivedAt: number;
  /** Real epoch ms at which the change took effect; null on `received` and `answered`. */
  readonly appliedAt: number | null;
  /** The virtual clock when the entry was written. */
  readonly virtualAt: number;
  /** Capacity before and after, on `applied`; what was asked for stands in `to` on `received`. */
  readonly from: number | null;
  readonly to: number | null;
  readonly invocationId: string | null;
  readonly userAgent: string | null;
  /** `received`, `applied`, or how it was answered: `200`, `400 Throttling`, `reset`, `truncated 200`, `hang`. */
  readonly outcome: string;
}

export type LedgerEvent = 'received' | 'applied' | 'answered';

export type LedgerEntry<Subject extends object> = LedgerFacts &
  Subject & { readonly seq: number; readonly event: LedgerEvent };

export interface Ledger<Subject extends object> {
  append(event: LedgerEvent, facts: LedgerFacts & Subject): LedgerEntry<Subject>;
  /** All entries, or those after a seq already seen. */
  entries(afterSeq?: number): readonly LedgerEntry<Subject>[];
  /** Only the changes that took effect, in the order they did. */
  writes(): readonly LedgerEntry<Subject>[];
  /** Every request once, as answered, or as received while it has no answer. */
  requests(): readonly LedgerEntry<Subject>[];
}

/** @param sink takes every entry as it is made, for runs that are too long to keep it: then nothing is kept here. */
export function createLedger<Subject extends object>(
  sink?: (entry: LedgerEntry<Subject>) => void,
): Ledger<Subject> {
  const log: LedgerEntry<Subject>[] = [];
  let seq = 0;
  return {
    append(event, facts) {
      seq += 1;
      const entry = Object.freeze({ seq, event, ...facts });
      if (sink === undefined) log.push(entry);
      else sink(entry);
      return entry;
    },
    entries: (afterSeq = 0) => log.slice(afterSeq),
    writes: () => log.filter((entry) => entry.event === 'applied'),
    requests() {
      const latest = new Map<string, LedgerEntry<Subject>>();
      for (const entry of log) {
        if (entry.event !== 'applied' && entry.requestId !== null) latest.set(entry.requestId, entry);
      }
      return [...latest.values()];
    },
  };
}
