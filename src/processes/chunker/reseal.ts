/**
 * Headers and log entries sealed anew under the newest epoch, in their place:
 * what they say stays the same. The last part of `plakarctl cleanup -reseal`,
 * after everything in packs. Runs in the chunker. Invariant: a snapshot that is
 * removed meanwhile, here or elsewhere, does not come back by it.
 */
import { Failure } from '../../error.ts';
import type { Channel } from '../../ipc/channel.ts';
import { headerEpoch } from '../../keys/frame.ts';
import {
  DELETE,
  GET,
  NAMES,
  NAMES_ARE,
  OBJECT,
  OBJECTS,
  OBJECTS_MAX,
  OK,
  OPEN_OBJECTS,
  REPLACE,
  SEAL_OBJECT,
} from '../../messages/data.ts';
import type { Journal } from '../../repository/journal.ts';
import { isVoid } from '../../repository/lease.ts';
import { frameLogEntry, unframeLogEntry } from '../../repository/log.ts';
import { frameSnapshot, unframeSnapshot } from '../../repository/snapshot.ts';

/** Objects asked for at once. */
const BATCH = Math.min(64, OBJECTS_MAX);

type Kind = 'snapshots' | 'log';

export interface ResealParts {
  readonly storage: Channel;
  readonly crypto: Channel;
  readonly journal: Journal;
  /** Throws to end it. */
  readonly onObject: () => void;
}

const FRAMES = {
  snapshots: { unframe: unframeSnapshot, frame: frameSnapshot },
  log: { unframe: unframeLogEntry, frame: frameLogEntry },
} as const;

/** Seals what is of an epoch before `newest` anew; returns how many objects that were. */
export async function resealObjects(newest: number, parts: ResealParts): Promise<number> {
  const { storage, journal } = parts;
  const before = await journal.removed();
  const resealed = (await resealKind('snapshots', newest, parts)) + (await resealKind('log', newest, parts));
  // a tombstone comes before its removal: whoever removed one that was just put in its place is known here
  const after = await journal.removed();
  const { names } = (await storage.query(NAMES, { kind: 'snapshots' }, NAMES_ARE)).payload;
  for (const name of names)
    if (after.has(name) && !before.has(name)) await storage.query(DELETE, { kind: 'snapshots', name }, OK);
  return resealed;
}

async function resealKind(kind: Kind, newest: number, parts: ResealParts): Promise<number> {
  const { names } = (await parts.storage.query(NAMES, { kind }, NAMES_ARE)).payload;
  let resealed = 0;
  for (let at = 0; at < names.length; ) {
    const some = names.slice(at, at + BATCH);
    const { objects } = (await parts.storage.query(GET, { kind, names: some }, OBJECTS)).payload;
    if (objects.length === 0) throw new Failure('seal anew', kind, { cause: 'storage gave none' });
    for (const [i, { data, why }] of objects.entries()) {
      const name = some[i] ?? '';
      if (why !== undefined)
        throw new Failure('seal anew', `${kind}/${name}`, { cause: why, kind: 'damaged' });
      if (data !== undefined && (await resealObject(kind, name, data, newest, parts))) resealed++;
    }
    at += objects.length;
  }
  return resealed;
}

/** Whether it was of an older epoch, and is not any more. */
async function resealObject(
  kind: Kind,
  name: string,
  data: Buffer,
  newest: number,
  { storage, crypto, onObject }: ResealParts,
): Promise<boolean> {
  onObject();
  if (kind === 'snapshots' && isVoid(data, name)) return false;
  const { unframe, frame } = FRAMES[kind];
  const sealed = unframe(data, name);
  const epoch = headerEpoch(data);
  if (epoch >= newest) return false;
  const opening = { kind, objects: [{ name, data: sealed, epoch }] };
  const [opened] = (await crypto.query(OPEN_OBJECTS, opening, OBJECTS)).payload.objects;
  if (opened?.data === undefined)
    throw new Failure('seal anew', `${kind}/${name}`, { cause: opened?.why ?? 'missing', kind: 'damaged' });
  const request = { kind, name, data: opened.data, epoch: undefined };
  const { payload } = await crypto.query(SEAL_OBJECT, request, OBJECT);
  await storage.query(REPLACE, { kind, name, data: frame(payload.data, payload.epoch) }, OK);
  return true;
}
