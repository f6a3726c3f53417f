/** The log (journal.ts of the repository) over storage and crypto. Made by the chunker once it has its keys. */
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
  PUT,
  PUT_IS,
  SEAL_OBJECT,
} from '../../messages/data.ts';
import { Journal } from '../../repository/journal.ts';
import { frameLogEntry, type LogHead, unframeLogEntry } from '../../repository/log.ts';

/** Entries asked for at once. */
const BATCH = Math.min(512, OBJECTS_MAX);

/** Entries removed at once. */
const REMOVALS = 16;

interface Opened {
  data?: Buffer | undefined;
  why?: string | undefined;
}

/** The journal of the host whose chain that is. */
export function openJournal(
  chain: string,
  peers: { readonly storage: Channel; readonly crypto: Channel },
  now: () => number,
  remember: (heads: readonly LogHead[], accept: boolean) => Promise<void>,
): Journal {
  const { storage, crypto } = peers;
  return new Journal(chain, {
    list: async (kind) => (await storage.query(NAMES, { kind }, NAMES_ARE)).payload.names,
    open: async (names) => {
      const entries: Opened[] = [];
      while (entries.length < names.length)
        entries.push(...(await openSome(names.slice(entries.length, entries.length + BATCH), peers)));
      return entries;
    },
    add: async (name, plaintext) => {
      const request = { kind: 'log', name, data: plaintext, epoch: undefined } as const;
      const sealed = await crypto.query(SEAL_OBJECT, request, OBJECT);
      const data = frameLogEntry(sealed.payload.data, sealed.payload.epoch);
      return (await storage.query(PUT, { kind: 'log', name, data }, PUT_IS)).payload.made;
    },
    remove: async (names) => {
      for (let at = 0; at < names.length; at += REMOVALS) {
        const some = names.slice(at, at + REMOVALS);
        await Promise.all(some.map((name) => storage.query(DELETE, { kind: 'log', name }, OK)));
      }
    },
    remember,
    now,
  });
}

/** As many as storage gives at once, at least one. */
async function openSome(
  names: readonly string[],
  { storage, crypto }: { readonly storage: Channel; readonly crypto: Channel },
): Promise<Opened[]> {
  const { payload } = await storage.query(GET, { kind: 'log', names: [...names] }, OBJECTS);
  const entries: Opened[] = payload.objects.map(({ why }) => ({ why }));
  const sealed: { name: string; data: Buffer; epoch: number }[] = [];
  const places: number[] = [];
  payload.objects.forEach(({ data }, i) => {
    if (data === undefined) return;
    try {
      const name = names[i] ?? '';
      sealed.push({ name, data: unframeLogEntry(data, name), epoch: headerEpoch(data) });
      places.push(i);
    } catch (error) {
      entries[i] = { why: error instanceof Error ? error.message : String(error) };
    }
  });
  if (sealed.length === 0) return entries;
  const opened = await crypto.query(OPEN_OBJECTS, { kind: 'log', objects: sealed }, OBJECTS);
  opened.payload.objects.forEach(({ data, why }, i) => {
    entries[places[i] ?? -1] = { data, why };
  });
  return entries;
}
