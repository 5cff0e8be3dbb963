import type { IncomingMessage, Server, ServerResponse } from 'node:http';

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

/** How long the loop may be kept before it looks at its sockets again, milliseconds. */
const turnMs = 2;
/** While connections come: where one was accepted, others wait. */
const shortTurnMs = 0;
/** Requests begun that are kept until they are let go together: to take each from the front would be slow. */
const forgetFrom = 256;

/**
 * Takes requests in the order they came, a few at a time. Node reads all that is ready in one turn of its event loop, but accepts
 * one new connection in it (libuv/libuv#3696): under load a turn that serves hundreds takes half a second, and whoever comes
 * new waits for many turns before he can even be refused. Here turns stay short, one request long while connections come, and how long a request waits is known.
 */
export class RequestLine {
  readonly #handle: Handle;
  readonly #arrivals = new WeakMap<IncomingMessage, number>();
  #waiting: [IncomingMessage, ServerResponse][] = [];
  #next = 0;
  #isTurning = false;
  #hasAccepted = false;

  constructor(handle: Handle) {
    this.#handle = handle;
  }

  /** Requests that have come and are not begun. */
  get length(): number {
    return this.#waiting.length - this.#next;
  }

  /** When the request came, milliseconds of `performance.now()`; now, when it did not come through here. */
  arrivalOf(request: IncomingMessage): number {
    return this.#arrivals.get(request) ?? performance.now();
  }

  /** From here on the server's requests go through this line. */
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
      // Nobody waits for the answer any more.
      if (!request.socket.destroyed) this.#handle(request, response);
      if (performance.now() >= end) break;
    }
    this.#isTurning = this.length > 0;
    if (this.#isTurning) setImmediate(this.#turn);
    if (this.#isTurning && this.#next < forgetFrom) return;
    this.#waiting.splice(0, this.#next);
    this.#next = 0;
  };
}
