import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FaultRule, FaultScript } from './fault-script.ts';
import type { Ledger } from './ledger.ts';
import type { VirtualClock } from './virtual-clock.ts';

/** Where the paths of controls begin: no cloud has such a path. */
export const CONTROL_PREFIX = '/_simulator/';

/** What a control is given. Only our own tests and demo call them: a wrong body fails loudly. */
export interface Control {
  readonly query: URLSearchParams;
  readonly input: unknown;
}

/** By method and name: `POST faults`. */
export type Controls = Readonly<Record<string, (control: Control) => unknown>>;

/** What every simulated cloud lets other processes read and change: its ledger, its fault rules and its clock. */
export function commonControls<Effect>(
  ledger: Pick<Ledger<object>, 'entries'>,
  faults: FaultScript<Effect>,
  clock: VirtualClock,
): Controls {
  return {
    'GET ledger': ({ query }) => {
      const event = query.get('event');
      const entries = ledger.entries(Number(query.get('after') ?? 0));
      return { entries: event === null ? entries : entries.filter((entry) => entry.event === event) };
    },
    'GET faults': () => ({ faults: faults.list() }),
    'POST faults': ({ input }) => ({
      ids: [input].flat().map((rule) => faults.add(rule as FaultRule<Effect>)),
    }),
    'DELETE faults': ({ query }) => {
      const id = query.get('id');
      if (id === null) faults.clear();
      else faults.remove(id);
      return { faults: faults.list() };
    },
    'POST clock': ({ input }) => {
      const { timeScale, advanceMs } = input as { advanceMs?: number; timeScale?: number };
      if (timeScale !== undefined) clock.setTimeScale(timeScale);
      if (advanceMs !== undefined) clock.advance(advanceMs);
      return { now: clock.now() };
    },
  };
}

/** Answers other processes in JSON: 404 for a control that is not there, 400 for one that fails. */
export function answerControl(
  controls: Controls,
  clock: VirtualClock,
  request: IncomingMessage,
  response: ServerResponse,
  body: string,
): void {
  const sendJson = (status: number, value: unknown) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };
  const url = new URL(request.url ?? '/', 'http://simulator');
  clock.runDue();
  try {
    const run = controls[`${request.method} ${url.pathname.slice(CONTROL_PREFIX.length)}`];
    if (run === undefined)
      sendJson(404, { error: `No such control. There are: ${Object.keys(controls).join(', ')}` });
    else sendJson(200, run({ query: url.searchParams, input: body === '' ? {} : JSON.parse(body) }));
  } catch (error) {
    sendJson(400, { error: error instanceof Error ? error.message : String(error) });
  }
}
