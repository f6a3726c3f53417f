/**
 * Where a source's scanner has its root directory, and what it is to walk in
 * it: the path itself where there is one, or the root of the machine, where it
 * may read as any process with its capability, when there are several.
 */
import type { Source, Watch } from '../../config/config.ts';

/** What a scanner is told of its source. */
export interface ScannerSettings {
  /** absolute, as the machine sees them */
  readonly paths: readonly string[];
  /** its root directory, which they are below */
  readonly root: string;
  readonly excludes: readonly string[];
  readonly oneFilesystem: boolean;
  readonly watch: Watch | undefined;
}

export function scannerSettings(source: Source): { root: string; settings: ScannerSettings } {
  const { paths, excludes, oneFilesystem, watch } = source;
  const [only] = paths;
  const root = paths.length === 1 && only !== undefined ? only : commonDirectory(paths);
  return { root, settings: { paths, root, excludes, oneFilesystem, watch } };
}

/** The deepest directory above all of the paths. */
function commonDirectory(paths: readonly string[]): string {
  const [first = '/', ...others] = paths;
  const parts = first.split('/').slice(1, -1);
  for (const other of others) {
    const otherParts = other.split('/').slice(1);
    const differs = parts.findIndex((part, i) => otherParts[i] !== part);
    if (differs >= 0) parts.length = differs;
  }
  return `/${parts.join('/')}`;
}
