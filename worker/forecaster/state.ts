/** Every piece of a forecaster lists its numbers, so that all of it is saved and restored in one place. */
export interface Stateful {
  /** The arrays themselves, not copies, always the same ones in the same order. */
  state(): readonly StateArray[];
}

export type StateArray = Float64Array | Float32Array;

/** A value comes out as many pushes later as the line is long; NaN until then. */
export class DelayLine implements Stateful {
  readonly #values: Float64Array;
  readonly #cursor = doubles(1);

  constructor(steps: number) {
    this.#values = doubles(steps).fill(Number.NaN);
  }

  /** @returns what was pushed `steps` pushes ago. */
  push(value: number): number {
    const at = this.#cursor[0] as number;
    const due = this.#values[at] as number;
    this.#values[at] = value;
    this.#cursor[0] = at + 1 === this.#values.length ? 0 : at + 1;
    return due;
  }

  state(): readonly StateArray[] {
    return [this.#values, this.#cursor];
  }
}

/** Exponentially weighted mean that is a plain mean until it has seen enough values for its rate. */
export class RunningMean implements Stateful {
  readonly #rate: number;
  /** Mean, count. */
  readonly #numbers = doubles(2);

  constructor(rate: number) {
    this.#rate = rate;
  }

  add(value: number): void {
    const count = (this.#numbers[1] as number) + 1;
    this.#numbers[1] = count;
    const mean = this.#numbers[0] as number;
    this.#numbers[0] = mean + Math.max(this.#rate, 1 / count) * (value - mean);
  }

  /** 0 before the first value. */
  get value(): number {
    return this.#numbers[0] as number;
  }

  get count(): number {
    return this.#numbers[1] as number;
  }

  state(): readonly StateArray[] {
    return [this.#numbers];
  }
}

const slabBytes = 32_768;
let slab = new ArrayBuffer(0);
let used = 0;

/** Zeros. Small arrays lie side by side: a step touches dozens of them, and each alone would be a page of its own. */
export function doubles(length: number): Float64Array {
  return new Float64Array(place(length * 8), lastOffset, length);
}

export function floats(length: number): Float32Array {
  return new Float32Array(place(length * 4), lastOffset, length);
}

let lastOffset = 0;

function place(bytes: number): ArrayBuffer {
  if (bytes > slabBytes / 4) {
    lastOffset = 0;
    return new ArrayBuffer(bytes);
  }
  if (used + bytes > slab.byteLength) {
    slab = new ArrayBuffer(slabBytes);
    used = 0;
  }
  lastOffset = used;
  // Both kinds have to begin at a multiple of eight.
  used += (bytes + 7) & ~7;
  return slab;
}
