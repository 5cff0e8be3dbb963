import type { Finding, Head } from './hash-chain.ts';

export interface VerifyOptions {
  /** A resource's id, or `global` for the rows without one; undefined for all. */
  readonly resource?: string | undefined;
  /** Heads kept outside the database, by chain. */
  readonly known?: ReadonlyMap<string, Head>;
  readonly progress?: (line: string) => void;
}

/** What `--json` prints. */
export interface VerifyResult {
  readonly ok: boolean;
  readonly rows: number;
  readonly chains: number;
  /** The first 1,000. */
  readonly findings: readonly Finding[];
  /** All of them, kept or not. */
  readonly findings_total: number;
  readonly ms: number;
  readonly rows_per_second: number;
}

/** Memory stays bounded, however much was tampered with. */
const maxFindings = 1_000;
const progressRows = 2_000;
const progressMs = 2_000;

/** Collects what a verification finds and counts, and reports its progress every 2 s. */
export class VerificationReport {
  rows = 0;
  chains = 0;
  readonly #findings: Finding[] = [];
  #findingsTotal = 0;
  readonly #startedAt = performance.now();
  readonly #progress: (line: string) => void;
  #progressAt = performance.now();

  constructor(progress: (line: string) => void = () => {}) {
    this.#progress = progress;
  }

  addFindings(findings: Iterable<Finding>): void {
    for (const finding of findings) {
      this.#findingsTotal++;
      if (this.#findings.length < maxFindings) this.#findings.push(finding);
    }
  }

  countRow(): void {
    this.rows++;
    if (this.rows % progressRows !== 0 || performance.now() - this.#progressAt < progressMs) return;
    this.#progressAt = performance.now();
    this.#progress(`${this.rows} rows, ${this.chains} chains, ${this.#findingsTotal} finding(s) so far`);
  }

  result(): VerifyResult {
    const ms = Math.round(performance.now() - this.#startedAt);
    return {
      ok: this.#findingsTotal === 0,
      rows: this.rows,
      chains: this.chains,
      findings: this.#findings,
      findings_total: this.#findingsTotal,
      ms,
      rows_per_second: Math.round(this.rows / Math.max(0.001, ms / 1_000)),
    };
  }
}
