import { AsyncLocalStorage } from 'node:async_hooks';
import {
  AutoScalingClient,
  type AutoScalingGroup,
  DescribeAutoScalingGroupsCommand,
  DescribeInstanceRefreshesCommand,
  SetDesiredCapacityCommand,
} from '@aws-sdk/client-auto-scaling';
import { DescribeLaunchTemplateVersionsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { ProviderError } from '../../shared/errors.ts';
import { classifyAwsError } from './aws-errors.ts';
import type { Block, CapacityState, ProviderTarget, ScalingProvider } from './scaling-provider.ts';

/** AWS takes at most this many names per call. */
const namesPerCall = 50;
const readTimeoutMs = 3_000;
const writeTimeoutMs = 10_000;
const refreshUnderWay = new Set(['Pending', 'InProgress', 'Baking', 'RollbackInProgress']);

/** EC2 Auto Scaling groups. Credentials and endpoints come the SDK's standard way; its retries are off, the queue owns them. */
export class AwsAutoScaling implements ScalingProvider {
  readonly name = 'aws' as const;
  readonly settleMs: number;
  readonly #defaultRegion: string;
  readonly #clients = new Map<string, { scaling: AutoScalingClient; ec2: EC2Client }>();
  readonly #templateTypes = new Map<string, string>();
  readonly #signingDate = new AsyncLocalStorage<Date>();

  constructor(options: { readonly defaultRegion: string; readonly settleMs: number }) {
    this.#defaultRegion = options.defaultRegion;
    this.settleMs = options.settleMs;
  }

  async describe(target: ProviderTarget, signal: AbortSignal): Promise<CapacityState> {
    const region = target.scope ?? this.#defaultRegion;
    const group = (await this.#groups(region, [target.name], signal)).get(target.name);
    if (group === undefined) throw groupNotFound(target.name, region);
    return await this.#stateOf(region, group, signal, true);
  }

  async describeMany(
    targets: readonly ProviderTarget[],
    signal: AbortSignal,
  ): Promise<(CapacityState | Error)[]> {
    const results: (CapacityState | Error)[] = targets.map((target) =>
      groupNotFound(target.name, target.scope ?? this.#defaultRegion),
    );
    for (const region of new Set(targets.map((target) => target.scope ?? this.#defaultRegion))) {
      const mine = targets
        .map((target, index) => ({ target, index }))
        .filter(({ target }) => (target.scope ?? this.#defaultRegion) === region);
      for (let start = 0; start < mine.length; start += namesPerCall) {
        const part = mine.slice(start, start + namesPerCall);
        try {
          const groups = await this.#groups(
            region,
            part.map(({ target }) => target.name),
            signal,
          );
          for (const { target, index } of part) {
            const group = groups.get(target.name);
            if (group !== undefined) results[index] = await this.#stateOf(region, group, signal, false);
          }
        } catch (error) {
          for (const { index } of part) results[index] = classifyAwsError(error, 'read');
        }
      }
    }
    return results;
  }

  async setCapacity(
    target: ProviderTarget,
    instances: number,
    _expected: CapacityState,
    options: { readonly intentAtMs: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const { scaling } = this.#client(target.scope ?? this.#defaultRegion);
    const command = new SetDesiredCapacityCommand({
      AutoScalingGroupName: target.name,
      DesiredCapacity: instances,
      HonorCooldown: false,
    });
    const abortSignal = AbortSignal.any([options.signal, AbortSignal.timeout(writeTimeoutMs)]);
    try {
      // AWS has no compare-and-set: the signature's age is what keeps a late request from landing on a newer state.
      await this.#signingDate.run(new Date(options.intentAtMs), () => scaling.send(command, { abortSignal }));
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
    signal: AbortSignal,
  ): Promise<Map<string, AutoScalingGroup>> {
    try {
      const { AutoScalingGroups } = await this.#client(region).scaling.send(
        new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: names, MaxRecords: namesPerCall }),
        { abortSignal: AbortSignal.any([signal, AbortSignal.timeout(readTimeoutMs)]) },
      );
      return new Map((AutoScalingGroups ?? []).map((group) => [group.AutoScalingGroupName ?? '', group]));
    } catch (error) {
      throw classifyAwsError(error, 'read');
    }
  }

  /** @param thorough also asks what costs a call per group: whether an instance refresh runs. */
  async #stateOf(
    region: string,
    group: AutoScalingGroup,
    signal: AbortSignal,
    thorough: boolean,
  ): Promise<CapacityState> {
    const instances = group.Instances ?? [];
    const blocks = [...blocksOf(group)];
    if (thorough && (await this.#isRefreshing(region, group.AutoScalingGroupName ?? '', signal))) {
      blocks.push({
        code: 'instance_refresh',
        direction: 'down',
        message:
          'An instance refresh is under way: scaling in waits until it is over. Cancel the refresh or wait.',
      });
    }
    return {
      desired: group.DesiredCapacity ?? 0,
      ready: instances.filter((instance) => instance.LifecycleState === 'InService').length,
      min: group.MinSize ?? 0,
      max: group.MaxSize ?? null,
      blocks,
      fence: {},
      instanceType:
        instances.find((instance) => instance.InstanceType !== undefined)?.InstanceType ??
        (await this.#templateType(region, group, signal)),
      cpuRequest: null,
      memoryRequest: null,
    };
  }

  async #isRefreshing(region: string, name: string, signal: AbortSignal): Promise<boolean> {
    try {
      const { InstanceRefreshes } = await this.#client(region).scaling.send(
        new DescribeInstanceRefreshesCommand({ AutoScalingGroupName: name, MaxRecords: 5 }),
        { abortSignal: AbortSignal.any([signal, AbortSignal.timeout(readTimeoutMs)]) },
      );
      return (InstanceRefreshes ?? []).some((refresh) => refreshUnderWay.has(refresh.Status ?? ''));
    } catch (error) {
      throw classifyAwsError(error, 'read');
    }
  }

  /** Only for the price, and only while no instance runs that would tell: without the permission it stays unknown. */
  async #templateType(region: string, group: AutoScalingGroup, signal: AbortSignal): Promise<string | null> {
    const template =
      group.LaunchTemplate ?? group.MixedInstancesPolicy?.LaunchTemplate?.LaunchTemplateSpecification;
    const id = template?.LaunchTemplateId;
    if (id === undefined) return null;
    const version = template?.Version ?? '$Default';
    const key = `${region}/${id}/${version}`;
    const cached = this.#templateTypes.get(key);
    if (cached !== undefined) return cached;
    try {
      const { LaunchTemplateVersions } = await this.#client(region).ec2.send(
        new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateId: id, Versions: [version] }),
        { abortSignal: AbortSignal.any([signal, AbortSignal.timeout(readTimeoutMs)]) },
      );
      const type = LaunchTemplateVersions?.[0]?.LaunchTemplateData?.InstanceType ?? null;
      if (type !== null) this.#templateTypes.set(key, type);
      return type;
    } catch {
      return null;
    }
  }

  #client(region: string): { scaling: AutoScalingClient; ec2: EC2Client } {
    const known = this.#clients.get(region);
    if (known !== undefined) return known;
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

function* blocksOf(group: AutoScalingGroup): Generator<Block> {
  const instances = group.Instances ?? [];
  if (group.Status !== undefined) {
    yield {
      code: 'group_deleting',
      direction: 'both',
      message: `The group is being deleted (${group.Status}): remove the resource.`,
    };
  }
  for (const { ProcessName, SuspensionReason } of group.SuspendedProcesses ?? []) {
    const direction = ProcessName === 'Launch' ? 'up' : ProcessName === 'Terminate' ? 'down' : null;
    if (direction !== null) {
      yield {
        code: 'process_suspended',
        direction,
        message: `The group's ${ProcessName} process is suspended (${SuspensionReason ?? 'no reason given'}): resume it first.`,
      };
    }
  }
  const weighted =
    (group.DesiredCapacityType ?? 'units') !== 'units' ||
    instances.some((instance) => Number(instance.WeightedCapacity ?? '1') !== 1);
  if (weighted) {
    yield {
      code: 'weighted_capacity',
      direction: 'both',
      message:
        'The group counts capacity in weights, vCPUs or memory, not in instances: use a group without weights.',
    };
  }
  if (instances.length > 0 && instances.every((instance) => instance.ProtectedFromScaleIn === true)) {
    yield {
      code: 'all_protected',
      direction: 'down',
      message:
        'Every instance is protected from scale-in, so none would be terminated: remove the protection first.',
    };
  }
}

function groupNotFound(name: string, region: string): ProviderError {
  return new ProviderError(
    'permanent',
    'target_not_found',
    `There is no Auto Scaling group ${JSON.stringify(name)} in ${region}: check the resource's name and region.`,
    { context: { name, region } },
  );
}
