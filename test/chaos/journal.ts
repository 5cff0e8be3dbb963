import { createReadStream, existsSync, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** An append-only file with one JSON value a line, each written before the call returns: what was logged survives a kill. */
export class Journal {
  readonly #file: number;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  write(value: unknown): void {
    writeSync(this.#file, `${JSON.stringify(value)}\n`);
  }
}

/** The lines of a journal, oldest first; a missing file has none, and a last line that was cut is left out. */
export async function* readJournal<T>(path: string): AsyncGenerator<T> {
  if (!existsSync(path)) return;
  const lines = createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY });
  for await (const line of lines) {
    try {
      if (line !== '') yield JSON.parse(line) as T;
    } catch {
      // Only the last line can be cut: everything before it was followed by another write.
    }
  }
}
