import type pg from 'pg';
import { checkSamples, sampleIntervalMs } from '../engine/data-quality.ts';
import type { EngineForecast, EngineInput, EnginePolicy, EngineSample } from '../engine/types.ts';
import { checkpointVersion, lengthOf, restore, save } from '../forecaster/checkpoint.ts';
import { type Metric, ResourceForecaster, shapeOf } from '../forecaster/resource-forecaster.ts';
import type { InstanceSize } from '../samples/instance-size.ts';
import { readSamples } from '../samples/read-samples.ts';
import {
  type ForecastCheckpoint,
  loadCheckpoints,
  saveCheckpoint,
  saveForecastViews,
} from './forecasts-store.ts';
import { presentForecast } from './present-forecast.ts';

/** What is known of a forecaster that is held in this process. */
interface Held {
  readonly forecaster: ResourceForecaster;
  /** What one instance was when it learnt: its demand is in such instances. */
  readonly unit: InstanceSize;
  /** Whether its samples were posted as ratios: what was learnt in another unit is of no use. */
  readonly asRatios: boolean;
  readonly bytes: number;
  /** The newest step in the stored checkpoint, epoch ms. */
  savedMs: number;
}

/** A checkpoint is this much behind at most; what is lost with a process is read again from the samples. */
const saveEveryMs = 15 * 60_000;
/** Catching up on more samples than this is a job of its own. */
const mostCatchUp = 2_000;

export interface ForecastRequest {
  readonly resourceId: string;
  readonly input: Omit<EngineInput, 'usePrediction'>;
  /** What one instance is now. */
  readonly size: InstanceSize;
}

export interface ForecastAnswer {
  readonly forecast: EngineForecast | null;
  readonly why: string;
  /** True when a forecaster has to be built from history first. */
  readonly needsBuilding: boolean;
}

/**
 * Forecasters of the resources this process decides for. Several processes may hold the same one: each follows the
 * samples by itself, and the stored checkpoint only ever moves forward.
 */
export class ForecasterCache {
  readonly #pool: pg.Pool;
  readonly #limitBytes: number;
  readonly #onError: (error: unknown) => void;
  /** In order of use, the least recent first. */
  readonly #held = new Map<string, Held>();
  #bytes = 0;
  /** Saves under way, so that a shutdown can wait for them. */
  readonly #saving = new Set<Promise<void>>();

  constructor(pool: pg.Pool, options: { limitBytes: number; onError: (error: unknown) => void }) {
    this.#pool = pool;
    this.#limitBytes = options.limitBytes;
    this.#onError = options.onError;
  }

  /** Forecasts for many resources: at most one read of checkpoints, and one of samples for each that fell behind. */
  async forecast(asked: readonly ForecastRequest[]): Promise<Map<string, ForecastAnswer>> {
    const unknown = asked.filter((each) => !this.#fits(each));
    if (unknown.length > 0) await this.#load(unknown);
    const answers = new Map<string, ForecastAnswer>();
    for (const each of asked) answers.set(each.resourceId, await this.#answer(each));
    this.#publish(asked, answers);
    return answers;
  }

  #fits({ resourceId, input, size }: ForecastRequest): boolean {
    const held = this.#held.get(resourceId);
    return (
      held !== undefined &&
      isOfShape(held.forecaster, input.policy, input.samples) &&
      isOfUnit(held.unit, size) &&
      held.asRatios === isInRatios(input.policy)
    );
  }

  async #load(asked: readonly ForecastRequest[]): Promise<void> {
    const requests = new Map(asked.map((each) => [each.resourceId, each]));
    for (const checkpoint of await loadCheckpoints(this.#pool, [...requests.keys()])) {
      const { input } = requests.get(checkpoint.resource_id) as ForecastRequest;
      const forecaster = revive(checkpoint, input);
      if (forecaster === null) continue;
      const unit = { vcpu: checkpoint.unit_vcpu, gib: checkpoint.unit_gib };
      const asRatios = checkpoint.utilization_unit === 'ratio';
      this.#hold(checkpoint.resource_id, { forecaster, unit, asRatios, savedMs: checkpoint.newest_ms ?? 0 });
    }
  }

  async #answer(asked: ForecastRequest): Promise<ForecastAnswer> {
    const { resourceId, input, size } = asked;
    const held = this.#held.get(resourceId);
    if (held === undefined || !this.#fits(asked)) return building;
    const { forecaster } = held;
    const { samples } = checkSamples(input.samples, input.policy, input.nowMs);
    const newest = samples.at(-1);
    if (newest !== undefined && lacksMetric(forecaster, newest)) return building;
    const knownMs = forecaster.newestMs;
    const first = samples[0];
    // The samples at hand begin after what is known: what lies between is read.
    if (knownMs !== null && first !== undefined && first.atMs > knownMs + forecaster.shape.stepMs) {
      const range = { fromMs: knownMs, toMs: first.atMs, limit: mostCatchUp };
      const missed = await readSamples(this.#pool, resourceId, range, size);
      if (missed.samples.length >= mostCatchUp) return building;
      forecaster.advance(missed.samples, input.policy);
    }
    forecaster.advance(samples, input.policy, predictedDemand(input, forecaster));
    this.#touch(resourceId, held);
    this.#saveWhenDue(resourceId, held);
    const forecast = forecaster.forecast(input.policy);
    return { forecast, why: forecast === null ? 'there are no samples yet' : '', needsBuilding: false };
  }

  #publish(asked: readonly ForecastRequest[], answers: ReadonlyMap<string, ForecastAnswer>): void {
    const views = asked.flatMap(({ resourceId, input }) => {
      const forecast = answers.get(resourceId)?.forecast ?? null;
      const held = this.#held.get(resourceId);
      if (forecast === null || held === undefined) return [];
      return [
        {
          resource_id: resourceId,
          made_at_ms: forecast.madeAtMs,
          forecast: presentForecast(forecast, held.forecaster, input.policy),
        },
      ];
    });
    if (views.length > 0) this.#inBackground(saveForecastViews(this.#pool, views));
  }

  /** Takes over a forecaster that was built from history, and stores it. */
  async adopt(
    resourceId: string,
    forecaster: ResourceForecaster,
    { size, policy }: { readonly size: InstanceSize; readonly policy: EnginePolicy },
  ): Promise<void> {
    const held = { forecaster, unit: size, asRatios: isInRatios(policy) };
    this.#hold(resourceId, { ...held, savedMs: forecaster.newestMs ?? 0 });
    await saveCheckpoint(this.#pool, checkpointOf(resourceId, held), true);
  }

  #saveWhenDue(resourceId: string, held: Held): void {
    const newestMs = held.forecaster.newestMs ?? 0;
    if (newestMs - held.savedMs < saveEveryMs) return;
    held.savedMs = newestMs;
    this.#saveInBackground(resourceId, held);
  }

  #saveInBackground(resourceId: string, held: Held): void {
    this.#inBackground(saveCheckpoint(this.#pool, checkpointOf(resourceId, held), false));
  }

  #inBackground(work: Promise<void>): void {
    const settled: Promise<void> = work.catch(this.#onError).finally(() => this.#saving.delete(settled));
    this.#saving.add(settled);
  }

  #hold(resourceId: string, held: Omit<Held, 'bytes'>): void {
    this.#drop(resourceId);
    const bytes = lengthOf(held.forecaster.state());
    this.#held.set(resourceId, { ...held, bytes });
    this.#bytes += bytes;
    for (const id of this.#held.keys()) {
      if (this.#bytes <= this.#limitBytes || id === resourceId) break;
      this.#drop(id);
    }
  }

  #touch(resourceId: string, held: Held): void {
    this.#held.delete(resourceId);
    this.#held.set(resourceId, held);
  }

  #drop(resourceId: string): void {
    this.#bytes -= this.#held.get(resourceId)?.bytes ?? 0;
    this.#held.delete(resourceId);
  }

  /** Stores what is not stored yet. */
  async close(): Promise<void> {
    for (const [resourceId, held] of this.#held) {
      if ((held.forecaster.newestMs ?? 0) > held.savedMs) this.#saveInBackground(resourceId, held);
    }
    await Promise.all(this.#saving);
  }
}

const building: ForecastAnswer = {
  forecast: null,
  why: 'it is being built from the stored samples',
  needsBuilding: true,
};

function isInRatios({ utilizationUnit }: EnginePolicy): boolean {
  return utilizationUnit === 'ratio';
}

function isOfShape(
  forecaster: ResourceForecaster,
  policy: EnginePolicy,
  samples: readonly EngineSample[],
): boolean {
  const shape = shapeOf(policy, sampleIntervalMs(samples));
  return forecaster.shape.stepMs === shape.stepMs && forecaster.shape.horizonSteps === shape.horizonSteps;
}

/** What was not known is no change. */
function isOfUnit(unit: InstanceSize, size: InstanceSize): boolean {
  const same = (a: number | null, b: number | null) => a === null || b === null || a === b;
  return same(unit.vcpu, size.vcpu) && same(unit.gib, size.gib);
}

function lacksMetric(
  forecaster: ResourceForecaster,
  newest: { readonly cpuRatio: number | null; readonly memoryRatio: number | null },
): boolean {
  const has = (metric: Metric) => forecaster.metrics.includes(metric);
  return (newest.cpuRatio !== null && !has('cpu')) || (newest.memoryRatio !== null && !has('memory'));
}

/** Null when it was made by another release, for another horizon, or is damaged: then it is built again. */
function revive(
  checkpoint: ForecastCheckpoint,
  { policy, samples }: ForecastRequest['input'],
): ResourceForecaster | null {
  const shape = { stepMs: checkpoint.step_ms, horizonSteps: checkpoint.horizon_steps };
  if (checkpoint.format !== checkpointVersion) return null;
  const metrics = checkpoint.metrics.filter(
    (metric): metric is Metric => metric === 'cpu' || metric === 'memory',
  );
  const forecaster = new ResourceForecaster(shape, metrics);
  if (!isOfShape(forecaster, policy, samples)) return null;
  try {
    restore(forecaster, checkpoint.state);
  } catch {
    return null;
  }
  return forecaster;
}

function checkpointOf(
  resourceId: string,
  { forecaster, unit, asRatios }: Omit<Held, 'bytes' | 'savedMs'>,
): ForecastCheckpoint {
  return {
    resource_id: resourceId,
    format: checkpointVersion,
    step_ms: forecaster.shape.stepMs,
    horizon_steps: forecaster.shape.horizonSteps,
    metrics: forecaster.metrics,
    unit_vcpu: unit.vcpu,
    unit_gib: unit.gib,
    utilization_unit: asRatios ? 'ratio' : null,
    newest_ms: forecaster.newestMs,
    state: save(forecaster),
  };
}

/** Demand that another service predicts for the time the forecast is for, where it wrote one for about that time. */
function predictedDemand(
  { prediction, nowMs }: ForecastRequest['input'],
  { shape }: ResourceForecaster,
): Partial<Record<Metric, number>> {
  if (prediction === null || !Number.isFinite(prediction.instances)) return {};
  const forMs = nowMs + shape.horizonSteps * shape.stepMs;
  if (Math.abs(prediction.forMs - forMs) > 1.5 * shape.stepMs) return {};
  const demand = (ratio: number | null, worth = 1): number | undefined =>
    ratio === null || !Number.isFinite(ratio) ? undefined : ratio * prediction.instances * worth;
  const cpu = demand(prediction.cpuRatio, prediction.cpuWorth);
  const memory = demand(prediction.memoryRatio, prediction.memoryWorth);
  return { ...(cpu === undefined ? {} : { cpu }), ...(memory === undefined ? {} : { memory }) };
}
