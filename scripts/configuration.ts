/** The quick start's configuration and where its files are; called by quickstart.ts. */

import * as path from 'node:path';
import { Failure } from '../src/error.ts';

/** Where a quick start keeps things, as absolute paths. */
export interface Paths {
  readonly top: string;
  readonly configuration: string;
  readonly passphrase: string;
  readonly repository: string;
  readonly restored: string;
  readonly socket: string;
  readonly state: string;
  readonly log: string;
}

export function pathsBelow(top: string): Paths {
  return {
    top,
    configuration: path.join(top, 'plakard.conf'),
    passphrase: path.join(top, 'passphrase'),
    repository: path.join(top, 'repository'),
    restored: path.join(top, 'restored'),
    socket: path.join(top, 'plakard.sock'),
    state: path.join(top, 'state'),
    log: path.join(top, 'plakard.log'),
  };
}

/** sun_path of unix(7), less the NUL. */
const SOCKET_PATH_MAX_BYTES = 107;

/**
 * Ids without an entry in passwd, so that nothing has to be installed first:
 * one for what faces clients and reads files, one for what sees plaintext and
 * keys, one for what sees the repository.
 */
const USERS = { control: 52001, scanner: 52001, chunker: 52002, crypto: 52002, storage: 52003 } as const;

/** The name of the source for `directory`: its last part, as far as a name can hold it. */
export function sourceName(directory: string): string {
  const name = path.basename(directory).replace(/[^A-Za-z0-9_.-]/g, '_');
  return /^[A-Za-z0-9]/.test(name) ? name : `source${name}`;
}

function quoted(text: string): string {
  if (/[\0-\x1f\x7f]/.test(text))
    throw new Failure('write configuration for', text, {
      cause: 'a control character in a path',
      kind: 'usage',
    });
  return `"${text.replace(/["\\]/g, '\\$&')}"`;
}

/** plakard.conf for one repository and one source, `directory`. */
export function quickstartConfiguration(paths: Paths, directory: string): string {
  if (Buffer.byteLength(paths.socket) > SOCKET_PATH_MAX_BYTES)
    throw new Failure('write configuration with', paths.socket, {
      cause: `a socket's path has at most ${SOCKET_PATH_MAX_BYTES} bytes`,
      remedy: 'move the checkout to a shorter path',
    });
  const users = Object.entries(USERS).map(([role, id]) => `set user ${role} ${id}\n`);
  const name = quoted(sourceName(directory));
  // Where the source holds the quick start itself, that would grow while it is read.
  const inside = paths.top.startsWith(directory === '/' ? '/' : `${directory}/`);
  const exclude = inside ? `        exclude { ${quoted(paths.top)} }\n` : '';
  return `# Made by npm start, and made afresh by the next one.
set socket ${quoted(paths.socket)}
set state ${quoted(paths.state)}
${users.join('')}
repository "local" at ${quoted(paths.repository)} {
        passphrase file ${quoted(paths.passphrase)}
        compression zstd 3
}

source ${name} {
        path ${quoted(directory)}
${exclude}}

push ${name} to "local"
`;
}
