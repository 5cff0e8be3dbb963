import { createServer, type Server } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Chromium, findChromium, type Tab } from '../support/chromium.ts';
import { seedResource } from '../support/seed.ts';
import { type ApiClient, startTestApi, type TestApi } from '../support/test-api.ts';

const program = findChromium();
if (program === null)
  console.error(
    'test: no Chromium on the PATH (or in CHROMIUM): what a browser sees of the board is not tested',
  );

const board = '/admin/queues';

describe.skipIf(program === null)('in a real browser', () => {
  let api: TestApi;
  let browser: Chromium;
  let admin: ApiClient;
  let stranger: Server;
  let strangerUrl: string;

  beforeAll(async () => {
    api = await startTestApi();
    admin = await api.client();
    const resource_id = await seedResource(api.pool);
    await admin.post('/scale/decide', { resource_id });
    browser = new Chromium(program as string);
    // Another site: localhost is not 127.0.0.1.
    stranger = createServer((_request, response) => {
      response.setHeader('Content-Type', 'text/html');
      response.end(`<h1>stranger</h1><iframe id="framed" src="${api.url}${board}"></iframe>
        <form id="post" method="post" target="out" action="${api.url}${board}/login"><input name="key" value="${admin.key}"></form><iframe name="out"></iframe>`);
    });
    await new Promise<void>((resolve) => stranger.listen(0, '127.0.0.1', resolve));
    strangerUrl = `http://localhost:${(stranger.address() as { port: number }).port}/`;
  });
  afterAll(async () => {
    await browser?.close();
    stranger?.close();
    await api?.close();
  });

  const logIn = async (tab: Tab, key: string) => {
    await tab.evaluate(
      `document.querySelector('input[name=key]').value = ${JSON.stringify(key)}; document.querySelector('form').requestSubmit()`,
    );
  };

  it('the board asks for an admin key, takes no other, and then shows the queues and changes none', async () => {
    const tab = await browser.open();
    await tab.goto(api.url + board);
    await tab.until('document.querySelector("input[type=password]")');
    await tab.picture('1-login');
    await logIn(tab, await api.key(['read', 'decide', 'execute']));
    await tab.until('document.querySelector("[role=alert]")');
    await tab.picture('2-refused');
    expect(await tab.evaluate('document.querySelector("[role=alert]").textContent')).toContain('admin');
    expect(await tab.cookies()).toEqual([]);

    // The 401 and the 403 before this are what a browser calls errors.
    tab.complaints.length = 0;
    await logIn(tab, admin.key);
    await tab.until(
      `location.pathname === ${JSON.stringify(board)} && /execute-kubernetes/.test(document.body.innerText)`,
    );
    await tab.picture('3-board');
    await tab.goto(`${api.url}${board}/queue/decide`);
    await tab.until('/waiting/i.test(document.body.innerText)');
    await tab.picture('4-queue');
    expect(tab.complaints).toEqual([]);

    const cookies = await tab.cookies();
    expect(cookies).toMatchObject([{ httpOnly: true, sameSite: 'Strict', path: board }]);
    expect(await tab.evaluate('document.cookie')).toBe('');
    expect(Number(cookies[0]?.expires)).toBeLessThanOrEqual(Date.now() / 1_000 + 15 * 60 + 5);

    const status = (method: string, path: string) =>
      tab.evaluate(
        `fetch('${board}/api/queues/${path}', { method: '${method}' }).then(({ status }) => status)`,
      );
    expect(await status('PUT', 'decide/pause')).toBe(405);
    expect(await status('PUT', 'decide/empty')).toBe(405);
    expect(await status('PUT', 'decide/clean/failed')).toBe(405);
    expect(await status('POST', 'decide/add')).toBe(405);
  });

  it('another site can neither frame it, nor read it, nor log in or change anything through it', async () => {
    const tab = await browser.open();
    await tab.goto(strangerUrl);
    await tab.until('document.querySelector("h1")');
    await expect
      .poll(() => tab.complaints.join(' '))
      .toMatch(/frame-ancestors|X-Frame-Options|refused to connect/i);
    await tab.picture('5-framed');
    const reach = (method: string, path: string) =>
      tab.evaluate(
        `fetch('${api.url}${board}${path}', { method: '${method}', credentials: 'include', mode: 'no-cors' }).then(({ type }) => type, () => 'blocked')`,
      );
    const read = (path: string) =>
      tab.evaluate(
        `fetch('${api.url}${board}${path}', { credentials: 'include' }).then((response) => response.text(), () => 'blocked')`,
      );
    expect(await read('/api/queues')).toBe('blocked');
    // It arrives, and not even that may be seen.
    expect(await reach('POST', '/api/queues/decide/add')).toBe('blocked');
    await tab.evaluate('document.querySelector("#post").submit()');
    const refusals = async () =>
      (
        await api.pool.query(
          `select detail->>'code' as code from audit_log where action = 'request.refused' and detail->>'code' = 'cross_site'`,
        )
      ).rowCount;
    // The form's, and the fetch's.
    await expect.poll(refusals, { timeout: 5_000 }).toBe(2);
    const opened = await api.pool.query(`select 1 from audit_log where action = 'board.opened'`);
    expect(opened.rowCount).toBe(1);
  });

  it('the session ends with its key', async () => {
    const key = await api.key(['admin']);
    const tab = await browser.open();
    await tab.goto(api.url + board);
    // The session of before is in the same browser.
    await tab.evaluate(
      `fetch('${board}/login', { method: 'POST', body: new URLSearchParams({ key: '${key}' }) })`,
    );
    await tab.goto(api.url + board);
    await tab.until('/execute-kubernetes/.test(document.body.innerText)');
    await api.pool.query('update api_keys set revoked_at = now() where id = $1', [key.split('_')[2]]);
    const seen = () => tab.evaluate(`fetch('${board}/api/queues').then(({ status }) => status)`);
    await expect.poll(seen, { timeout: 7_000, interval: 500 }).toBe(401);
  });

  it('the documentation shows every operation, without an error', async () => {
    const tab = await browser.open();
    await tab.goto(`${api.url}/docs`);
    await tab.until('document.querySelectorAll(".opblock").length >= 25');
    await tab.picture('6-docs');
    const shown = await tab.evaluate('document.querySelectorAll(".opblock").length');
    expect(shown).toBe(api.api.routes.length);
    expect(tab.complaints).toEqual([]);
    expect(await tab.evaluate('document.querySelectorAll(".errors-wrapper").length')).toBe(0);
  });
});
