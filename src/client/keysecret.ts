/**
 * Where `plakarctl key` gets a new credential from: a passphrase asked on the
 * terminal, twice and without echo, or a file, or standard input. Owns that it
 * leaves this process as a sealed memory file alone, and that no copy of it is
 * left here.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import tty from 'node:tty';
import { Failure } from '../error.ts';
import { CREDENTIAL_MAX_BYTES } from '../messages/keys.ts';
import { memfdCreate } from '../sys/memory.ts';
import { type Given, usageFailure } from './arguments.ts';
import { safeName } from './escape.ts';

const STDIN = 0;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const END_OF_TEXT = 0x03;
const END_OF_TRANSMISSION = 0x04;
const BACKSPACE = 0x08;
const KILL = 0x15;
const DELETE = 0x7f;
/** Continuation bytes of UTF-8 are 10xxxxxx. */
const isContinuation = (byte: number | undefined): boolean => ((byte ?? 0) & 0xc0) === 0x80;

/** A new credential, as it is sent. Whoever has it closes the descriptor. */
export interface NewCredential {
  readonly type: 'passphrase' | 'key file';
  readonly fd: number;
}

/** The credential that the options name; `what` is said where a passphrase is asked for. */
export async function newCredential(given: Given, what: string, signal: AbortSignal): Promise<NewCredential> {
  const passphraseFile = given.value('passphrase-file');
  const keyFile = given.value('key-file');
  if (passphraseFile !== undefined && keyFile !== undefined)
    throw usageFailure('key', '-key-file', 'not together with -passphrase-file');
  const type = keyFile === undefined ? 'passphrase' : 'key file';
  const secret = keyFile === undefined ? await passphrase(passphraseFile, what, signal) : readFile(keyFile);
  try {
    if (secret.length === 0) throw new Failure(`read ${type}`, '', { cause: 'it is empty' });
    return { type, fd: sealedFile(secret) };
  } finally {
    secret.fill(0);
  }
}

function sealedFile(secret: Buffer): number {
  const fd = memfdCreate('plakard credential', secret.length);
  try {
    for (let at = 0; at < secret.length; ) at += writeSync(fd, secret, at);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

async function passphrase(file: Buffer | undefined, what: string, signal: AbortSignal): Promise<Buffer> {
  if (file !== undefined)
    return firstLine(file.equals(Buffer.from('-')) ? readAll(STDIN, 'standard input') : readFile(file));
  if (!tty.isatty(STDIN)) return firstLine(readAll(STDIN, 'standard input'));
  return await askTwice(what, signal);
}

/** A passphrase ends where its line does. */
function firstLine(text: Buffer): Buffer {
  const end = text.indexOf(NEWLINE);
  return end < 0 ? text : text.subarray(0, end);
}

function readFile(file: Buffer): Buffer {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (cause) {
    throw new Failure('open', safeName(file), { cause });
  }
  try {
    return readAll(fd, safeName(file));
  } finally {
    closeSync(fd);
  }
}

/** All of `fd`, which must not be longer than a credential. */
function readAll(fd: number, shown: string): Buffer {
  const bytes = Buffer.alloc(CREDENTIAL_MAX_BYTES + 1);
  let length = 0;
  try {
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(fd, bytes, length, bytes.length - length, null);
  } catch (cause) {
    throw new Failure('read', shown, { cause });
  }
  if (length > CREDENTIAL_MAX_BYTES)
    throw new Failure('read', shown, { cause: `longer than ${CREDENTIAL_MAX_BYTES} bytes` });
  return bytes.subarray(0, length);
}

async function askTwice(what: string, signal: AbortSignal): Promise<Buffer> {
  const terminal = new tty.ReadStream(STDIN);
  try {
    const first = await ask(terminal, `${what}: `, signal);
    const second = await ask(terminal, `${what}, again: `, signal);
    const same = first.equals(second);
    second.fill(0);
    if (same) return first;
    first.fill(0);
    throw new Failure('read passphrase', '', { cause: 'they differ' });
  } finally {
    terminal.destroy();
  }
}

/** One line of the terminal, of which nothing is shown. */
function ask(terminal: tty.ReadStream, prompt: string, signal: AbortSignal): Promise<Buffer> {
  const line = Buffer.alloc(CREDENTIAL_MAX_BYTES);
  let length = 0;
  return new Promise<Buffer>((resolve, reject) => {
    const end = (settle: () => void) => {
      terminal.off('data', take);
      signal.removeEventListener('abort', interrupted);
      terminal.setRawMode(false);
      terminal.pause();
      process.stderr.write('\n');
      settle();
    };
    const interrupted = () =>
      end(() => reject(signal.reason ?? new Failure('interrupted', '', { kind: 'interrupted' })));
    const take = (typed: Buffer) => {
      for (const byte of typed) {
        if (byte === NEWLINE || byte === RETURN || byte === END_OF_TRANSMISSION)
          return end(() => resolve(line.subarray(0, length)));
        if (byte === END_OF_TEXT) return interrupted();
        if (byte === KILL) length = 0;
        else if (byte === DELETE || byte === BACKSPACE) {
          while (length > 0 && isContinuation(line[length - 1])) length--;
          length = Math.max(0, length - 1);
        } else if (length < line.length) line[length++] = byte;
      }
    };
    process.stderr.write(prompt);
    terminal.setRawMode(true);
    terminal.on('data', take);
    signal.addEventListener('abort', interrupted, { once: true });
    terminal.resume();
  });
}
