import {
  type ApiResource,
  DEPLOYMENTS,
  HORIZONTAL_POD_AUTOSCALERS,
  NAMESPACES,
  PODS,
  STATEFUL_SETS,
} from './api-resources.ts';
import { badRequest, type StatusCause } from './api-status.ts';
import {
  asArray,
  asObject,
  asString,
  deepEqual,
  isArray,
  isObject,
  type Json,
  type JsonObject,
  stringAt,
  valueAt,
  withDefaults,
} from './json.ts';
import { goTypeName, isInt32 } from './scale.ts';

/** The fields a real server fills in; clients compare against them. */
export function defaulted(resource: ApiResource, object: JsonObject): JsonObject {
  switch (resource) {
    case DEPLOYMENTS:
      return { ...object, spec: defaultedDeployment(asObject(object.spec)) };
    case STATEFUL_SETS:
      return { ...object, spec: defaultedStatefulSet(asObject(object.spec)) };
    case PODS:
      return { ...object, spec: defaultedPodSpec(asObject(object.spec)) };
    case HORIZONTAL_POD_AUTOSCALERS:
      return { ...object, spec: defaultedAutoscaler(asObject(object.spec)) };
    case NAMESPACES:
      return { ...object, spec: withDefaults(object.spec, { finalizers: ['kubernetes'] }) };
    default:
      return object;
  }
}

function defaultedDeployment(spec: JsonObject): JsonObject {
  const rollingUpdate = { maxUnavailable: '25%', maxSurge: '25%' };
  const strategy = withDefaults(spec.strategy, { type: 'RollingUpdate' });
  return {
    ...withDefaults(spec, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 }),
    strategy:
      strategy.type === 'RollingUpdate'
        ? { ...strategy, rollingUpdate: withDefaults(strategy.rollingUpdate, rollingUpdate) }
        : strategy,
    template: defaultedTemplate(asObject(spec.template)),
  };
}

function defaultedStatefulSet(spec: JsonObject): JsonObject {
  return {
    ...withDefaults(spec, {
      replicas: 1,
      podManagementPolicy: 'OrderedReady',
      revisionHistoryLimit: 10,
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 0 } },
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Retain', whenScaled: 'Retain' },
    }),
    template: defaultedTemplate(asObject(spec.template)),
  };
}

function defaultedTemplate(template: JsonObject): JsonObject {
  return { ...template, spec: defaultedPodSpec(asObject(template.spec)) };
}

function defaultedPodSpec(spec: JsonObject): JsonObject {
  return {
    ...withDefaults(spec, {
      restartPolicy: 'Always',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      securityContext: {},
      schedulerName: 'default-scheduler',
    }),
    containers: asArray(spec.containers).map((container) => defaultedContainer(asObject(container))),
  };
}

function defaultedContainer(container: JsonObject): JsonObject {
  const image = asString(container.image);
  const pinned = /:[^/]+$/.test(image) && !image.endsWith(':latest');
  const ports = asArray(container.ports).map((port) => withDefaults(port, { protocol: 'TCP' }));
  return {
    ...withDefaults(container, {
      resources: {},
      terminationMessagePath: '/dev/termination-log',
      terminationMessagePolicy: 'File',
      imagePullPolicy: pinned ? 'IfNotPresent' : 'Always',
    }),
    ...(ports.length === 0 ? {} : { ports }),
  };
}

function defaultedAutoscaler(spec: JsonObject): JsonObject {
  const cpu = { type: 'Utilization', averageUtilization: 80 };
  const scaleUp = {
    stabilizationWindowSeconds: 0,
    selectPolicy: 'Max',
    policies: [
      { type: 'Pods', value: 4, periodSeconds: 15 },
      { type: 'Percent', value: 100, periodSeconds: 15 },
    ],
  };
  const scaleDown = { selectPolicy: 'Max', policies: [{ type: 'Percent', value: 100, periodSeconds: 15 }] };
  const defaults = withDefaults(spec, {
    minReplicas: 1,
    metrics: [{ type: 'Resource', resource: { name: 'cpu', target: cpu } }],
  });
  if (!isObject(spec.behavior)) return defaults;
  return {
    ...defaults,
    behavior: {
      scaleUp: withDefaults(spec.behavior.scaleUp, scaleUp),
      scaleDown: withDefaults(spec.behavior.scaleDown, scaleDown),
    },
  };
}

const INTEGER_FIELDS: Readonly<Record<string, readonly string[]>> = {
  Deployment: ['replicas'],
  StatefulSet: ['replicas'],
  ReplicaSet: ['replicas'],
  HorizontalPodAutoscaler: ['minReplicas', 'maxReplicas'],
};

/** A value of the wrong type fails while decoding, before any validation: 400, not 422. */
export function refuseWrongTypes(resource: ApiResource, version: string, object: JsonObject): void {
  for (const field of INTEGER_FIELDS[resource.kind] ?? []) {
    const value = valueAt(object, `spec.${field}`);
    if (value === undefined || value === null || isInt32(value)) continue;
    throw badRequest(
      `${resource.kind} in version "${version}" cannot be handled as a ${resource.kind}: json: cannot unmarshal ` +
        `${goTypeName(value)} into Go struct field ${resource.kind}Spec.spec.${field} of type int32`,
    );
  }
}

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const SUBDOMAIN_RULE =
  'a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, ' +
  "'-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', " +
  "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/** What is wrong with an object as a whole; `before` is there on an update. */
export function violations(
  resource: ApiResource,
  object: JsonObject,
  before: JsonObject | undefined,
): readonly StatusCause[] {
  const name = stringAt(object, 'metadata.name');
  const naming =
    name.length > 253 || !SUBDOMAIN.test(name) ? [invalidValue('metadata.name', name, SUBDOMAIN_RULE)] : [];
  return [...naming, ...specViolations(resource, object, before)];
}

function specViolations(
  resource: ApiResource,
  object: JsonObject,
  before: JsonObject | undefined,
): readonly StatusCause[] {
  switch (resource) {
    case DEPLOYMENTS:
    case STATEFUL_SETS:
      return workloadViolations(asObject(object.spec), before);
    case HORIZONTAL_POD_AUTOSCALERS:
      return autoscalerViolations(asObject(object.spec));
    case PODS:
      return containerViolations(asObject(object.spec), 'spec');
    default:
      return [];
  }
}

function workloadViolations(spec: JsonObject, before: JsonObject | undefined): StatusCause[] {
  const causes = [...atLeast('spec.replicas', spec.replicas, 0)];
  const labels = asObject(valueAt(spec.template, 'metadata.labels'));
  const selector = asObject(asObject(spec.selector).matchLabels);
  if (!isObject(spec.selector)) causes.push(required('spec.selector'));
  else if (!Object.entries(selector).every(([key, value]) => labels[key] === value)) {
    const why = '`selector` does not match template `labels`';
    causes.push(invalidValue('spec.template.metadata.labels', labels, why));
  }
  causes.push(...containerViolations(asObject(valueAt(spec.template, 'spec')), 'spec.template.spec'));
  if (before !== undefined && !deepEqual(asObject(before.spec).selector, spec.selector)) {
    causes.push(invalidValue('spec.selector', spec.selector ?? null, 'field is immutable'));
  }
  return causes;
}

function containerViolations(podSpec: JsonObject, path: string): StatusCause[] {
  const containers = asArray(podSpec.containers);
  if (!isArray(podSpec.containers) || containers.length === 0) return [required(`${path}.containers`)];
  return containers.flatMap((container, index) =>
    ['name', 'image']
      .filter((field) => asString(asObject(container)[field]) === '')
      .map((field) => required(`${path}.containers[${index}].${field}`)),
  );
}

function autoscalerViolations(spec: JsonObject): StatusCause[] {
  const causes: StatusCause[] = [];
  const { minReplicas, maxReplicas } = spec;
  if (typeof minReplicas === 'number' && minReplicas < 1) {
    causes.push(invalidValue('spec.minReplicas', minReplicas, 'must be greater than or equal to 1'));
  }
  if (typeof maxReplicas !== 'number' || maxReplicas < 1) {
    causes.push(invalidValue('spec.maxReplicas', maxReplicas ?? 0, 'must be greater than 0'));
  } else if (typeof minReplicas === 'number' && maxReplicas < minReplicas) {
    const why = 'must be greater than or equal to `minReplicas`';
    causes.push(invalidValue('spec.maxReplicas', maxReplicas, why));
  }
  for (const field of ['kind', 'name']) {
    if (stringAt(spec.scaleTargetRef, field) === '') causes.push(required(`spec.scaleTargetRef.${field}`));
  }
  return causes;
}

function atLeast(field: string, value: Json | undefined, minimum: number): StatusCause[] {
  if (typeof value !== 'number' || value >= minimum) return [];
  return [invalidValue(field, value, `must be greater than or equal to ${minimum}`)];
}

export function invalidValue(field: string, value: Json, why: string): StatusCause {
  return { reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field };
}

function required(field: string): StatusCause {
  return { reason: 'FieldValueRequired', message: 'Required value', field };
}
