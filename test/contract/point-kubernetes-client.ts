import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import type { KubernetesSimulator } from '../simulators/kubernetes/server.ts';

/** Writes one kubeconfig with a context per simulator, and points KUBECONFIG to it. */
export async function pointKubernetesClientTo(
  clusters: Readonly<Record<string, KubernetesSimulator>>,
): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'scaler-kubeconfig-'));
  const configs = Object.entries(clusters).map(([context, { kubeconfig }]) => {
    const config = new KubeConfig();
    config.loadFromString(kubeconfig.replaceAll('simulator', context));
    return config;
  });
  const merged = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': Object.keys(clusters)[0],
    ...Object.fromEntries(
      (['clusters', 'contexts', 'users'] as const).map((part) => [
        part,
        configs.flatMap(
          (config) => (JSON.parse(config.exportConfig()) as Record<string, unknown[]>)[part] ?? [],
        ),
      ]),
    ),
  };
  process.env.KUBECONFIG = join(folder, 'config');
  await writeFile(process.env.KUBECONFIG, JSON.stringify(merged));
  return () => rm(folder, { recursive: true, force: true });
}
