/**
 * The files of a configuration: reading one, within bounds, into the tokens that
 * the grammar reads. It owns the invariant that a run reads no file that anyone
 * on the machine could have written, none within itself, and no more than
 * TOTAL_MAX_BYTES; a configuration decides what runs as root.
 */

import { isUtf8 } from 'node:buffer';
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { Failure } from '../error.ts';
import { Input, type Session } from './input.ts';
import { lex } from './lexer.ts';
import type { FileSource, FileStat } from './model.ts';

/** One file. */
const FILE_MAX_BYTES = 1024 * 1024;
/** All files of a run, each as often as it is included. */
const TOTAL_MAX_BYTES = 8 * 1024 * 1024;
/** Includes in one run. */
const FILES_MAX = 1024;

const BUFFER_BYTES = 64 * 1024;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const WORLD_WRITABLE = 0o002;

export function isRegular({ mode }: FileStat): boolean {
  return (mode & S_IFMT) === S_IFREG;
}

/**
 * Opens a file of the configuration for the grammar. `chain` has the identities
 * of the files that include it. Throws a Failure, or what the system says.
 */
export function openFile(session: Session, file: string, chain: readonly string[]): Input {
  session.read.add(file);
  if (++session.opened > FILES_MAX) throw new Failure(`more than ${FILES_MAX} includes`, '');
  const stat = session.files.stat(file);
  if (isRegular(stat) && (stat.mode & WORLD_WRITABLE) !== 0) {
    throw new Failure('everybody may write to it', '', { remedy: `chmod o-w ${file}` });
  }
  const identity = `${stat.dev}:${stat.ino}`;
  if (chain.includes(identity)) throw new Failure('the file includes itself', '');
  const bytes = session.files.readFile(file, FILE_MAX_BYTES);
  session.bytes += bytes.length;
  if (session.bytes > TOTAL_MAX_BYTES)
    throw new Failure(`more than ${TOTAL_MAX_BYTES} bytes in all files`, '');
  if (!isUtf8(bytes)) throw new Failure(`line ${firstBadLine(bytes)} is not UTF-8`, '');
  return new Input(session, file, [...chain, identity], lex(file, new TextDecoder().decode(bytes)));
}

function firstBadLine(bytes: Buffer): number {
  let line = 1;
  for (let start = 0; start < bytes.length; line++) {
    const newline = bytes.indexOf(0x0a, start);
    const end = newline < 0 ? bytes.length : newline;
    if (!isUtf8(bytes.subarray(start, end))) break;
    start = end + 1;
  }
  return line;
}

/** The machine's own files, for a process that runs as `uid` and was passed `credentials`. */
export function diskFiles(uid: number, credentials?: string): FileSource {
  return { uid, credentials, stat: (file) => statSync(file), readFile };
}

/** Reads to the end, as a file in /proc has no size. Never waits: no fifo, and no terminal. */
function readFile(file: string, maxBytes: number): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() && !stat.isCharacterDevice()) throw new Failure('not a regular file', '');
    const buffer = Buffer.alloc(BUFFER_BYTES);
    const chunks: Buffer[] = [];
    let bytes = 0;
    for (;;) {
      const count = readSync(fd, buffer, 0, buffer.length, null);
      if (count === 0) return Buffer.concat(chunks);
      bytes += count;
      if (bytes > maxBytes) throw new Failure(`longer than ${maxBytes} bytes`, '');
      chunks.push(Buffer.from(buffer.subarray(0, count)));
    }
  } finally {
    closeSync(fd);
  }
}
