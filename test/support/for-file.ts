import { afterAll } from 'vitest';

/** Keeps what a test file opened at its top until its last test is over, and closes it then, the last first. */
export function forFile<T extends { close(): unknown }>(opened: T): T {
  afterAll(async () => {
    await opened.close();
  });
  return opened;
}
