import { connect, createServer, type Socket } from 'node:net';

/** What a link does to the bytes on it. `up` is from the client to the server. */
export type LinkMode =
  | { readonly kind: 'clear' }
  /** Every chunk arrives so much later, both ways. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** A few bytes at a time, both ways. */
  | { readonly kind: 'trickle'; readonly bytesPerSecond: number }
  /** Connections end, and new ones are refused. */
  | { readonly kind: 'refuse' }
  /** The next request is cut off before a byte of it has arrived. */
  | { readonly kind: 'reset-before' }
  /** The next request arrives, and the connection is reset before a byte of the answer. */
  | { readonly kind: 'reset-after' }
  /** Connections stay open, and nothing passes any more: not now and not after the link has healed. */
  | { readonly kind: 'half-open' }
  /** What is sent that way waits, and arrives when the link heals. */
  | { readonly kind: 'partition'; readonly way: 'up' | 'down' | 'both' };

export interface FaultProxy {
  readonly port: number;
  set(mode: LinkMode): void;
  heal(): void;
  close(): Promise<void>;
}

interface Flow {
  readonly from: Socket;
  readonly to: Socket;
  readonly way: 'up' | 'down';
  /** What waits: for its time, its turn, or for the link to heal. */
  readonly held: Buffer[];
  timer: NodeJS.Timeout | undefined;
}

interface Connection {
  readonly up: Flow;
  readonly down: Flow;
  /** Nothing passes on it any more, whatever the link's mode. */
  dead: boolean;
  /** A request went through that shall see no answer. */
  mute: boolean;
}

const trickleEveryMs = 20;

/** Stands between a client and a server on loopback, and breaks the line in every way a network can. */
export async function startFaultProxy(targetPort: number): Promise<FaultProxy> {
  const connections = new Set<Connection>();
  let mode: LinkMode = { kind: 'clear' };
  const server = createServer({ noDelay: true }, (client) => {
    if (mode.kind === 'refuse') {
      client.resetAndDestroy();
      return;
    }
    open(client);
  });

  function open(client: Socket): void {
    const upstream = connect({ port: targetPort, host: '127.0.0.1', noDelay: true });
    const up: Flow = { from: client, to: upstream, way: 'up', held: [], timer: undefined };
    const down: Flow = { from: upstream, to: client, way: 'down', held: [], timer: undefined };
    const connection: Connection = { up, down, dead: mode.kind === 'half-open', mute: false };
    connections.add(connection);
    for (const flow of [up, down]) {
      flow.from.on('data', (chunk: Buffer) => pass(connection, flow, chunk));
      flow.from.on('error', () => end(connection));
      flow.from.on('close', () => ended(connection, flow));
    }
  }

  /** The end travels like the bytes before it: what is held back arrives first, and an end on a dead line is not seen. */
  function ended(connection: Connection, flow: Flow): void {
    if (connection.dead && flow.way === 'down') return;
    if (flow.held.length > 0 && !connection.dead) return;
    end(connection);
  }

  function end(connection: Connection): void {
    connections.delete(connection);
    for (const flow of [connection.up, connection.down]) {
      clearTimeout(flow.timer);
      flow.from.destroy();
    }
  }

  function reset(connection: Connection): void {
    connection.up.from.resetAndDestroy();
    end(connection);
  }

  function pass(connection: Connection, flow: Flow, chunk: Buffer): void {
    if (connection.dead) return;
    if (connection.mute && flow.way === 'down') {
      reset(connection);
      return;
    }
    if (flow.held.length > 0) {
      flow.held.push(chunk);
      return;
    }
    switch (mode.kind) {
      case 'latency': {
        const { ms } = mode;
        flow.held.push(chunk);
        flow.timer = setTimeout(() => release(connection, flow), ms);
        return;
      }
      case 'trickle':
        flow.held.push(chunk);
        trickle(connection, flow);
        return;
      case 'partition':
        if (mode.way === 'both' || mode.way === flow.way) flow.held.push(chunk);
        else forward(flow, chunk);
        return;
      case 'reset-before':
        reset(connection);
        return;
      case 'reset-after':
        if (flow.way === 'up') connection.mute = true;
        forward(flow, chunk);
        return;
      case 'half-open':
        connection.dead = true;
        return;
      default:
        forward(flow, chunk);
    }
  }

  function forward(flow: Flow, chunk: Buffer): void {
    if (flow.to.write(chunk)) return;
    flow.from.pause();
    flow.to.once('drain', () => flow.from.resume());
  }

  function release(connection: Connection, flow: Flow): void {
    clearTimeout(flow.timer);
    for (const chunk of flow.held.splice(0)) forward(flow, chunk);
    if (flow.from.destroyed) {
      flow.to.end();
      setImmediate(() => end(connection));
    }
  }

  function trickle(connection: Connection, flow: Flow): void {
    if (mode.kind !== 'trickle') {
      release(connection, flow);
      return;
    }
    const size = Math.max(1, Math.round((mode.bytesPerSecond * trickleEveryMs) / 1_000));
    const first = flow.held.shift();
    if (first === undefined) return;
    forward(flow, first.subarray(0, size));
    if (first.length > size) flow.held.unshift(first.subarray(size));
    if (flow.held.length > 0) flow.timer = setTimeout(() => trickle(connection, flow), trickleEveryMs);
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as { port: number }).port,
    set(next) {
      mode = next;
      if (next.kind === 'refuse') for (const connection of [...connections]) reset(connection);
      if (next.kind === 'half-open') for (const connection of connections) connection.dead = true;
    },
    heal() {
      mode = { kind: 'clear' };
      for (const connection of connections) {
        if (!connection.dead) for (const flow of [connection.up, connection.down]) release(connection, flow);
      }
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const connection of [...connections]) end(connection);
      await closed;
    },
  };
}
