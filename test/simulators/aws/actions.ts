import type { XmlValue } from './query-answer.ts';
import type { Parameters } from './query-form.ts';
import type { Region, World } from './state.ts';
import type { Requester } from './writes.ts';

/** What an action sees of a request. */
export interface ActionContext {
  readonly world: World;
  readonly region: Region;
  readonly parameters: Parameters;
  readonly requester: Requester;
  /** Set by the stale-read fault: hide writes younger than this. */
  readonly staleMs: number | undefined;
}

/** Validates, changes the world through applyWrite, and returns the Result element's content (undefined: none). */
export type Action = (context: ActionContext) => XmlValue;
export type Actions = Readonly<Record<string, Action>>;
