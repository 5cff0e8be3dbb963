import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';

/** Counts this process's open connections to some ports, whoever opened them. */
export function watchClientSockets(ports: readonly number[]): { open(): number; stop(): void } {
  const sockets = new Set<Socket>();
  const onSocket = (message: unknown): void => {
    const { socket } = message as { socket: Socket };
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };
  subscribe('net.client.socket', onSocket);
  return {
    open: () => [...sockets].filter(({ remotePort }) => ports.includes(remotePort ?? 0)).length,
    stop: () => unsubscribe('net.client.socket', onSocket),
  };
}
