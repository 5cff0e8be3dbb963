import type { IncomingMessage, Server, ServerResponse } from 'node:http';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

/** How long requests may occupy the event loop before it polls its sockets again. */
const turnMs = 2;
/** While connections arrive: where one was accepted, others wait. */
const shortTurnMs = 0;
/** Handled requests are removed from the array in batches: shifting each one would be slow. */
const removeFrom = 256;

/**
 * FIFO queue of waiting requests. Node reads all ready requests in one turn of its event loop, but accepts
 * one new connection in it (libuv/libuv#3696): under load a turn that serves hundreds takes half a second, and a new
 * client waits for many turns before it can even be refused. This queue keeps turns short (one request while
 * connections arrive), and measures how long requests wait.
 */
export class RequestQueue {
  readonly #handle: Handle;
  readonly #arrivals = new WeakMap<IncomingMessage, number>();
  #waiting: [IncomingMessage, ServerResponse][] = [];
  #next = 0;
  #isTurning = false;
  #hasAccepted = false;

  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** Requests that wait to be handled. */
  get length(): number {
    return this.#waiting.length - this.#next;
  }

  /** Arrival, milliseconds of `performance.now()`; now, for a request that did not come through this queue. */
  arrivalOf(request: IncomingMessage): number {
    return this.#arrivals.get(request) ?? performance.now();
  }

  /** Makes this the server's request listener. */
  attachTo(server: Pick<Server, 'on'>): void {
    server.on('request', this.#add);
    server.on('connection', () => {
      this.#hasAccepted = true;
    });
  }

  readonly #add: Handle = (request, response) => {
    this.#arrivals.set(request, performance.now());
    this.#waiting.push([request, response]);
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(this.#turn);
  };

  readonly #turn = (): void => {
    const end = performance.now() + (this.#hasAccepted ? shortTurnMs : turnMs);
    this.#hasAccepted = false;
    while (this.#next < this.#waiting.length) {
      const [request, response] = this.#waiting[this.#next++] as [IncomingMessage, ServerResponse];
      // The client has disconnected.
      if (!request.socket.destroyed) this.#handle(request, response);
      if (performance.now() >= end) break;
    }
    this.#isTurning = this.length > 0;
    if (this.#isTurning) setImmediate(this.#turn);
    if (this.#isTurning && this.#next < removeFrom) return;
    this.#waiting.splice(0, this.#next);
    this.#next = 0;
  };
}
