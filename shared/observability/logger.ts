import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

/** One JSON line per event on standard output. Secrets print as `[redacted]`. */
export function createLogger(options: { readonly level: string; readonly name: string }): Logger {
  return pino({
    level: options.level,
    base: { service: 'scaler', process: options.name, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: [
        'authorization',
        '*.authorization',
        'headers.cookie',
        'secret',
        '*.secret',
        'password',
        '*.password',
        'databaseUrl',
        'redisUrl',
      ],
      censor: '[redacted]',
    },
  });
}
