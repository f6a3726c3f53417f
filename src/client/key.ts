/**
 * plakarctl key: who can open a repository, and under which keys it is. Slots
 * are listed, added, replaced and removed; epochs are begun and forgotten.
 */
import { closeSync } from 'node:fs';
import type { PayloadOf } from '../ipc/shape.ts';
import { CHANGE_KEYS, KEYS, KEYS_CHANGED, KEYS_LISTED } from '../messages/keys.ts';
import { type Given, nearest, usageFailure } from './arguments.ts';
import type { Context } from './context.ts';
import { safeName, safeText } from './escape.ts';
import { formatBytes, formatColumns, formatCount, formatMilliseconds } from './format.ts';
import { newCredential } from './keysecret.ts';
import { within } from './operands.ts';
import type { EventType } from './output.ts';

type Listed = PayloadOf<typeof KEYS_LISTED.shape>;
type Slot = Listed['slots'][number];
type Changed = PayloadOf<typeof KEYS_CHANGED.shape>;
type Change = Omit<PayloadOf<typeof CHANGE_KEYS.shape>, 'repository'>;

const UNCHANGED = {
  type: undefined,
  label: undefined,
  slot: undefined,
  epoch: undefined,
  force: false,
  revoke: false,
};
const EPOCH = /^[1-9][0-9]{0,9}$/;

function slotColumns({ slot, type, label, created, argon2, opened, why }: Slot): string[] {
  if (why !== undefined) return [slot, '?', '', '', safeText(why)];
  const cost =
    argon2 === undefined
      ? ''
      : `argon2id ${formatBytes(argon2.memoryKiB * 1024)} t=${argon2.passes} p=${argon2.lanes}`;
  return [slot, type, formatMilliseconds(created), cost, `${safeText(label)}${opened ? '  (in use)' : ''}`];
}

/** Slots, and then epochs, the newest last: `epoch 2  2021-11-27T00:12:04Z  3 segments (1 MB), 4 objects`. */
const LISTED: EventType<Listed> = {
  name: 'keys',
  json: ({ slots, epochs, ...event }) => ({
    ...event,
    slots: slots.map(({ created, ...slot }) => ({ ...slot, created: formatMilliseconds(created) })),
    epochs: epochs.map(({ created, ...epoch }) => ({ ...epoch, created: formatMilliseconds(created) })),
  }),
  text: ({ slots, epochs }) => {
    const rows = epochs.map(({ epoch, created, segments, bytes, objects }) => [
      `epoch ${epoch}`,
      formatMilliseconds(created),
      `${formatCount(segments, 'segment')} (${formatBytes(bytes)}), ${formatCount(objects, 'object')}`,
    ]);
    return [...formatColumns(slots.map(slotColumns)), ...formatColumns(rows)].join('\n');
  },
};

const CHANGED: EventType<Changed & { readonly change: Change['change'] }> = {
  name: 'keys changed',
  json: ({ configured, ...event }) => ({ ...event, ...(configured ? { configured } : {}) }),
  text: ({ change, slot, removed, epoch }) => {
    const lines = slot === undefined ? [] : [slot];
    if (change === 'rotate') lines.push(`epoch ${epoch}`);
    if (change === 'forget') lines.push(`epoch ${epoch} forgotten`);
    return [...lines, ...removed.map((each) => `${each} removed`)].join('\n');
  },
};

async function list(context: Context): Promise<void> {
  const connection = await context.connect();
  const { payload } = await connection.request(KEYS, { repository: context.repository }, KEYS_LISTED);
  context.output.emit(LISTED, payload);
}

async function change(context: Context, asked: Change, fds: readonly number[] = []): Promise<void> {
  const { repository, output } = context;
  const connection = await context.connect();
  const { payload } = await connection.request(
    CHANGE_KEYS,
    { repository, ...asked },
    KEYS_CHANGED,
    undefined,
    fds,
  );
  output.emit(CHANGED, { ...payload, change: asked.change });
  if (payload.configured)
    output.note(
      'the configuration used that slot: its file must have the new passphrase or key before plakard starts again',
    );
}

/** add and passwd: a slot for a new credential. */
async function make(context: Context, given: Given, operation: 'add' | 'passwd'): Promise<void> {
  const label = given.value('label')?.toString();
  const slot = given.operands[1]?.toString();
  const { type, fd } = await newCredential(given, 'new passphrase', context.signal);
  try {
    await change(context, { ...UNCHANGED, change: operation, type, label, slot }, [fd]);
  } finally {
    closeSync(fd);
  }
}

/** What each takes beside its name: options, and fewest and most operands. */
const ACTIONS = {
  list: { options: [], operands: [0, 0] },
  add: { options: ['label', 'passphrase-file', 'key-file'], operands: [0, 0] },
  passwd: { options: ['label', 'passphrase-file', 'key-file'], operands: [0, 1] },
  rm: { options: ['force'], operands: [1, 1] },
  rotate: { options: ['revoke'], operands: [0, 0] },
  forget: { options: [], operands: [1, 1] },
} as const;
type Action = keyof typeof ACTIONS;
const OPTIONS = ['label', 'passphrase-file', 'key-file', 'force', 'revoke'] as const;

/** The action that is meant; throws a usage error for one that is none, or is given what it does not take. */
function actionOf(given: Given): Action {
  const word = safeName(given.operands[0] ?? Buffer.alloc(0));
  const names = Object.keys(ACTIONS);
  if (!Object.hasOwn(ACTIONS, word)) {
    const meant = nearest(word, names);
    const remedy = meant === undefined ? `one of ${names.join(', ')}` : `did you mean ${meant}?`;
    throw usageFailure('key', word, 'unknown', remedy);
  }
  const action = word as Action;
  const { options, operands } = ACTIONS[action];
  for (const option of OPTIONS)
    if (given.has(option) && !(options as readonly string[]).includes(option))
      throw usageFailure(`key ${action}`, `-${option}`, 'unknown option');
  const count = given.operands.length - 1;
  if (count < operands[0]) throw usageFailure(`key ${action}`, '', 'missing operand');
  if (count > operands[1])
    throw usageFailure(
      `key ${action}`,
      safeName(given.operands[operands[1] + 1] ?? Buffer.alloc(0)),
      'unexpected operand',
    );
  return action;
}

export async function run(context: Context, given: Given): Promise<void> {
  const action = actionOf(given);
  const operand = given.operands[1]?.toString() ?? '';
  if (action === 'forget' && !EPOCH.test(operand))
    throw usageFailure('key forget', safeText(operand), 'not an epoch', 'plakarctl key list shows them');
  await within(`key ${action}`, action === 'rm' || action === 'forget' ? safeText(operand) : '', async () => {
    if (action === 'list') return await list(context);
    if (action === 'add' || action === 'passwd') return await make(context, given, action);
    const epoch = action === 'forget' ? Number(operand) : undefined;
    const slot = action === 'rm' ? operand : undefined;
    const flags = { force: given.has('force'), revoke: given.has('revoke') };
    await change(context, { ...UNCHANGED, ...flags, change: action, slot, epoch });
  });
}
