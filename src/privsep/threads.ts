/**
 * What the kernel says about every thread of this process. Used by drop.ts to
 * prove that no thread kept anything.
 *
 * /proc cannot be reached after chroot, so the status file of each thread is
 * opened before; reading it again gives the state of that moment. That these
 * are all threads is checked by the count that the status itself gives.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';

/** A status is about 1.5 KB; on machines with many processors, more. */
const STATUS_MAX_BYTES = 32 << 10;

/** What every thread must be like. */
export interface Expected {
  readonly uid: number;
  readonly gid: number;
  /** the capabilities of the main thread; all others have none, or these */
  readonly capabilities: bigint;
}

interface Thread {
  readonly id: string;
  readonly status: number;
}

/** The threads of this process, each with its status file open. */
export class Threads {
  readonly #threads: Thread[] = [];
  readonly #buffer = Buffer.alloc(STATUS_MAX_BYTES);

  constructor() {
    for (const id of fs.readdirSync('/proc/self/task'))
      this.#threads.push({ id, status: fs.openSync(`/proc/self/task/${id}/status`, 'r') });
  }

  /** Throws a Failure that names thread and field unless all threads are as expected. */
  prove(expected: Expected): void {
    for (const thread of this.#threads) {
      const lengthBytes = fs.readSync(thread.status, this.#buffer, 0, STATUS_MAX_BYTES, 0);
      proveStatus(this.#buffer.toString('latin1', 0, lengthBytes), thread.id, this.#threads.length, expected);
    }
  }

  close(): void {
    for (const { status } of this.#threads) fs.closeSync(status);
    this.#threads.length = 0;
  }
}

/** The fields of a status file, by name, with single blanks between values. */
export function parseStatus(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0)
      fields.set(
        line.slice(0, colon),
        line
          .slice(colon + 1)
          .trim()
          .replace(/\s+/g, ' '),
      );
  }
  return fields;
}

/** Checks one thread's status text; `count` is the number of threads that are known. */
export function proveStatus(text: string, id: string, count: number, expected: Expected): void {
  const fields = parseStatus(text);
  const refuse = (field: string): never => {
    const cause = `thread ${id} has ${field} ${fields.get(field) ?? 'not at all'}`;
    throw new Failure('give up root', '', { cause });
  };
  const must = (field: string, value: string): void => {
    if (fields.get(field) !== value) refuse(field);
  };
  must('Uid', Array(4).fill(expected.uid).join(' '));
  must('Gid', Array(4).fill(expected.gid).join(' '));
  must('Groups', '');
  must('Threads', String(count));
  must('NoNewPrivs', '1');
  must('Seccomp', '2');
  const main = id === fields.get('Tgid');
  for (const field of ['CapPrm', 'CapEff']) {
    const held = BigInt(`0x${fields.get(field) ?? 'f'}`);
    if (held !== expected.capabilities && (main || held !== 0n)) refuse(field);
  }
  must('CapInh', '0'.repeat(16));
  must('CapAmb', '0'.repeat(16));
}
