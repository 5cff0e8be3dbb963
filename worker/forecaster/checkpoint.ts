import type { StateArray, Stateful } from './state.ts';

/**
 * Changes whenever the arrays of a forecaster change their meaning, number or length: an old checkpoint is then
 * rebuilt.
 */
export const checkpointVersion = 4;

/** @returns one buffer with the bytes of every array, in order. */
export function save(part: Stateful): Uint8Array {
  const arrays = part.state();
  const bytes = new Uint8Array(lengthOf(arrays));
  let at = 0;
  for (const array of arrays) {
    bytes.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), at);
    at += array.byteLength;
  }
  return bytes;
}

/** Fills a newly made part from `save`. @throws RangeError when it is not of the same make. */
export function restore(part: Stateful, bytes: Uint8Array): void {
  const arrays = part.state();
  const expected = lengthOf(arrays);
  if (bytes.byteLength !== expected)
    throw new RangeError(`a checkpoint of ${bytes.byteLength} bytes where ${expected} are expected`);
  let at = 0;
  for (const array of arrays) {
    const target = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    target.set(bytes.subarray(at, at + array.byteLength));
    at += array.byteLength;
  }
}

export function lengthOf(arrays: readonly StateArray[]): number {
  return arrays.reduce((sum, array) => sum + array.byteLength, 0);
}
