/** Every piece of a forecaster lists its numbers, so that all of it is saved and restored in one place. */
export interface Stateful {
  /** The arrays themselves, not copies, always the same ones in the same order. */
  state(): readonly StateArray[];
}

export type StateArray = Float64Array | Float32Array;

/** Rows that come out as many steps later as there are rows, one number a column; NaN until then. All in one array. */
export class DelayLine implements Stateful {
  readonly #width: number;
  /** The rows, and at the end which one is due. */
  readonly #values: Float64Array;

  constructor(steps: number, width = 1) {
    this.#width = width;
    this.#values = doubles(steps * width + 1).fill(Number.NaN);
    this.#values[steps * width] = 0;
  }

  /** Stores a number of this step. @returns the one that was stored in this column a delay ago. */
  swap(column: number, value: number): number {
    const values = this.#values;
    const at = (values[values.length - 1] as number) + column;
    const due = values[at] as number;
    values[at] = value;
    return due;
  }

  /** Ends the step. */
  next(): void {
    const values = this.#values;
    const last = values.length - 1;
    const at = (values[last] as number) + this.#width;
    values[last] = at === last ? 0 : at;
  }

  state(): readonly StateArray[] {
    return [this.#values];
  }
}

/**
 * Adds to an exponentially weighted mean that is a plain mean until it has seen enough values for its rate: mean and
 * count, from `at` on.
 */
export function addToMean(numbers: Float64Array, at: number, rate: number, value: number): void {
  const count = (numbers[at + 1] as number) + 1;
  numbers[at + 1] = count;
  const mean = numbers[at] as number;
  numbers[at] = mean + Math.max(rate, 1 / count) * (value - mean);
}

/** Exponentially weighted means, each a plain mean until it has seen enough values for its rate. All in one array. */
export class RunningMeans implements Stateful {
  readonly #rates: readonly number[];
  /** Mean and count of each. */
  readonly #numbers: Float64Array;

  constructor(...rates: readonly number[]) {
    this.#rates = rates;
    this.#numbers = doubles(rates.length * 2);
  }

  add(index: number, value: number): void {
    const numbers = this.#numbers;
    const at = index * 2;
    const count = (numbers[at + 1] as number) + 1;
    numbers[at + 1] = count;
    const mean = numbers[at] as number;
    numbers[at] = mean + Math.max(this.#rates[index] as number, 1 / count) * (value - mean);
  }

  /** 0 before the first value. */
  value(index: number): number {
    return this.#numbers[index * 2] as number;
  }

  count(index: number): number {
    return this.#numbers[index * 2 + 1] as number;
  }

  state(): readonly StateArray[] {
    return [this.#numbers];
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
