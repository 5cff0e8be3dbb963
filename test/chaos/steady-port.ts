import { createServer } from 'node:net';

/** Below the ports that systems hand out for outgoing connections (from 32768 on Linux). */
const lowest = 20_000;
const highest = 32_000;

/**
 * A free loopback port for a server that will be ended and started again: nobody's outgoing connection takes it meanwhile.
 * @throws Error after too many tries.
 */
export async function steadyPort(): Promise<number> {
  for (let tried = 0; tried < 50; tried++) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest));
    if (await isFree(port)) return port;
  }
  throw new Error(`there is no free port between ${lowest} and ${highest}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
