import type { ActionContext, Actions } from './actions.ts';
import { AwsError } from './aws-error.ts';
import type { Description } from './describe-group.ts';
import { parametersOf } from './query-form.ts';
import {
  ACCOUNT_ID,
  hexId,
  type LaunchTemplate,
  type LaunchTemplateReference,
  type Region,
  type World,
} from './state.ts';
import { applyWrite } from './writes.ts';

/** One version each: enough for a group to name its template and for us to read the instance type from it. */
const ONLY_VERSION = 1;

export function addLaunchTemplate(
  world: World,
  region: Region,
  facts: { readonly name: string; readonly instanceType: string; readonly imageId: string },
): LaunchTemplate {
  const template: LaunchTemplate = { ...facts, id: `lt-${hexId(world, 17)}`, createdAt: world.clock.now() };
  region.launchTemplates.set(template.id, template);
  return template;
}

export function findLaunchTemplate(
  region: Region,
  wanted: { readonly id: string | undefined; readonly name: string | undefined },
): LaunchTemplate | undefined {
  if (wanted.id !== undefined) return region.launchTemplates.get(wanted.id);
  return [...region.launchTemplates.values()].find(({ name }) => name === wanted.name);
}

export function referenceTo(template: LaunchTemplate, version: string | undefined): LaunchTemplateReference {
  return { LaunchTemplateId: template.id, LaunchTemplateName: template.name, Version: version ?? '$Default' };
}

export const launchTemplateActions: Actions = {
  CreateLaunchTemplate({ world, region, parameters, requester }) {
    const name = parameters.requiredText('LaunchTemplateName');
    if (findLaunchTemplate(region, { id: undefined, name }) !== undefined) {
      throw new AwsError(
        'InvalidLaunchTemplateName.AlreadyExistsException',
        'Launch template name already in use.',
      );
    }
    const data = parametersOf(parameters.tree('LaunchTemplateData') ?? {});
    let template: LaunchTemplate | undefined;
    applyWrite(world, region.name, null, requester, () => {
      template = addLaunchTemplate(world, region, {
        name,
        instanceType: data.text('InstanceType') ?? 'm5.large',
        imageId: data.text('ImageId') ?? 'ami-0abcdef1234567890',
      });
    });
    return template === undefined ? undefined : { launchTemplate: describeTemplate(template) };
  },

  DescribeLaunchTemplateVersions(context) {
    return { launchTemplateVersionSet: [describeVersion(requestedTemplate(context))] };
  },
};

function requestedTemplate({ region, parameters }: ActionContext): LaunchTemplate {
  const id = parameters.text('LaunchTemplateId');
  const name = parameters.text('LaunchTemplateName');
  const template = findLaunchTemplate(region, { id, name });
  if (template !== undefined) return template;
  throw id !== undefined
    ? new AwsError(
        'InvalidLaunchTemplateId.NotFound',
        `The specified launch template, with template ID ${id}, does not exist.`,
      )
    : new AwsError(
        'InvalidLaunchTemplateName.NotFoundException',
        `The specified launch template, with template name ${name}, does not exist.`,
      );
}

function describeTemplate(template: LaunchTemplate): Description {
  return {
    launchTemplateId: template.id,
    launchTemplateName: template.name,
    createTime: new Date(template.createdAt),
    createdBy: `arn:aws:iam::${ACCOUNT_ID}:root`,
    defaultVersionNumber: ONLY_VERSION,
    latestVersionNumber: ONLY_VERSION,
  };
}

function describeVersion(template: LaunchTemplate): Description {
  return {
    launchTemplateId: template.id,
    launchTemplateName: template.name,
    versionNumber: ONLY_VERSION,
    createTime: new Date(template.createdAt),
    createdBy: `arn:aws:iam::${ACCOUNT_ID}:root`,
    defaultVersion: true,
    launchTemplateData: { instanceType: template.instanceType, imageId: template.imageId },
  };
}
