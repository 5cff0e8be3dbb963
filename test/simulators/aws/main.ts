import { startAwsSimulator } from './server.ts';

/** The simulator as a process of its own: `PORT`, `TIME_SCALE` and `SEED` from the environment; the address on stdout. */
const simulator = await startAwsSimulator({
  port: Number(process.env.PORT ?? 0),
  timeScale: Number(process.env.TIME_SCALE ?? 1),
  seed: Number(process.env.SEED ?? 1),
});
console.log(JSON.stringify({ event: 'aws_simulator.listening', endpoint: simulator.endpoint }));

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void simulator.close());
}
