import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Closers } from '../../shared/lifecycle/closers.ts';
import { projectRoot } from '../../shared/project-root.ts';
import { emptyCounts, mergeCounts, type TrafficCounts } from './counts.ts';
import { Histogram } from './histogram.ts';
import type { MixSetup } from './mix.ts';
import type { Step, TrafficMessage, TrafficOrder } from './traffic.ts';

/** What came of a stretch of load. */
export interface Stretch {
  readonly counts: TrafficCounts;
  /** From due to the answer: accepted decide and execute requests that do not ask to wait; other requests; refusals for load. */
  readonly accept: Histogram;
  readonly other: Histogram;
  readonly shed: Histogram;
  readonly seconds: number;
}

/** The load process, as seen from here. One run at a time. */
export class Traffic {
  readonly #child: ChildProcess;
  #onNews: (news: TrafficMessage) => void = () => {};
  #onEnd: (error: Error) => void = () => {};

  constructor(closers: Closers) {
    this.#child = fork(join(projectRoot(), 'dist/test/soak/traffic.js'), [], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    closers.add('traffic', () => this.#child.kill('SIGKILL'));
    this.#child.on('message', (news) => this.#onNews(news as TrafficMessage));
    this.#child.once('exit', () => this.#onEnd(new Error('the load process ended too early')));
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async setup(order: {
    setup: MixSetup;
    urls: readonly string[];
    seed: number;
    acceptedFile: string;
  }): Promise<void> {
    await this.#order({ type: 'setup', ...order }, (news) => news.type === 'ready');
  }

  /**
   * Runs steps back to back. @param onSecond is told, each second, what was answered of each step.
   * @returns what came of each step.
   */
  async run(
    steps: readonly Step[],
    onSecond?: (second: Stretch, step: number) => void,
  ): Promise<readonly Stretch[]> {
    const totals = steps.map(({ seconds }) => ({
      counts: emptyCounts(),
      accept: new Histogram(),
      other: new Histogram(),
      shed: new Histogram(),
      seconds,
    }));
    await this.#order({ type: 'run', steps }, (news) => {
      const total = news.type === 'second' ? totals[news.step] : undefined;
      if (news.type === 'second' && total !== undefined) {
        const second = {
          counts: news.counts,
          accept: Histogram.from(news.accept),
          other: Histogram.from(news.other),
          shed: Histogram.from(news.shed),
          seconds: 1,
        };
        mergeCounts(total.counts, news.counts);
        for (const name of ['accept', 'other', 'shed'] as const) total[name].merge(second[name]);
        onSecond?.(second, news.step);
      }
      return news.type === 'done';
    });
    return totals;
  }

  async #order(order: TrafficOrder, isLast: (news: TrafficMessage) => boolean): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#onEnd = reject;
      this.#onNews = (news) => {
        if (isLast(news)) resolve();
      };
      this.#child.send(order);
    });
  }
}
