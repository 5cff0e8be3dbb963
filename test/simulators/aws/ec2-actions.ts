import type { Actions } from './actions.ts';
import { AwsError } from './aws-error.ts';
import type { Description } from './describe-group.ts';
import { launchTemplateActions } from './launch-templates.ts';
import { pageSize, paginate } from './paging.ts';
import { parametersOf } from './query-form.ts';
import { ACCOUNT_ID, type Instance, type Region } from './state.ts';

export const ec2Actions: Actions = {
  ...launchTemplateActions,

  DescribeInstances({ region, parameters }) {
    const ids = parameters.texts('InstanceId');
    for (const id of ids) checkInstanceId(region, id);
    const filters = parameters.list('Filter').map((given) => {
      const filter = parametersOf(given);
      return { name: filter.requiredText('Name'), values: filter.texts('Value') };
    });
    const shown = [...region.instances.values()]
      .filter(({ id }) => ids.length === 0 || ids.includes(id))
      .filter((one) =>
        filters.every(({ name, values }) => values.some((value) => matches(region, one, name, value))),
      )
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    const size = pageSize(parameters, 'MaxResults', { standard: 1000, most: 1000 });
    const { page, nextToken } = paginate(shown, ({ id }) => id, {
      token: parameters.text('NextToken'),
      size,
    });
    return { reservationSet: page.map((one) => describeReservation(region, one)), nextToken };
  },
};

function checkInstanceId(region: Region, id: string): void {
  if (!/^i-([0-9a-f]{8}|[0-9a-f]{17})$/.test(id)) {
    throw new AwsError('InvalidInstanceID.Malformed', `Invalid id: "${id}"`);
  }
  if (!region.instances.has(id)) {
    throw new AwsError('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
  }
}

/** One reservation per instance, which is what a group's launches look like. */
function describeReservation(region: Region, instance: Instance): Description {
  return {
    reservationId: `r-${instance.id.slice(2)}`,
    ownerId: ACCOUNT_ID,
    groupSet: [],
    instancesSet: [
      {
        instanceId: instance.id,
        imageId: imageOf(region, instance),
        instanceState: stateOf(instance),
        instanceType: instance.type,
        launchTime: new Date(instance.launchedAt),
        placement: { availabilityZone: instance.zone, groupName: '', tenancy: 'default' },
        monitoring: { state: 'disabled' },
        architecture: 'x86_64',
        rootDeviceType: 'ebs',
        virtualizationType: 'hvm',
        tagSet: tagsOf(region, instance).map(([key, value]) => ({ key, value })),
      },
    ],
  };
}

function stateOf({ lifecycle }: Instance): { code: number; name: string } {
  switch (lifecycle) {
    case 'Pending':
      return { code: 0, name: 'pending' };
    case 'InService':
      return { code: 16, name: 'running' };
    case 'Terminating':
      return { code: 32, name: 'shutting-down' };
    case 'Terminated':
      return { code: 48, name: 'terminated' };
  }
}

function imageOf(region: Region, { launchTemplate }: Instance): string {
  return (
    region.launchTemplates.get(launchTemplate?.LaunchTemplateId ?? '')?.imageId ?? 'ami-0abcdef1234567890'
  );
}

function tagsOf(region: Region, { groupName }: Instance): [string, string][] {
  const propagated = (region.groups.get(groupName)?.tags ?? []).filter((tag) => tag.PropagateAtLaunch);
  return [
    ['aws:autoscaling:groupName', groupName],
    ...propagated.map((tag): [string, string] => [tag.Key, tag.Value]),
  ];
}

function matches(region: Region, instance: Instance, name: string, value: string): boolean {
  const tags = tagsOf(region, instance);
  if (name.startsWith('tag:')) return tags.some(([key, tag]) => `tag:${key}` === name && tag === value);
  switch (name) {
    case 'tag-key':
      return tags.some(([key]) => key === value);
    case 'instance-id':
      return instance.id === value;
    case 'instance-type':
      return instance.type === value;
    case 'availability-zone':
      return instance.zone === value;
    case 'instance-state-name':
      return stateOf(instance).name === value;
    default:
      throw new AwsError('InvalidParameterValue', `The filter '${name}' is invalid`);
  }
}
