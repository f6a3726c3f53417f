/**
 * What a child has open. Called by child.ts before the root directory changes,
 * while /proc can still be read; and, for programs that are not ours, by the
 * parent's hooks.
 *
 * Invariant: after `closeUndeclared` a child holds standard input, output and
 * error, the two ends of its parent's channel, and what the runtime made for
 * itself: event polls, event descriptors, pipes to itself, /dev/null. In
 * particular it holds no io_uring, which would let it pass by its profile.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import { closeOnExec } from '../sys/socket.ts';

/** The parent's channel: stream and descriptors. */
export const PARENT_STREAM = 3;
export const PARENT_DESCRIPTORS = 4;
const DECLARED_MAX = PARENT_DESCRIPTORS;
/** Standard error. */
const STANDARD_MAX = 2;

const RUNTIME = new Set(['anon_inode:[eventpoll]', 'anon_inode:[eventfd]', '/dev/null']);
const RING = 'anon_inode:[io_uring]';

interface Open {
  readonly fd: number;
  readonly target: string;
}

function listOpen(): Open[] {
  const found: Open[] = [];
  for (const text of fs.readdirSync('/proc/self/fd')) {
    try {
      found.push({ fd: Number(text), target: fs.readlinkSync(`/proc/self/fd/${text}`) });
    } catch (error) {
      // the descriptor that readdir itself had
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return found;
}

function undeclared(kept: number | undefined): Open[] {
  const open = listOpen();
  const pipes = new Map<string, number>();
  for (const { target } of open) {
    if (target.startsWith('pipe:')) pipes.set(target, (pipes.get(target) ?? 0) + 1);
  }
  return open.filter(({ fd, target }) => {
    if (fd <= DECLARED_MAX || fd === kept || RUNTIME.has(target)) return false;
    // the runtime's pipes lead from the process to itself
    return (pipes.get(target) ?? 0) < 2;
  });
}

/** Closes every descriptor that was not declared, whoever left it open, but `kept`, which its opener closes. */
export function closeUndeclared(kept?: number): void {
  for (const { fd, target } of undeclared(kept)) {
    if (target === RING) {
      throw new Failure('close descriptors', target, {
        cause: 'a ring passes by the system call profile',
        remedy: 'set kernel.io_uring_disabled to 2',
      });
    }
    fs.closeSync(fd);
  }
  proveDeclared(kept);
}

/** What is executed from now on has standard input, output and error, and what it is given; whoever left more open. */
export function keepOwnDescriptors(): void {
  for (const { fd } of listOpen()) if (fd > STANDARD_MAX) closeOnExec(fd);
}

/** Throws a Failure that names any descriptor which was not declared. */
export function proveDeclared(kept?: number): void {
  const [first] = undeclared(kept);
  if (first !== undefined)
    throw new Failure('close descriptors', `${first.fd}`, { cause: `${first.target} is still open` });
}
