import { errorMessage } from '../shared/errors.ts';
import { onSignals } from '../shared/lifecycle/closers.ts';
import { composeApi, listen, refuseOpenDoor } from './compose.ts';
import { readApiConfig } from './config.ts';

try {
  const api = composeApi(readApiConfig(process.env));
  onSignals(() => api.closers.closeAll(10_000));
  await refuseOpenDoor(api);
  const port = await listen(api);
  api.deps.logger.info({ event: 'api.listening', host: api.deps.config.HOST, port });
} catch (error) {
  console.error(`api: ${errorMessage(error)}`);
  process.exit(1);
}
