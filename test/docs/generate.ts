import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../shared/project-root.ts';
import { referencePages } from './reference-pages.ts';

const folder = join(projectRoot(), 'docs/reference');
mkdirSync(folder, { recursive: true });
for (const [file, text] of Object.entries(await referencePages())) writeFileSync(join(folder, file), text);
