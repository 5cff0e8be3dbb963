import { cliPage } from './cli-page.ts';
import { configurationPage } from './configuration-page.ts';
import { errorsPage } from './errors-page.ts';
import { metricsPage } from './metrics-page.ts';
import { permissionsPage } from './permissions-page.ts';

/** The generated pages of docs/reference/, by file name. */
export async function referencePages(): Promise<Readonly<Record<string, string>>> {
  return {
    'configuration.md': configurationPage(),
    'metrics.md': metricsPage(),
    'errors.md': errorsPage(),
    'permissions.md': permissionsPage(),
    'cli.md': await cliPage(),
  };
}
