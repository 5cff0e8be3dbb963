import type { MemoryVerdict } from './memory.ts';

export interface FuzzReport {
  readonly seed: number;
  readonly requests: number;
  readonly seconds: number;
  readonly operations: number;
  readonly by_status: Readonly<Record<string, number>>;
  readonly by_code: Readonly<Record<string, number>>;
  /** Requests that a whole answer was due to, without one. */
  readonly no_answer: number;
  /** Bytes that are no whole request, and got no answer: see raw-shapes.ts. */
  readonly no_answer_allowed: number;
  readonly server_errors: number;
  readonly overload_503: number;
  readonly state_changes_by_refused: number;
  readonly refused_requests: number;
  /** Of them, those sent between two looks at the database and with refused ones only, at once or once more. */
  readonly refused_requests_compared: number;
  /** Sent once more for that, not counted in `requests`. */
  readonly requests_sent_again: number;
  readonly compared: number;
  readonly slowest_ms: number;
  readonly over_2s: number;
  /** After garbage was collected. */
  readonly live_memory: MemoryVerdict;
  readonly rss: MemoryVerdict;
  /** Sequences of requests (keys used again, by others, with other bodies), and what they were answered wrongly. */
  readonly sequences: number;
  readonly sequences_cut_short: number;
  readonly wrong_answers: number;
  readonly invalid_problem_bodies: number;
  readonly invalid_responses: number;
  readonly injected_headers: number;
  readonly smuggled_answers: number;
  readonly canary_connections: number;
  readonly slow_clients: number;
  readonly slow_clients_not_cut: number;
  readonly process_died: boolean;
  readonly schemathesis: string;
  /** The first of each kind. */
  readonly examples: readonly string[];
}

/** Of the refused requests so many must have been compared. */
const leastCompared = 0.9;
/** So many must have let memory be judged, and every sequence be sent. */
const fullRun = 10_000;
const someRun = 1_000;

/** What must be 0, or false, or flat, for a run to pass; and what a run must have looked at. */
export function breaksOf(report: FuzzReport): string[] {
  const counts = [
    'no_answer',
    'server_errors',
    'state_changes_by_refused',
    'over_2s',
    'wrong_answers',
    'invalid_problem_bodies',
    'invalid_responses',
    'injected_headers',
    'smuggled_answers',
    'canary_connections',
    'slow_clients_not_cut',
  ] as const;
  return [
    ...counts.filter((name) => report[name] > 0).map((name) => `${name}: ${report[name]}`),
    ...(report.process_died ? ['the API process died'] : []),
    ...(report.compared < leastCompared
      ? [`only ${report.refused_requests_compared} of ${report.refused_requests} refused requests compared`]
      : []),
    ...(report.requests >= someRun && report.sequences === 0 ? ['no sequence was sent'] : []),
    ...memoryBreaks(report),
  ];
}

function memoryBreaks(report: FuzzReport): string[] {
  return (['live_memory', 'rss'] as const).flatMap((name) => {
    const { verdict, mb_per_10k, error_mb_per_10k, allowed_mb } = report[name];
    if (verdict === 'growing')
      return [
        `${name} grows by ${mb_per_10k} ± ${error_mb_per_10k} MB every 10,000 requests, more than ${allowed_mb} MB`,
      ];
    return verdict === 'too short to say' && report.requests >= fullRun
      ? [`${name} could not be judged`]
      : [];
  });
}
