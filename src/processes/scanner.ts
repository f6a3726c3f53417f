/**
 * scanner: the process that walks one source. Its root directory is the
 * source's own path, it may read whatever is there and write nothing. It
 * compares with the parent snapshot's tree and sends the chunker what differs,
 * with the descriptors of the files to read.
 */
import type { ChildContext } from '../privsep/child.ts';
import { serveScans } from '../snapshot/scan.ts';
import type { ScannerSettings } from './parent/scanner.ts';

export function scanner(context: ChildContext): void {
  const settings = context.settings as ScannerSettings;
  context.onPeer('chunker', (channel) => serveScans(channel, settings));
}
