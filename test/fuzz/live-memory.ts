import { renameSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Loaded into the API's process ahead of it (`node --import`). At each SIGUSR2 it collects garbage, and writes what is left,
 * in bytes, into the file that FUZZ_MEMORY_FILE names.
 */
const file = process.env.FUZZ_MEMORY_FILE;
if (file !== undefined) {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let times = 0;
  process.on('SIGUSR2', () => {
    collect();
    const { heapUsed, external, rss } = process.memoryUsage();
    times++;
    writeFileSync(`${file}.part`, JSON.stringify({ times, live: heapUsed + external, rss }));
    renameSync(`${file}.part`, file);
  });
}
