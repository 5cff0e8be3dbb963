import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

let found: string | undefined;

/**
 * The folder with our package.json. Files that are read at run time (migrations, prices) are not compiled, so the
 * source under test and the build in dist/ both find them from here.
 * @throws Error when no package.json named "scaler" is above this file.
 */
export function projectRoot(): string {
  if (found !== undefined) return found;
  let folder = dirname(fileURLToPath(import.meta.url));
  while (folder !== dirname(folder)) {
    const manifest = join(folder, 'package.json');
    if (
      existsSync(manifest) &&
      (JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string }).name === 'scaler'
    ) {
      found = folder;
      return folder;
    }
    folder = dirname(folder);
  }
  throw new Error(
    'No package.json named "scaler" above the running file: run the service from a complete checkout or image.',
  );
}
