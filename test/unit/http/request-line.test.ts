import type { IncomingMessage, ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { RequestLine } from '../../../api/http/request-line.ts';

const come = (destroyed = false) => ({ socket: { destroyed } }) as unknown as IncomingMessage;
const answer = {} as ServerResponse;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('the line of requests', () => {
  it('begins all of them, in the order they came, and holds none after that', async () => {
    const begun: IncomingMessage[] = [];
    const line = new RequestLine((request) => begun.push(request));
    const requests = Array.from({ length: 1_000 }, () => come());
    for (const request of requests) line.add(request, answer);
    expect(line.length).toBe(1_000);
    expect(begun).toHaveLength(0);
    while (line.length > 0) await turn();
    expect(begun).toEqual(requests);
  });

  it('lets the loop look at its sockets in between: what comes meanwhile is not held up by a long line', async () => {
    const line = new RequestLine(() => busy(1));
    for (let n = 0; n < 20; n++) line.add(come(), answer);
    await turn();
    await turn();
    expect(line.length).toBeGreaterThan(10);
    while (line.length > 0) await turn();
  });

  it('begins one request a turn while connections are accepted', async () => {
    let begun = 0;
    const line = new RequestLine(() => begun++);
    for (let n = 0; n < 20; n++) line.add(come(), answer);
    for (let n = 1; n <= 5; n++) {
      line.connected();
      await turn();
      expect(begun).toBe(n);
    }
    await turn();
    expect(begun).toBe(20);
  });

  it('does not begin what nobody waits for any more', async () => {
    const begun: IncomingMessage[] = [];
    const line = new RequestLine((request) => begun.push(request));
    const here = come();
    line.add(come(true), answer);
    line.add(here, answer);
    await turn();
    expect(begun).toEqual([here]);
  });

  it('starts again when it was empty', async () => {
    let begun = 0;
    const line = new RequestLine(() => begun++);
    line.add(come(), answer);
    await turn();
    line.add(come(), answer);
    await turn();
    expect(begun).toBe(2);
  });

  it('knows when each came', async () => {
    const line = new RequestLine(() => {});
    const request = come();
    const before = performance.now();
    line.add(request, answer);
    const came = line.arrivalOf(request);
    busy(5);
    expect(line.arrivalOf(request)).toBe(came);
    expect(came).toBeGreaterThanOrEqual(before);
    expect(line.arrivalOf(come())).toBeGreaterThan(came);
    await turn();
  });
});
