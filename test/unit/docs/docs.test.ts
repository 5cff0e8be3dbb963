import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../../shared/project-root.ts';

const root = projectRoot();
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => `docs/${file}`),
];

describe('the documentation', () => {
  it.each(pages)('%s: every relative link leads to a file', (page) => {
    const links = [...read(page).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)].map(([, link]) => link as string);
    expect(links.filter((link) => !existsSync(join(root, dirname(page), link)))).toEqual([]);
  });

  it('is reached from its index', () => {
    for (const kind of readdirSync(join(root, 'docs'), { withFileTypes: true })) {
      if (!kind.isDirectory()) continue;
      const index = read(`docs/${kind.name}/README.md`);
      for (const page of readdirSync(join(root, 'docs', kind.name)))
        if (page !== 'README.md') expect(index, `docs/${kind.name}/README.md`).toContain(`(${page}`);
    }
  });
});

describe('the tour', () => {
  it('names files and functions that exist', () => {
    const named = [...read('docs/explanation/tour.md').matchAll(/`([\w./-]+)`/g)].map(
      ([, name]) => name as string,
    );
    const files = named.filter((name) => name.includes('/'));
    const missing = files.filter((file) => !existsSync(join(root, file)));
    expect(missing).toEqual([]);
    expect(files.length).toBeGreaterThan(12);
    const sources = files.map(read).join('\n');
    // The steps of the protocol are names, too, but of no function.
    const steps = ['look', 'begin', 'send', 'settle'];
    const functions = named.filter((name) => /^[a-zA-Z]+$/.test(name) && !steps.includes(name));
    expect(functions.length).toBeGreaterThan(12);
    for (const name of functions)
      expect(sources, name).toMatch(new RegExp(`export (async function|function|const|class) ${name}\\b`));
  });
});
