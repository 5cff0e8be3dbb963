import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { openBackends } from '../../deploy/local/backends.ts';
import { errorMessage } from '../../shared/errors.ts';
import { type Closers, createClosers, onSignals } from '../../shared/lifecycle/closers.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

/** What a command was asked for. */
export interface Asked<T extends Options> {
  readonly values: ReturnType<typeof parseArgs<{ options: T }>>['values'];
  /** The number that an option gives. Ends the process, with status 2 and a line that names the option, when it is none or out of bounds. */
  number(option: keyof T & string, least: number, most?: number): number;
  /** The same for whole numbers. */
  wholeNumber(option: keyof T & string, least: number, most?: number): number;
  /** Tells a line of progress on standard error. */
  say(line: string): void;
}

/** Reads the command line. `--help` tells `usage` and ends the process; what is not understood ends it with status 2 and one line. */
export function readCommandLine<T extends Options>(name: string, usage: string, options: T): Asked<T> {
  const say = (line: string) => console.error(`${name}: ${line}`);
  const refuse = (why: string): never => {
    say(why);
    process.exit(2);
  };
  const values = (() => {
    try {
      return parseArgs({ options: { ...options, help: { type: 'boolean' } } }).values;
    } catch (error) {
      return refuse(errorMessage(error));
    }
  })() as Record<string, unknown>;
  if (values.help === true) {
    console.log(usage);
    process.exit(0);
  }
  const numberFrom = (kind: string, option: string, least: number, most: number): number => {
    const text = String(values[option]);
    const value = Number(text);
    const isRight = kind === 'number' ? Number.isFinite(value) : Number.isSafeInteger(value);
    if (text.trim() !== '' && isRight && value >= least && value <= most) return value;
    const bounds = most === Number.POSITIVE_INFINITY ? `of at least ${least}` : `from ${least} to ${most}`;
    return refuse(`--${option} must be a ${kind} ${bounds}, not ${JSON.stringify(text)}`);
  };
  return {
    values: values as Asked<T>['values'],
    number: (option, least, most = Number.POSITIVE_INFINITY) => numberFrom('number', option, least, most),
    wholeNumber: (option, least, most = Number.POSITIVE_INFINITY) =>
      numberFrom('whole number', option, least, most),
    say,
  };
}

/**
 * Runs `work` in a folder of its own. What it opened is closed, and the folder is gone unless it is kept, when the work ends.
 * On Ctrl-C, or told to end, the same, with status 130: what was interrupted has shown nothing.
 */
export async function inTemporaryFolder<T>(
  name: string,
  work: (folder: string, closers: Closers) => Promise<T>,
  keep = false,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), `scaler-${name}-`));
  const closers = createClosers();
  closers.add('folder', () => {
    if (keep) console.error(`${name}: logs and databases are kept in ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  });
  onSignals(async () => {
    await closers.closeAll(30_000);
    process.exit(130);
  });
  try {
    return await work(folder, closers);
  } finally {
    await closers.closeAll(30_000);
  }
}

/** A PostgreSQL and a Redis of the command's own, whatever the environment names. @throws when there is no Redis to start. */
export function openOwnBackends(
  folder: string,
  closers: Closers,
  log: (line: string) => void,
): ReturnType<typeof openBackends> {
  const environment = { SCALER_CACHE_DIR: process.env.SCALER_CACHE_DIR };
  return openBackends({ environment, dataDir: folder, closers, log });
}
