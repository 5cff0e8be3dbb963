import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../../shared/project-root.ts';
import { codeGuards } from './code-guards.ts';
import { mutated } from './run.ts';

/** The table cannot rot: `npm run chaos:mutants` takes each guard out and sees that a test notices. */
describe('the table of guards', () => {
  it.each(codeGuards)('$id: is in the sources as the table has it, and its tests are there', (guard) => {
    const source = readFileSync(join(projectRoot(), guard.file), 'utf8');
    expect(mutated(source, guard)).not.toBe(source);
    for (const { file, name = '' } of guard.killers) {
      expect(existsSync(join(projectRoot(), file)), file).toBe(true);
      // A name may be put together by each(): its longest plain words must be there.
      const words = name.split(/'|\bwith\b/).map((part) => part.trim());
      const laws = file.startsWith('test/contract/') ? ['test/contract/scaling-provider.contract.ts'] : [];
      const text = [file, ...laws].map((path) => readFileSync(join(projectRoot(), path), 'utf8')).join('\n');
      for (const part of words) expect(text).toContain(part);
    }
  });

  it('names each guard once', () => {
    const ids = codeGuards.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)]);
  });
});
