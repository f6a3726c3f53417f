/**
 * scanner: the process that walks one source. Its root directory is the
 * source's own path, it may read whatever is there and write nothing. It
 * compares with the parent snapshot's tree and sends the chunker what differs,
 * with the descriptors of the files to read. Where the source is watched, it
 * tells the parent when something has changed.
 */
import { openSync } from 'node:fs';
import { collectInTime } from '../collect.ts';
import { describe } from '../error.ts';
import { CHANGED, WATCHING } from '../messages/parent.ts';
import type { ChildContext } from '../privsep/child.ts';
import { serveScans } from '../snapshot/scan.ts';
import { Watched } from '../snapshot/watched.ts';
import { Inotify } from '../sys/inotify.ts';
import { walkToDirectory } from '../sys/path.ts';
import type { ScannerSettings } from './parent/scanner.ts';

const TEXT_MAX_CHARS = 1024;

function watch(context: ChildContext, { watch: settings }: ScannerSettings): Watched | undefined {
  if (settings === undefined) return undefined;
  const { parent } = context;
  return new Watched({
    settleMs: settings.settleSeconds * 1000,
    scanMs: settings.scanSeconds * 1000,
    rootFd: openSync('/', 'r'),
    open: (take, onError) => new Inotify(take, onError),
    now: () => performance.now(),
    wallClock: Date.now,
    onChange: () => parent.message(CHANGED, {}),
    onState: (watches, failure) => {
      const failed = failure && describe(failure).slice(0, TEXT_MAX_CHARS);
      parent.message(WATCHING, { watches, failed });
    },
  });
}

export function scanner(context: ChildContext): void {
  const settings = context.settings as ScannerSettings;
  const watched = watch(context, settings);
  collectInTime();
  // a chunker that was started again may come before the last one is known to be gone
  const served = new Map<string, (() => void)[]>();
  context.onPeer('chunker', (channel, repository) => {
    const end = serveScans(channel, { ...settings, watched, open: walkToDirectory });
    served.set(repository, [...(served.get(repository) ?? []), end]);
  });
  context.onPeerLost('chunker', (repository) => {
    served.get(repository)?.shift()?.();
  });
}
