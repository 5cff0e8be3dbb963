import { Agent, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { buildApp } from '../../api/app.ts';
import { createMatchedServer } from '../../api/http/create-server.ts';
import type { Route } from '../../api/http/route.ts';
import { forFile } from '../support/for-file.ts';
import { startTestApi } from '../support/test-api.ts';

const api = forFile(await startTestApi());

/** Keeps the process from anything else, as a slow request of ours would. */
const slow: Route = {
  method: 'get',
  path: '/slow',
  scope: 'read',
  touches: 'nothing',
  operationId: 'slow',
  summary: 'Slow',
  responses: { 200: { description: 'done' } },
  handle: () => {
    const end = performance.now() + 5;
    while (performance.now() < end);
    return { status: 200 };
  },
};

describe('more requests than the process can answer', () => {
  it('are refused by how long they waited, those that were not begun included', async () => {
    const { deps } = api.api;
    const { app, line } = buildApp({ ...deps, metrics: { ...deps.metrics, registry: new Registry() } }, [
      slow,
    ]);
    const server = createMatchedServer(app);
    line.attachTo(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const agent = new Agent({ keepAlive: true });
    const authorization = `Bearer ${await api.key(['read'])}`;
    const ask = async (path = '/slow') =>
      await new Promise<{ status: number; text: string; retryAfter: number }>((resolve, reject) => {
        get({ port, path, agent, headers: { authorization } }, (response) => {
          let text = '';
          response.on('data', (chunk) => {
            text += chunk;
          });
          response.on('end', () => {
            const retryAfter = Number(response.headers['retry-after']);
            resolve({ status: response.statusCode ?? 0, text, retryAfter });
          });
        }).on('error', reject);
      });
    const many = async (path: string) => await Promise.all(Array.from({ length: 400 }, () => ask(path)));
    // Connections that are open: a new one is begun only when it was accepted.
    await many('/health');
    // Those were quick: what the guard knows of the last second would let the slow ones pass.
    await delay(1_100);
    // The key is known, and its requests are leased for a second, from here on: nothing waits for a database.
    expect((await ask()).status).toBe(200);
    const answers = await many('/slow');
    agent.destroy();
    server.close();
    const refused = answers.filter(({ status }) => status === 503);
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThan(20);
    expect(refused.length).toBeGreaterThan(20);
    for (const { text, retryAfter } of refused) {
      expect(JSON.parse(text)).toMatchObject({ code: 'overloaded' });
      expect(retryAfter).toBeGreaterThanOrEqual(1);
    }
  });
});
