import { EventEmitter } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { RequestQueue } from '../../../api/http/request-queue.ts';

const come = (destroyed = false) => ({ socket: { destroyed } }) as unknown as IncomingMessage;
const answer = {} as ServerResponse;

/** A line, and the server whose requests and connections it sees. */
function lineOf(handle: (request: IncomingMessage) => void) {
  const line = new RequestQueue(handle);
  const server = new EventEmitter();
  line.attachTo(server as unknown as Server);
  return {
    line,
    add: (request: IncomingMessage) => server.emit('request', request, answer),
    connect: () => server.emit('connection'),
  };
}
const waitForSlot = () => new Promise<void>((resolve) => setImmediate(resolve));

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('the line of requests', () => {
  it('begins all of them, in the order they came, and holds none after that', async () => {
    const begun: IncomingMessage[] = [];
    const { line, add } = lineOf((request) => begun.push(request));
    const requests = Array.from({ length: 1_000 }, () => come());
    for (const request of requests) add(request);
    expect(line.length).toBe(1_000);
    expect(begun).toHaveLength(0);
    while (line.length > 0) await waitForSlot();
    expect(begun).toEqual(requests);
  });

  it('lets the loop look at its sockets in between: what comes meanwhile is not held up by a long line', async () => {
    const { line, add } = lineOf(() => busy(1));
    for (let n = 0; n < 20; n++) add(come());
    await waitForSlot();
    await waitForSlot();
    expect(line.length).toBeGreaterThan(10);
    while (line.length > 0) await waitForSlot();
  });

  it('begins one request a turn while connections are accepted', async () => {
    let begun = 0;
    const { add, connect } = lineOf(() => begun++);
    for (let n = 0; n < 20; n++) add(come());
    for (let n = 1; n <= 5; n++) {
      connect();
      await waitForSlot();
      expect(begun).toBe(n);
    }
    await waitForSlot();
    expect(begun).toBe(20);
  });

  it('does not begin what nobody waits for any more', async () => {
    const begun: IncomingMessage[] = [];
    const { add } = lineOf((request) => begun.push(request));
    const here = come();
    add(come(true));
    add(here);
    await waitForSlot();
    expect(begun).toEqual([here]);
  });

  it('starts again when it was empty', async () => {
    let begun = 0;
    const { add } = lineOf(() => begun++);
    add(come());
    await waitForSlot();
    add(come());
    await waitForSlot();
    expect(begun).toBe(2);
  });

  it('knows when each came', async () => {
    const { line, add } = lineOf(() => {});
    const request = come();
    const before = performance.now();
    add(request);
    const came = line.arrivalOf(request);
    busy(5);
    expect(line.arrivalOf(request)).toBe(came);
    expect(came).toBeGreaterThanOrEqual(before);
    expect(line.arrivalOf(come())).toBeGreaterThan(came);
    await waitForSlot();
  });
});
