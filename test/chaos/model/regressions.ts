import { type Command, commands } from './commands.ts';

const { post, deliver, crash, external, fate, tick, imitate, land, pause } = commands;

/**
 * Histories that once broke an invariant, as `npm run chaos:model` prints them; they run first, each in `runs`
 * interleavings from `seed` on. Written as commands, because a seed alone tells another story when a command is added.
 */
export const regressions: readonly {
  readonly note: string;
  readonly seed: number;
  readonly runs: number;
  /** One command after the other, each to its end. */
  readonly calm?: boolean;
  readonly story: readonly Command[];
}[] = [
  {
    note: 'an older decision is carried out after a newer one was refused by the cloud',
    seed: 2,
    runs: 4,
    story: [
      fate(1, 'rejected'),
      post(1, -2, false),
      post(1, -2, false),
      deliver(1, 0),
      deliver(0, 1),
      post(0, -2, false),
    ],
  },
  {
    note: 'our change is overwritten by somebody before anybody looks, and the worker is dead',
    seed: 3,
    runs: 6,
    story: [post(0, -1, true), deliver(0, 0), crash(0, false), external(0, 1), crash(0, false)],
  },
  {
    note: 'somebody asks for our size while our own request is still on its way, and we go on from there',
    seed: 4,
    runs: 1,
    calm: true,
    story: [
      fate(0, 'late'),
      post(0, 2, false),
      deliver(0, 0),
      imitate(0),
      tick(6_000),
      deliver(0, 1),
      tick(40_000),
      post(0, 2, false),
      deliver(1, 0),
      land(),
    ],
  },
  {
    note: 'a worker is stopped between its look at the cloud and its intent, and somebody changes the size',
    seed: 5,
    runs: 40,
    story: [post(0, -2, false), deliver(2, 1), pause(1), deliver(3, 1), external(0, 5), land()],
  },
  {
    note: 'our change is applied and its answer lost, and somebody puts the old size back before anybody looks',
    seed: 11,
    runs: 1,
    calm: true,
    story: [fate(1, 'timeout-applied'), post(1, -2, false), deliver(0, 0), external(1, 4)],
  },
];
