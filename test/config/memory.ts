/** Files in memory, for configurations that a test makes up. */

import type { FileSource, FileStat } from '../../src/config/config.ts';

const REGULAR = 0o100000;

/** A file system of `files` by path, all root's and with mode `mode`. */
export function memoryFiles(files: Readonly<Record<string, string | Buffer>>, mode = 0o600): FileSource {
  const names = Object.keys(files);
  const bytes = (file: string) => {
    const found = Object.hasOwn(files, file) ? files[file] : undefined;
    if (found !== undefined) return Buffer.from(found);
    throw Object.assign(new Error(`ENOENT: no such file or directory, open '${file}'`), {
      code: 'ENOENT',
      syscall: 'open',
    });
  };
  return {
    uid: 0,
    stat: (file): FileStat => ({
      mode: REGULAR | mode,
      uid: 0,
      size: bytes(file).length,
      dev: 1,
      ino: names.indexOf(file),
    }),
    readFile: (file, maxBytes) => {
      const found = bytes(file);
      if (found.length <= maxBytes) return found;
      throw new Error(`longer than ${maxBytes} bytes`);
    },
  };
}
