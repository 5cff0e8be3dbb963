import { AsyncLocalStorage } from 'node:async_hooks';
import {
  AutoScalingClient,
  type AutoScalingGroup,
  DescribeAutoScalingGroupsCommand,
  DescribeInstanceRefreshesCommand,
  SetDesiredCapacityCommand,
  UpdateAutoScalingGroupCommand,
} from '@aws-sdk/client-auto-scaling';
import { DescribeLaunchTemplateVersionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { awsRegionPattern } from '../../shared/domain/resource.ts';
import { withDeadline } from '../resilience/deadline.ts';
import { advisory, advisoryShare } from './advisory-read.ts';
import { classifyAwsError } from './aws-errors.ts';
import { blocksOf, floorOf, mixOf, refreshing, removableOf, unitsOf } from './aws-group.ts';
import { type CallLimits, callLimits } from './call-limits.ts';
import { mapConcurrently } from './concurrent-map.ts';
import { ProviderError } from './provider-error.ts';
import { requestNotSent } from './request-not-sent.ts';
import type { Block, CapacityState, ProviderTarget, ScalingProvider } from './scaling-provider.ts';

/** AWS takes at most this many names per call. */
const namesPerCall = 50;
/** Groups without instances whose launch template is read at once. */
const typesAtOnce = 4;
/** `$Latest` and `$Default` move on; for a price this is fresh enough. */
const templateTypeMs = 600_000;
const refreshUnderWay = new Set(['Pending', 'InProgress', 'Baking', 'Cancelling', 'RollbackInProgress']);

/**
 * EC2 Auto Scaling groups. Credentials and endpoints come the SDK's standard way; its retries are off, the queue owns
 * them.
 */
export class AwsAutoScaling implements ScalingProvider {
  readonly name = 'aws' as const;
  readonly settleMs: number;
  readonly #defaultRegion: string;
  readonly #limits: CallLimits;
  readonly #clients = new Map<string, { scaling: AutoScalingClient; ec2: EC2Client }>();
  readonly #templateTypes = new Map<string, { readonly type: string | null; readonly readAt: number }>();
  readonly #signingDate = new AsyncLocalStorage<Date>();

  constructor(options: {
    readonly defaultRegion: string;
    readonly settleMs: number;
    readonly limits?: CallLimits;
  }) {
    this.#defaultRegion = options.defaultRegion;
    this.#limits = options.limits ?? callLimits;
    this.settleMs = options.settleMs;
  }

  async describe(target: ProviderTarget, signal: AbortSignal): Promise<CapacityState> {
    const region = this.#regionOf(target);
    try {
      return await withDeadline(signal, this.#limits.readMs, async (limited) => {
        const group = (await this.#groups(region, [target.name], limited)).get(target.name);
        if (group === undefined) throw groupNotFound(target.name, region);
        const state = await this.#stateOf(region, group, limited, true);
        return target.actuation === 'floor' ? floorOf(state) : state;
      });
    } catch (error) {
      throw classifyAwsError(error, 'read');
    }
  }

  async describeMany(
    targets: readonly ProviderTarget[],
    signal: AbortSignal,
  ): Promise<(CapacityState | Error)[]> {
    const results: (CapacityState | Error)[] = [];
    let late: unknown;
    const regions = new Set(targets.map((target) => this.#regionOf(target)));
    // A region that does not answer must not keep the others waiting.
    await withDeadline(signal, this.#limits.manyMs, (limited) =>
      Promise.all([...regions].map((region) => this.#describeRegion(region, targets, results, limited))),
    ).catch((error: unknown) => {
      late = error;
    });
    return targets.map((_, index) => results[index] ?? classifyAwsError(late, 'read'));
  }

  async #describeRegion(
    region: string,
    targets: readonly ProviderTarget[],
    results: (CapacityState | Error)[],
    signal: AbortSignal,
  ): Promise<void> {
    const mine = [...targets.entries()].filter(([, target]) => this.#regionOf(target) === region);
    for (let start = 0; start < mine.length; start += namesPerCall) {
      const part = mine.slice(start, start + namesPerCall);
      const states = await this.#describePart(
        region,
        part.map(([, { name }]) => name),
        signal,
      );
      for (const [position, [index, { actuation }]] of part.entries()) {
        const state = states[position] as CapacityState | Error;
        results[index] = actuation === 'floor' && !(state instanceof Error) ? floorOf(state) : state;
      }
    }
  }

  async #describePart(
    region: string,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<(CapacityState | Error)[]> {
    try {
      return await withDeadline(signal, this.#limits.readMs, async (limited) => {
        const groups = await this.#groups(region, [...new Set(names)], limited);
        return await mapConcurrently(names, typesAtOnce, async (name) => {
          const group = groups.get(name);
          return group === undefined
            ? groupNotFound(name, region)
            : await this.#stateOf(region, group, limited, false);
        });
      });
    } catch (error) {
      const failure = classifyAwsError(error, 'read');
      return names.map(() => failure);
    }
  }

  async setCapacity(
    target: ProviderTarget,
    instances: number,
    _expected: CapacityState,
    options: { readonly intentAtMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    if (options.signal.aborted) throw requestNotSent();
    const { scaling } = this.#client(this.#regionOf(target));
    const AutoScalingGroupName = target.name;
    const send = (abortSignal: AbortSignal) =>
      target.actuation === 'floor'
        ? scaling.send(new UpdateAutoScalingGroupCommand({ AutoScalingGroupName, MinSize: instances }), {
            abortSignal,
          })
        : scaling.send(
            new SetDesiredCapacityCommand({
              AutoScalingGroupName,
              DesiredCapacity: instances,
              HonorCooldown: false,
            }),
            { abortSignal },
          );
    try {
      // AWS has no compare-and-set: the signature's age is what keeps a late request from landing on a newer state.
      const answer = await withDeadline(options.signal, this.#limits.writeMs, (abortSignal) =>
        this.#signingDate.run(new Date(options.intentAtMs), () => send(abortSignal)),
      );
      requireAwsAnswer(answer);
    } catch (error) {
      throw classifyAwsError(error, 'write');
    }
  }

  async close(): Promise<void> {
    for (const { scaling, ec2 } of this.#clients.values()) {
      scaling.destroy();
      ec2.destroy();
    }
    this.#clients.clear();
  }

  async #groups(
    region: string,
    names: string[],
    abortSignal: AbortSignal,
  ): Promise<Map<string, AutoScalingGroup>> {
    const groups = new Map<string, AutoScalingGroup>();
    let NextToken: string | undefined;
    do {
      const answer = await this.#client(region).scaling.send(
        new DescribeAutoScalingGroupsCommand({
          AutoScalingGroupNames: names,
          MaxRecords: namesPerCall,
          NextToken,
        }),
        { abortSignal },
      );
      requireAwsAnswer(answer);
      for (const group of answer.AutoScalingGroups ?? []) groups.set(group.AutoScalingGroupName ?? '', group);
      NextToken = answer.NextToken;
    } while (NextToken !== undefined);
    return groups;
  }

  /** @param thorough also asks what costs a call per group: whether an instance refresh runs. */
  async #stateOf(
    region: string,
    group: AutoScalingGroup,
    signal: AbortSignal,
    thorough: boolean,
  ): Promise<CapacityState> {
    const instances = group.Instances ?? [];
    const mix = mixOf(group);
    const [refreshes, instanceType] = await Promise.all([
      thorough ? this.#refreshBlocks(region, group.AutoScalingGroupName ?? '', signal) : [],
      // Of a group with weights a unit is a unit, whatever type runs first.
      mix !== undefined
        ? null
        : (instances.find((instance) => instance.InstanceType !== undefined)?.InstanceType ??
          this.#configuredType(region, group, signal)),
    ]);
    const removable = removableOf(group);
    return {
      desired: group.DesiredCapacity ?? 0,
      ready: unitsOf(
        group,
        instances.filter((instance) => instance.LifecycleState === 'InService'),
      ),
      min: group.MinSize ?? 0,
      max: group.MaxSize ?? null,
      blocks: [...blocksOf(group), ...refreshes],
      ...(removable === undefined ? {} : { removable }),
      ...(mix === undefined ? {} : { mix }),
      fence: {},
      instanceType,
      cpuRequest: null,
      memoryRequest: null,
    };
  }

  async #refreshBlocks(region: string, name: string, signal: AbortSignal): Promise<Block[]> {
    const found = await advisory(
      async (abortSignal) => {
        const answer = await this.#client(region).scaling.send(
          new DescribeInstanceRefreshesCommand({ AutoScalingGroupName: name, MaxRecords: 5 }),
          { abortSignal },
        );
        requireAwsAnswer(answer);
        return (answer.InstanceRefreshes ?? []).some(({ Status }) => refreshUnderWay.has(Status ?? ''));
      },
      {
        question: 'whether an instance refresh is under way',
        permission: 'autoscaling:DescribeInstanceRefreshes',
        limitMs: this.#limits.readMs * advisoryShare,
      },
      signal,
      (error) => classifyAwsError(error, 'read'),
    );
    if ('gap' in found) return [found.gap];
    return found.answer ? [refreshing] : [];
  }

  /** Only for the price, and only while no instance runs that would tell: without the permission it stays unknown. */
  async #configuredType(
    region: string,
    group: AutoScalingGroup,
    abortSignal: AbortSignal,
  ): Promise<string | null> {
    const mixed = group.MixedInstancesPolicy?.LaunchTemplate;
    const preferred = mixed?.Overrides?.find(({ InstanceType }) => InstanceType !== undefined)?.InstanceType;
    if (preferred !== undefined) return preferred;
    const template = group.LaunchTemplate ?? mixed?.LaunchTemplateSpecification;
    const id = template?.LaunchTemplateId;
    if (id === undefined) return null;
    const version = template?.Version ?? '$Default';
    const key = `${region}/${id}/${version}`;
    const cached = this.#templateTypes.get(key);
    if (cached !== undefined && performance.now() - cached.readAt < templateTypeMs) return cached.type;
    try {
      const { LaunchTemplateVersions } = await this.#client(region).ec2.send(
        new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateId: id, Versions: [version] }),
        { abortSignal },
      );
      const type = LaunchTemplateVersions?.[0]?.LaunchTemplateData?.InstanceType ?? null;
      this.#templateTypes.set(key, { type, readAt: performance.now() });
      return type;
    } catch {
      return null;
    }
  }

  #regionOf(target: ProviderTarget): string {
    return target.scope ?? this.#defaultRegion;
  }

  #client(region: string): { scaling: AutoScalingClient; ec2: EC2Client } {
    const known = this.#clients.get(region);
    if (known !== undefined) return known;
    // It goes into the host's name, and a row may come from elsewhere than the API.
    if (!awsRegionPattern.test(region))
      throw new ProviderError(
        'permanent',
        'invalid_region',
        `${JSON.stringify(region)} is not an AWS region.`,
      );
    const scaling = new AutoScalingClient({ region, maxAttempts: 1 });
    pinSigningDate(scaling, this.#signingDate);
    const created = { scaling, ec2: new EC2Client({ region, maxAttempts: 1 }) };
    this.#clients.set(region, created);
    return created;
  }
}

interface Signer {
  sign(request: unknown, options: Record<string, unknown>): Promise<unknown>;
}

/** Signs with the date at hand instead of the present, so that a request cannot be younger than its intent. */
function pinSigningDate(client: AutoScalingClient, date: AsyncLocalStorage<Date>): void {
  const config = client.config as unknown as { signer: (scheme?: unknown) => Promise<Signer> };
  const original = config.signer;
  config.signer = async (scheme) => {
    const signer = await original(scheme);
    return {
      sign: (request, options) => {
        const signingDate = date.getStore();
        return signer.sign(request, signingDate === undefined ? options : { ...options, signingDate });
      },
    };
  };
}

/** Every answer of AWS itself names its request; a proxy's page that came with 200 does not, and says nothing. */
function requireAwsAnswer(answer: { readonly $metadata: { readonly requestId?: string | undefined } }): void {
  if (answer.$metadata.requestId === undefined)
    throw new Error('the answer has no request id, so it is not from AWS: look for a proxy in between');
}

function groupNotFound(name: string, region: string): ProviderError {
  return new ProviderError(
    'permanent',
    'target_not_found',
    `There is no Auto Scaling group ${JSON.stringify(name)} in ${region}: check the resource's name and region.`,
    { context: { name, region } },
  );
}
