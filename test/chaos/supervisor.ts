import { setTimeout as delay } from 'node:timers/promises';
import { type ServiceProcess, startProcess } from '../../deploy/local/processes.ts';

export interface MemberOptions {
  readonly name: string;
  /** Below dist/, e.g. `api/main.js`. */
  readonly program: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** Told of every end nobody here asked for, and how long the process had run. */
  readonly onUnexpectedEnd: (name: string, code: number | null, upMs: number) => void;
}

/** How soon an ended process is started again, as a container runtime would. */
const restartMs = 200;

/** One process of the service, kept running: whatever ends it, it is started again. */
export class Member {
  readonly name: string;
  readonly #options: MemberOptions;
  #process: ServiceProcess;
  #closing = false;
  #asked = false;
  #startedAt = 0;

  constructor(options: MemberOptions) {
    this.name = options.name;
    this.#options = options;
    this.#process = this.#start();
  }

  /** @returns false when there is no process to send it to just now. */
  signal(signal: NodeJS.Signals): boolean {
    const { child } = this.#process;
    if (child.exitCode !== null || child.signalCode !== null) return false;
    if (signal === 'SIGKILL' || signal === 'SIGTERM') this.#asked = true;
    return child.kill(signal);
  }

  get pid(): number | undefined {
    return this.#process.child.pid;
  }

  /** Ends it for good: first a frozen one is thawed, so that it can. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.signal('SIGCONT');
    await this.#process.stop(graceMs);
  }

  #start(): ServiceProcess {
    const { name, program, environment, logFile } = this.#options;
    this.#asked = false;
    this.#startedAt = performance.now();
    const started = startProcess({ name, program, environment, logFile });
    void started.ended.then((code) => this.#ended(code));
    return started;
  }

  async #ended(code: number | null): Promise<void> {
    if (this.#closing) return;
    if (!this.#asked) this.#options.onUnexpectedEnd(this.name, code, performance.now() - this.#startedAt);
    await delay(restartMs);
    if (!this.#closing) this.#process = this.#start();
  }
}
