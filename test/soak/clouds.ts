import { startAwsSimulator } from '../simulators/aws/server.ts';
import { startKubernetesSimulator } from '../simulators/kubernetes/server.ts';

/** Both clouds in a process of their own, so that neither their memory nor their time is counted as the service's. */
export interface CloudsReady {
  readonly awsEndpoint: string;
  readonly kubeconfig: string;
}

const [countText = '1', seedText = '1'] = process.argv.slice(2);
const count = Number(countText);
const seed = Number(seedText);
const aws = await startAwsSimulator({
  seed,
  provisioning: { launchMs: 2_000, terminateMs: 1_000 },
  groups: Array.from({ length: count }, (_, index) => ({
    name: `asg-${index}`,
    region: 'us-east-1',
    min: 1,
    max: 40,
    desired: 10,
    instanceType: 'm5.large',
  })),
});
const kubernetes = await startKubernetesSimulator({
  seed,
  startDelayMs: 1_000,
  stopDelayMs: 500,
  deployments: Array.from({ length: count }, (_, index) => ({
    namespace: 'soak',
    name: `web-${index}`,
    replicas: 10,
    requests: { cpu: '500m', memory: '1Gi' },
  })),
});
process.on('disconnect', () => process.exit(0));
process.send?.({ awsEndpoint: aws.endpoint, kubeconfig: kubernetes.kubeconfig } satisfies CloudsReady);
