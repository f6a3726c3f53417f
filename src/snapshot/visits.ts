/**
 * The directories that a walk of a watched source visits: those in which
 * something changed, and those above them. The walker tells the chunker, which
 * then sends the old nodes of these directories only; all others stay as they
 * were, unread. Both go by this one tree, so that they agree about which nodes
 * come. Encoder and decoder:
 *
 *   in pre-order, beginning with the source's root directory, whose name is empty:
 *   offset size
 *        0    1  1: its entries are to be looked at; 0: only directories below it
 *        1    2  length of its name
 *        3    4  visited directories in it, which follow, each with all below it
 *        7       name
 */
import { Failure } from '../error.ts';
import { VISITS_MAX_BYTES } from '../messages/scan.ts';
import { Bytes } from './bytes.ts';

/** A longer list is not worth its while: all is visited. */
export const VISITS_MAX = 4096;
export const VISIT_HEAD_BYTES = 7;
const NAME_MAX = 255;

export interface Visit {
  /** all entries are looked at */
  readonly listed: boolean;
  /** by name, as latin1 */
  readonly children: ReadonlyMap<string, Visit>;
}

/** A directory that was not there, or not watched: everything in it is looked at, and nothing is old. */
export const UNKNOWN: Visit = { listed: true, children: new Map() };

export function encodeVisits(root: Visit): Buffer {
  const out = new Bytes(1024);
  const stack: (readonly [name: string, visit: Visit])[] = [['', root]];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const [name, { listed, children }] = top;
    const bytes = Buffer.from(name, 'latin1');
    out.u8(listed ? 1 : 0);
    out.u16(bytes.length);
    out.u32(children.size);
    out.bytes(bytes);
    stack.push(...[...children].reverse());
  }
  return Buffer.from(out.since(0));
}

interface Open {
  readonly children: Map<string, Visit>;
  left: number;
}

function malformed(): Failure {
  return new Failure('read visits', '', { cause: 'malformed list of directories' });
}

/** Throws where the bytes are no such tree. */
export function decodeVisits(bytes: Buffer): Visit {
  if (bytes.length > VISITS_MAX_BYTES) throw malformed();
  const stack: Open[] = [];
  let root: Visit | undefined;
  let count = 0;
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < VISIT_HEAD_BYTES || ++count > VISITS_MAX) throw malformed();
    const listed = bytes.readUInt8(at);
    const length = bytes.readUInt16LE(at + 1);
    const left = bytes.readUInt32LE(at + 3);
    const end = at + VISIT_HEAD_BYTES + length;
    if (listed > 1 || length > NAME_MAX || end > bytes.length) throw malformed();
    const name = bytes.toString('latin1', at + VISIT_HEAD_BYTES, end);
    const children = new Map<string, Visit>();
    const visit = { listed: listed === 1, children };
    const parent = stack.at(-1);
    if ((name === '') !== (parent === undefined) || (root !== undefined && parent === undefined))
      throw malformed();
    if (parent === undefined) root = visit;
    else if (parent.children.has(name)) throw malformed();
    else parent.children.set(name, visit);
    stack.push({ children, left });
    for (let top = stack.at(-1); top !== undefined && top.left === 0; top = stack.at(-1)) {
      stack.pop();
      const above = stack.at(-1);
      if (above !== undefined) above.left--;
    }
    at = end;
  }
  if (root === undefined || stack.length > 0) throw malformed();
  return root;
}
