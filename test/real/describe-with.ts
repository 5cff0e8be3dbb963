import { describe } from 'vitest';

/** A suite that runs where its servers can be started (`fault` is null), and else is skipped, saying why. */
export function describeWith(name: string, fault: string | null, suite: () => void): void {
  describe.skipIf(fault !== null)(fault === null ? name : `${name} (not run: ${fault})`, suite);
}
