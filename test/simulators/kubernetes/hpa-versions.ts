import { asArray, asObject, type JsonObject, type KubernetesObject, valueAt, without } from './json.ts';

/** Autoscalers are stored as autoscaling/v2; v1 knows a CPU percentage only. */
export function toAutoscalingV1(hpa: KubernetesObject): KubernetesObject {
  const spec = asObject(hpa.spec);
  const status = asObject(hpa.status);
  const target = cpuPercentage(spec.metrics, 'target');
  const current = cpuPercentage(status.currentMetrics, 'current');
  return {
    ...hpa,
    apiVersion: 'autoscaling/v1',
    spec: {
      ...without(spec, 'metrics', 'behavior'),
      ...(target === undefined ? {} : { targetCPUUtilizationPercentage: target }),
    },
    status: {
      ...without(status, 'currentMetrics', 'conditions'),
      ...(current === undefined ? {} : { currentCPUUtilizationPercentage: current }),
    },
  };
}

function cpuPercentage(metrics: JsonObject[string], side: 'target' | 'current'): number | undefined {
  const cpu = asArray(metrics).find((metric) => valueAt(metric, 'resource.name') === 'cpu');
  const percentage = valueAt(cpu, `resource.${side}.averageUtilization`);
  return typeof percentage === 'number' ? percentage : undefined;
}

export function fromAutoscalingV1(hpa: JsonObject, stored: KubernetesObject | undefined): JsonObject {
  const spec = asObject(hpa.spec);
  const percentage = spec.targetCPUUtilizationPercentage;
  const others = asArray(asObject(stored?.spec).metrics).filter(
    (metric) => valueAt(metric, 'resource.name') !== 'cpu',
  );
  const cpu = typeof percentage === 'number' ? [cpuMetric(percentage)] : [];
  const metrics = [...others, ...cpu];
  return {
    ...hpa,
    apiVersion: 'autoscaling/v2',
    spec: {
      ...without(spec, 'targetCPUUtilizationPercentage'),
      ...(metrics.length === 0 ? {} : { metrics }),
      ...(stored === undefined ? {} : { behavior: asObject(stored.spec).behavior }),
    },
  };
}

export function cpuMetric(averageUtilization: number): JsonObject {
  return { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization } } };
}
