import type { ReasonCode, StageName, StageRecord } from './types.ts';

/** What a stage makes of the number it is given; `code` only when it changed or held it. */
export interface Stage {
  readonly capacity: number;
  readonly code?: ReasonCode;
  /** A clause that fits behind "because". */
  readonly detail?: string;
  /** When a hold ends, where that is known. */
  readonly untilMs?: number;
}

/** The number on its way through the stages, and what each of them did to it. */
export class Trail {
  readonly records: StageRecord[] = [];
  capacity: number;
  /** The last stage that changed or held the number. */
  binding: ReasonCode | null = null;
  because: string | undefined;
  /** The latest end of any hold on the way. */
  heldUntilMs: number | null = null;

  constructor(current: number) {
    this.capacity = current;
  }

  add(stage: StageName, result: Stage): void {
    const { capacity, code, detail, untilMs } = result;
    this.records.push({
      stage,
      before: this.capacity,
      after: capacity,
      ...(code === undefined ? {} : { code }),
      ...(detail === undefined ? {} : { detail }),
    });
    this.capacity = capacity;
    if (code === undefined) return;
    this.binding = code;
    this.because = detail;
    // A pause without end is stored as infinity: no moment to name.
    if (untilMs !== undefined && Number.isFinite(untilMs)) {
      this.heldUntilMs = Math.max(this.heldUntilMs ?? untilMs, untilMs);
    }
  }
}
