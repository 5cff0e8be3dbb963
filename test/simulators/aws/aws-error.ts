/** An error the protocol can word. Thrown by every action; anything else is a bug and becomes a 500. */
export class AwsError extends Error {
  readonly code: string;
  readonly status: number;
  constructor(code: string, message: string, status = 400) {
    super(message);
    this.name = 'AwsError';
    this.code = code;
    this.status = status;
  }
}

export function validationError(message: string): AwsError {
  return new AwsError('ValidationError', message);
}
