import { parseArgs } from 'node:util';
import { errorMessage } from '../shared/errors.ts';
import { onSignals } from '../shared/lifecycle/closers.ts';
import { queueNames } from '../shared/queues/queues.ts';
import { startWorker } from './compose.ts';
import { readWorkerConfig } from './config.ts';

const help = `Usage: npm run worker -- [--queues LIST]

  --queues LIST   what this worker serves, comma-separated (default: all):
                  ${queueNames.join(', ')}
  --help          this text

Needs DATABASE_URL and REDIS_URL; all settings are in docs/reference/configuration.md. Run as many as the load wants.`;

/** A process that drains longer than this is ended: its jobs' leases run out and other workers take over. */
const shutdownDeadlineMs = 20_000;

try {
  const { values } = parseArgs({ options: { queues: { type: 'string' }, help: { type: 'boolean' } } });
  if (values.help === true) {
    console.log(help);
    process.exit(0);
  }
  const environment =
    values.queues === undefined ? process.env : { ...process.env, WORKER_QUEUES: values.queues };
  const worker = await startWorker(readWorkerConfig(environment));
  process.on('unhandledRejection', (error) => worker.logger.error({ event: 'worker.unhandled', err: error }));
  onSignals(async (signal) => {
    worker.logger.info({ event: 'worker.stopping', signal });
    await worker.close(shutdownDeadlineMs);
    worker.logger.info({ event: 'worker.stopped' });
  });
} catch (error) {
  console.error(`worker: ${errorMessage(error)}`);
  process.exit(1);
}
