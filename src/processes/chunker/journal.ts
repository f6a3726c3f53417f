/** The log (journal.ts of the repository) over storage and crypto. Made by the chunker once it has its keys. */
import type { Channel } from '../../ipc/channel.ts';
import {
  GET,
  NAMES,
  NAMES_ARE,
  OBJECT,
  OBJECTS,
  OBJECTS_MAX,
  OPEN_OBJECTS,
  PUT,
  PUT_IS,
  SEAL_OBJECT,
} from '../../messages/data.ts';
import { Journal } from '../../repository/journal.ts';
import { frameLogEntry, type LogHead, unframeLogEntry } from '../../repository/log.ts';

/** Entries asked for at once. */
const BATCH = Math.min(512, OBJECTS_MAX);

interface Opened {
  data?: Buffer | undefined;
  why?: string | undefined;
}

/** The journal of the host whose chain that is. */
export function openJournal(
  chain: string,
  peers: { readonly storage: Channel; readonly crypto: Channel },
  now: () => number,
  remembered: readonly LogHead[] = [],
): Journal {
  const { storage, crypto } = peers;
  return new Journal(
    chain,
    {
      list: async (kind) => (await storage.query(NAMES, { kind }, NAMES_ARE)).payload.names,
      open: async (names) => {
        const entries: Opened[] = [];
        while (entries.length < names.length)
          entries.push(...(await openSome(names.slice(entries.length, entries.length + BATCH), peers)));
        return entries;
      },
      add: async (name, plaintext) => {
        const sealed = await crypto.query(SEAL_OBJECT, { kind: 'log', name, data: plaintext }, OBJECT);
        const data = frameLogEntry(sealed.payload.data);
        return (await storage.query(PUT, { kind: 'log', name, data }, PUT_IS)).payload.made;
      },
      now,
    },
    remembered,
  );
}

/** As many as storage gives at once, at least one. */
async function openSome(
  names: readonly string[],
  { storage, crypto }: { readonly storage: Channel; readonly crypto: Channel },
): Promise<Opened[]> {
  const { payload } = await storage.query(GET, { kind: 'log', names: [...names] }, OBJECTS);
  const entries: Opened[] = payload.objects.map(({ why }) => ({ why }));
  const sealed: { name: string; data: Buffer }[] = [];
  const places: number[] = [];
  payload.objects.forEach(({ data }, i) => {
    if (data === undefined) return;
    try {
      sealed.push({ name: names[i] ?? '', data: unframeLogEntry(data, names[i] ?? '') });
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
