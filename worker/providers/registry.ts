import type { CloudProvider } from '../../shared/domain/resource.ts';
import { withCallPolicy } from '../resilience/call-policy.ts';
import { AwsAutoScaling } from './aws-auto-scaling.ts';
import { Kubernetes } from './kubernetes.ts';
import type { ScalingProvider } from './scaling-provider.ts';

export interface ProviderOptions {
  readonly awsRegion: string;
  /** How long an unacknowledged AWS write may still land: the signature's life and some. */
  readonly awsSettleMs: number;
  readonly concurrency: number;
  readonly onCall: (provider: CloudProvider, operation: string, result: string) => void;
  readonly onCircuit: (provider: CloudProvider, openCircuits: number) => void;
}

/** Longer than a request's own time limit (10 s): after that it is answered, aborted or lost. */
const kubernetesSettleMs = 15_000;

/**
 * The one list of providers. Clients are made at first use, so a worker without one cloud's credentials serves the
 * other.
 */
export function createProviders(options: ProviderOptions): ReadonlyMap<CloudProvider, ScalingProvider> {
  const providers: ScalingProvider[] = [
    new AwsAutoScaling({ defaultRegion: options.awsRegion, settleMs: options.awsSettleMs }),
    new Kubernetes({ settleMs: kubernetesSettleMs }),
  ];
  return new Map(
    providers.map((provider) => [
      provider.name,
      withCallPolicy(provider, {
        concurrency: options.concurrency,
        failures: 5,
        openMs: 30_000,
        now: () => performance.now(),
        onCall: (operation, result) => options.onCall(provider.name, operation, result),
        onCircuit: (open) => options.onCircuit(provider.name, open),
      }),
    ]),
  );
}
