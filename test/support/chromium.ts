import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

type Values = Readonly<Record<string, unknown>>;

/** CHROMIUM, or the first Chromium or Chrome on the PATH; null where there is none. */
export function findChromium(): string | null {
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const folders = (process.env.PATH ?? '').split(delimiter);
  const candidates = [
    process.env.CHROMIUM ?? '',
    ...names.flatMap((name) => folders.map((at) => join(at, name))),
  ];
  return candidates.find((file) => file !== '' && isExecutable(file)) ?? null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** A headless browser, spoken to over pipes, so that it needs no package. */
export class Chromium {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #input: Writable;
  readonly #answers = new Map<number, (answer: { result?: Values; error?: { message: string } }) => void>();
  readonly #listeners = new Map<string, (method: string, values: Values) => void>();
  #lastId = 0;

  constructor(program: string) {
    this.#profile = mkdtempSync(join(tmpdir(), 'scaler-chromium-'));
    this.#child = spawn(
      program,
      [
        '--headless=new',
        '--remote-debugging-pipe',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--window-size=1280,900',
        `--user-data-dir=${this.#profile}`,
      ],
      { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
    );
    this.#input = this.#child.stdio[3] as Writable;
    let text = '';
    (this.#child.stdio[4] as Readable).on('data', (chunk: Buffer) => {
      const messages = (text + chunk.toString()).split('\0');
      text = messages.pop() ?? '';
      for (const message of messages) this.#take(JSON.parse(message));
    });
  }

  async send(method: string, params: Values = {}, sessionId?: string): Promise<Values> {
    const id = ++this.#lastId;
    const message = { id, method, params, ...(sessionId === undefined ? {} : { sessionId }) };
    return await new Promise((resolve, reject) => {
      this.#answers.set(id, ({ result, error }) =>
        error === undefined ? resolve(result ?? {}) : reject(new Error(`${method}: ${error.message}`)),
      );
      this.#input.write(`${JSON.stringify(message)}\0`);
    });
  }

  /** A tab of its own. */
  async open(): Promise<Tab> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const tab = new Tab(this, sessionId as string);
    this.#listeners.set(sessionId as string, (method, values) => tab.hear(method, values));
    for (const domain of ['Page', 'Runtime', 'Log', 'Network'])
      await this.send(`${domain}.enable`, {}, sessionId as string);
    return tab;
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null) {
      this.#child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
  }

  #take(message: {
    id?: number;
    sessionId?: string;
    method?: string;
    params?: Values;
    result?: Values;
    error?: { message: string };
  }): void {
    if (message.id !== undefined) {
      this.#answers.get(message.id)?.(message);
      this.#answers.delete(message.id);
    } else if (message.method !== undefined)
      this.#listeners.get(message.sessionId ?? '')?.(message.method, message.params ?? {});
  }
}

/** One tab of the browser. */
export class Tab {
  readonly #browser: Chromium;
  readonly #session: string;
  /** Errors in the console, uncaught exceptions, refusals of the content security policy. */
  readonly complaints: string[] = [];

  constructor(browser: Chromium, session: string) {
    this.#browser = browser;
    this.#session = session;
  }

  hear(method: string, values: Values): void {
    if (method === 'Runtime.exceptionThrown') this.complaints.push(JSON.stringify(values.exceptionDetails));
    if (method === 'Runtime.consoleAPICalled' && values.type === 'error')
      this.complaints.push(JSON.stringify(values.args));
    const entry = values.entry as { level?: string; text?: string; url?: string } | undefined;
    if (method === 'Log.entryAdded' && entry?.level === 'error')
      this.complaints.push(`${entry.text} ${entry.url ?? ''}`);
  }

  async goto(url: string): Promise<void> {
    await this.#send('Page.navigate', { url });
    await this.until('document.readyState === "complete"');
  }

  /** The value of an expression, awaited. @throws Error with what it threw. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.#send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  /** Waits until an expression is true, for 15 s at most. */
  async until(expression: string): Promise<void> {
    const end = performance.now() + 15_000;
    while (performance.now() < end) {
      // Fails while the page changes.
      if (await this.evaluate<boolean>(`Boolean(${expression})`).catch(() => false)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const text = await this.evaluate<string>('document.body.innerText').catch(() => '(no page)');
    throw new Error(`never came true: ${expression}. The page says: ${text.slice(0, 500)}`);
  }

  async cookies(): Promise<readonly Values[]> {
    return (await this.#send('Network.getAllCookies')).cookies as readonly Values[];
  }

  /** A picture of the page, where SCREENSHOTS names a folder for them. */
  async picture(name: string): Promise<void> {
    if (process.env.SCREENSHOTS === undefined) return;
    const { data } = await this.#send('Page.captureScreenshot', { format: 'png' });
    writeFileSync(join(process.env.SCREENSHOTS, `${name}.png`), Buffer.from(data as string, 'base64'));
  }

  async #send(method: string, params: Values = {}): Promise<Values> {
    return await this.#browser.send(method, params, this.#session);
  }
}
