import { parseArgs } from 'node:util';
import { errorMessage } from '../shared/errors.ts';
import { onSignals } from '../shared/lifecycle/closers.ts';
import { composeApi, listen, requireKeyBeyondLoopback } from './compose.ts';
import { readApiConfig } from './config.ts';

const help = `Usage: npm run api

  Serves the HTTP API on HOST and PORT. Needs DATABASE_URL and REDIS_URL; all settings are in
  docs/reference/configuration.md.

  --help   this text`;

try {
  const { values } = parseArgs({ options: { help: { type: 'boolean' } } });
  if (values.help === true) {
    console.log(help);
    process.exit(0);
  }
  const api = composeApi(readApiConfig(process.env));
  onSignals(() => api.closers.closeAll(10_000));
  await requireKeyBeyondLoopback(api);
  const port = await listen(api);
  api.deps.logger.info({ event: 'api.listening', host: api.deps.config.HOST, port });
} catch (error) {
  console.error(`api: ${errorMessage(error)}`);
  process.exit(1);
}
