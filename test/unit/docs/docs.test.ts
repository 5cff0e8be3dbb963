import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createMetrics } from '../../../shared/observability/metrics.ts';
import { projectRoot } from '../../../shared/project-root.ts';
import { referencePages } from '../../docs/reference-pages.ts';

const root = projectRoot();
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const pagesBelow = (folder: string) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => `${folder}/${file.replaceAll('\\', '/')}`)
    .filter((file) => file.endsWith('.md'));
const docs = pagesBelow('docs');
const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs, ...pagesBelow('test')];

describe('docs/reference', async () => {
  const generated = await referencePages();

  it.each(Object.keys(generated))('%s is current: else run npm run docs', (file) => {
    const current = existsSync(join(root, 'docs/reference', file)) ? read(`docs/reference/${file}`) : '';
    expect(current === generated[file], 'run npm run docs').toBe(true);
  });

  it('has every metric that a process registers', async () => {
    const registered = await createMetrics().registry.getMetricsAsJSON();
    const ours = registered.map(({ name }) => name).filter((name) => name.startsWith('scaler_'));
    expect(ours.length).toBeGreaterThan(5);
    for (const name of ours) expect(generated['metrics.md']).toContain(`\`${name}\``);
  });
});

describe('pages for people', () => {
  it('keep their lines short, those of code and, unless generated, of tables too', () => {
    const tooLong = pages.flatMap((file) => {
      const isGenerated = /^docs\/reference\/(?!README)/.test(file);
      return read(file)
        .split('\n')
        .filter((line) => !(isGenerated && line.startsWith('|')))
        .filter((line) => [...line].length > (file === 'README.md' ? 110 : 120))
        .map((line) => `${file}: ${line}`);
    });
    expect(tooLong).toEqual([]);
  });

  it('keep the README within 200 lines', () => {
    expect(read('README.md').trimEnd().split('\n').length).toBeLessThanOrEqual(200);
  });

  it('link only to files and headings that are there', () => {
    const isThere = (file: string, link: string) => {
      const [path, heading] = link.split('#') as [string, string?];
      const target = path === '' ? file : join(dirname(file), path);
      if (!existsSync(join(root, target))) return false;
      return heading === undefined || headings(read(target)).includes(heading);
    };
    const broken = pages.flatMap((file) =>
      [...withoutCode(read(file)).matchAll(/\]\(([^)\s]+)\)|src="([^"]+)"/g)]
        .map(([, link, source]) => (link ?? source) as string)
        .filter((link) => !/^[a-z]+:/.test(link) && !isThere(file, link))
        .map((link) => `${file} → ${link}`),
    );
    expect(broken).toEqual([]);
  });

  it('are all reached from the index of their folder', () => {
    const unlisted = docs.filter((file) => {
      const index = `${dirname(file)}/README.md`;
      return (
        file !== index &&
        existsSync(join(root, index)) &&
        !read(index).includes(`](${relative(dirname(file), file)})`)
      );
    });
    expect(unlisted).toEqual([]);
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
    const sources = files.map((file) => read(file)).join('\n');
    // The steps of the protocol are names, too, but of no function.
    const steps = ['look', 'begin', 'send', 'settle'];
    const functions = named.filter((name) => /^[a-zA-Z]+$/.test(name) && !steps.includes(name));
    expect(functions.length).toBeGreaterThan(12);
    for (const name of functions)
      expect(sources, name).toMatch(new RegExp(`export (async function|function|const|class) ${name}\\b`));
  });
});

/** As GitHub names them in links. */
function headings(text: string): string[] {
  return [...text.replace(/^```.*?^```/gms, '').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    (title as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-'),
  );
}

function withoutCode(text: string): string {
  return text.replace(/^```.*?^```/gms, '').replace(/`[^`\n]*`/g, '');
}
