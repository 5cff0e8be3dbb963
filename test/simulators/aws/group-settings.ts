import { validationError } from './aws-error.ts';
import { specificationOf } from './launch-plan.ts';
import { findLaunchTemplate, referenceTo } from './launch-templates.ts';
import { type FormValue, missing, type Parameters, parametersOf } from './query-form.ts';
import {
  ACCOUNT_ID,
  type Group,
  type LaunchTemplateReference,
  type Region,
  type Tag,
  uuidFrom,
  type World,
} from './state.ts';

/** Kept and answered as they came: they change nothing in the simulation. */
const STORED_SETTINGS = [
  'HealthCheckType',
  'HealthCheckGracePeriod',
  'VPCZoneIdentifier',
  'PlacementGroup',
  'MaxInstanceLifetime',
  'CapacityRebalance',
  'Context',
  'DesiredCapacityType',
  'DefaultInstanceWarmup',
  'InstanceMaintenancePolicy',
  'DeletionProtection',
] as const;

const DEFAULT_SETTINGS = { HealthCheckType: 'EC2', HealthCheckGracePeriod: '0' };

export interface Sizes {
  readonly min: number;
  readonly max: number;
  readonly desired: number;
}

type SimulatedSettings = Partial<
  Pick<
    Group,
    | 'defaultCooldown'
    | 'zones'
    | 'launchTemplate'
    | 'launchConfigurationName'
    | 'mixedInstancesPolicy'
    | 'protectNewInstances'
    | 'terminationPolicies'
  >
>;

export interface Settings {
  readonly simulated: SimulatedSettings;
  readonly stored: Readonly<Record<string, FormValue>>;
}

export function blankGroup(world: World, region: Region, name: string, sizes: Sizes): Group {
  return {
    name,
    region: region.name,
    arn: `arn:aws:autoscaling:${region.name}:${ACCOUNT_ID}:autoScalingGroup:${uuidFrom(world)}:autoScalingGroupName/${name}`,
    createdAt: world.clock.now(),
    ...sizes,
    defaultCooldown: 300,
    zones: [`${region.name}a`, `${region.name}b`],
    launchTemplate: undefined,
    launchConfigurationName: undefined,
    mixedInstancesPolicy: undefined,
    protectNewInstances: false,
    terminationPolicies: ['Default'],
    tags: [],
    settings: DEFAULT_SETTINGS,
    status: undefined,
    suspended: new Map(),
    instances: [],
    refreshes: [],
    lastActivity: undefined,
    pendingCauses: [],
    isLaunchRetryPlanned: false,
  };
}

export function groupFromRequest(world: World, region: Region, name: string, parameters: Parameters): Group {
  const min = parameters.integer('MinSize');
  const max = parameters.integer('MaxSize');
  if (min === undefined) throw missing('MinSize');
  if (max === undefined) throw missing('MaxSize');
  const sizes = checkedSizes(min, max, parameters.integer('DesiredCapacity') ?? min);
  const { simulated, stored } = readSettings(region, parameters);
  if (
    simulated.launchTemplate === undefined &&
    simulated.mixedInstancesPolicy === undefined &&
    simulated.launchConfigurationName === undefined
  ) {
    throw validationError(
      'Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or MixedInstancesPolicy parameter.',
    );
  }
  if (simulated.zones === undefined && stored.VPCZoneIdentifier === undefined) {
    throw validationError('At least one Availability Zone or VPC Subnet is required.');
  }
  const group = blankGroup(world, region, name, sizes);
  return Object.assign(group, simulated, {
    settings: { ...group.settings, ...stored },
    tags: parameters.list('Tags').map(readTag),
  });
}

/** What the group's limits become when only some of the three are given: desired follows min and max. */
export function newSizes(
  group: Group,
  asked: {
    readonly min: number | undefined;
    readonly max: number | undefined;
    readonly desired: number | undefined;
  },
): Sizes {
  const min = asked.min ?? group.min;
  const max = asked.max ?? group.max;
  return checkedSizes(min, max, asked.desired ?? Math.max(min, Math.min(max, group.desired)));
}

function checkedSizes(min: number, max: number, desired: number): Sizes {
  for (const [name, value] of Object.entries({ minSize: min, maxSize: max, desiredCapacity: desired })) {
    if (value < 0) {
      throw validationError(
        `1 validation error detected: Value '${value}' at '${name}' failed to satisfy constraint: Member must have value greater than or equal to 0`,
      );
    }
  }
  if (min > max) {
    throw validationError(`Max bound, ${max}, must be greater than or equal to min bound, ${min}`);
  }
  if (desired < min || desired > max) {
    throw validationError(
      `Desired capacity:${desired} must be between the specified min size:${min} and max size:${max}`,
    );
  }
  return { min, max, desired };
}

export function readSettings(region: Region, parameters: Parameters): Settings {
  const zones = parameters.texts('AvailabilityZones');
  const terminationPolicies = parameters.texts('TerminationPolicies');
  const simulated = {
    defaultCooldown: parameters.integer('DefaultCooldown'),
    zones: zones.length === 0 ? undefined : zones,
    launchConfigurationName: parameters.text('LaunchConfigurationName'),
    launchTemplate: readLaunchTemplate(region, parameters.tree('LaunchTemplate')),
    mixedInstancesPolicy: readMixedInstancesPolicy(region, parameters.tree('MixedInstancesPolicy')),
    protectNewInstances: parameters.flag('NewInstancesProtectedFromScaleIn'),
    terminationPolicies: terminationPolicies.length === 0 ? undefined : terminationPolicies,
  };
  return { simulated: withoutUndefined(simulated), stored: storedSettings(parameters) };
}

function storedSettings(parameters: Parameters): Record<string, FormValue> {
  const given = STORED_SETTINGS.map((name) => [name, parameters.tree(name)] as const);
  return withoutUndefined(Object.fromEntries(given)) as Record<string, FormValue>;
}

function readLaunchTemplate(
  region: Region,
  given: FormValue | undefined,
): LaunchTemplateReference | undefined {
  if (given === undefined) return undefined;
  const specification = parametersOf(given);
  return resolveTemplate(region, {
    id: specification.text('LaunchTemplateId'),
    name: specification.text('LaunchTemplateName'),
    version: specification.text('Version'),
  });
}

/** Stored as it came, but checked, and with the template named by both id and name, as AWS answers it. */
function readMixedInstancesPolicy(region: Region, given: FormValue | undefined): FormValue | undefined {
  if (given === undefined) return undefined;
  const reference = resolveTemplate(region, specificationOf(given));
  const launchTemplate = parametersOf(parametersOf(given).tree('LaunchTemplate') ?? {});
  const distribution = parametersOf(given).tree('InstancesDistribution');
  return {
    LaunchTemplate: {
      LaunchTemplateSpecification: { ...reference },
      Overrides: launchTemplate.list('Overrides'),
    },
    ...(distribution === undefined ? {} : { InstancesDistribution: distribution }),
  };
}

function resolveTemplate(
  region: Region,
  wanted: {
    readonly id: string | undefined;
    readonly name: string | undefined;
    readonly version: string | undefined;
  },
): LaunchTemplateReference {
  const template = findLaunchTemplate(region, wanted);
  if (template !== undefined) return referenceTo(template, wanted.version);
  const named = wanted.id !== undefined ? `template ID ${wanted.id}` : `template name ${wanted.name}`;
  throw validationError(
    `You must use a valid fully-formed launch template. The specified launch template, with ${named}, does not exist.`,
  );
}

function readTag(given: FormValue): Tag {
  const tag = parametersOf(given);
  return {
    Key: tag.requiredText('Key'),
    Value: tag.text('Value') ?? '',
    PropagateAtLaunch: tag.flag('PropagateAtLaunch') ?? true,
  };
}

type Defined<Fields> = { [Name in keyof Fields]?: Exclude<Fields[Name], undefined> };

function withoutUndefined<Fields extends object>(fields: Fields): Defined<Fields> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined),
  ) as Defined<Fields>;
}
