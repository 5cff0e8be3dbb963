import { AutoScaling } from '@aws-sdk/client-auto-scaling';
import { EC2 } from '@aws-sdk/client-ec2';

export interface ClientOptions {
  readonly region?: string;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly sessionToken?: string;
  /** Signs as if the client's clock were off by this much. */
  readonly systemClockOffset?: number;
}

/** The real SDK client on a simulator. No retries: a test wants to see each answer. */
export function autoScalingClient(endpoint: string, options: ClientOptions = {}): AutoScaling {
  return new AutoScaling(configuration(endpoint, options));
}

/** The same for EC2. */
export function ec2Client(endpoint: string, options: ClientOptions = {}): EC2 {
  return new EC2(configuration(endpoint, options));
}

function configuration(endpoint: string, options: ClientOptions) {
  const {
    region = 'us-east-1',
    accessKeyId = 'AKIATEST',
    secretAccessKey = 'secret',
    sessionToken,
  } = options;
  return {
    endpoint,
    region,
    maxAttempts: 1,
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) },
    ...(options.systemClockOffset === undefined ? {} : { systemClockOffset: options.systemClockOffset }),
  };
}
