import type { ProviderError } from '../../worker/providers/provider-error.ts';
import type { CapacityState, ScalingProvider } from '../../worker/providers/scaling-provider.ts';

/** A cloud at the provider port, for the interleavings a protocol simulator cannot be asked for; the wire is tested elsewhere. */
export class ScriptedCloud implements ScalingProvider {
  readonly name = 'aws' as const;
  settleMs = 60_000;
  desired = 4;
  min = 0;
  max: number | null = 100;
  blocks: CapacityState['blocks'] = [];
  removable: number | null = null;
  /** None, as on AWS, unless a test gives one. */
  fence: CapacityState['fence'] = {};
  readonly writes: number[] = [];
  beforeWrite: () => Promise<void> | void = () => {};
  afterWrite: () => Promise<void> | void = () => {};
  describeFault: ProviderError | null = null;

  async describe(): Promise<CapacityState> {
    if (this.describeFault !== null) throw this.describeFault;
    return {
      desired: this.desired,
      ready: this.desired,
      min: this.min,
      max: this.max,
      blocks: this.blocks,
      ...(this.removable === null ? {} : { removable: this.removable }),
      fence: this.fence,
      instanceType: 'm5.large',
      cpuRequest: null,
      memoryRequest: null,
    };
  }
  async describeMany(): Promise<CapacityState[]> {
    return [];
  }
  async setCapacity(_target: unknown, instances: number): Promise<void> {
    await this.beforeWrite();
    this.writes.push(instances);
    this.desired = instances;
    await this.afterWrite();
  }
  async close(): Promise<void> {}
}
