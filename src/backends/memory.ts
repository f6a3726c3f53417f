/**
 * Objects in memory: the twin of fs.ts, for tests and simulations. Its hook
 * sees each operation before and after it happens and may throw, as a disk
 * that fails or a server whose answer is lost.
 */
import { Failure } from '../error.ts';
import {
  type Backend,
  type ByteRange,
  checkObjectName,
  OBJECT_KINDS,
  type ObjectKind,
  type ObjectWriter,
  type PutOptions,
} from './objects.ts';
import { pieceWriter } from './pieces.ts';

export interface Operation {
  readonly call: 'get' | 'put' | 'list' | 'stat' | 'delete';
  readonly when: 'before' | 'after';
  readonly kind: ObjectKind;
  /** empty for list */
  readonly name: string;
}

/** Called around each operation; what it throws is the operation's failure. */
export type FaultHook = (operation: Operation) => void;

export class MemoryBackend implements Backend {
  readonly location = 'memory';
  /** What is kept, for tests to look at and to damage. */
  readonly objects: Readonly<Record<ObjectKind, Map<string, Buffer>>>;
  #hook: FaultHook | undefined;

  constructor(hook?: FaultHook) {
    this.#hook = hook;
    this.objects = Object.fromEntries(
      OBJECT_KINDS.map((kind) => [kind, new Map<string, Buffer>()]),
    ) as Record<ObjectKind, Map<string, Buffer>>;
  }

  /** Another backend with the same objects. */
  clone(): MemoryBackend {
    const copy = new MemoryBackend();
    for (const kind of OBJECT_KINDS)
      for (const [name, object] of this.objects[kind]) copy.objects[kind].set(name, object);
    return copy;
  }

  /** Replaces the hook; without one nothing fails. */
  setHook(hook: FaultHook | undefined): void {
    this.#hook = hook;
  }

  #around<T>(call: Operation['call'], kind: ObjectKind, name: string, act: () => T): T {
    if (call !== 'list') checkObjectName(kind, name);
    try {
      this.#hook?.({ call, when: 'before', kind, name });
      const result = act();
      this.#hook?.({ call, when: 'after', kind, name });
      return result;
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      throw new Failure(call, `${kind}/${name}`, { cause });
    }
  }

  async get(kind: ObjectKind, name: string, range?: ByteRange): Promise<Buffer | undefined> {
    return this.#around('get', kind, name, () => {
      const object = this.objects[kind].get(name);
      return object === undefined ? undefined : Buffer.from(sliceOf(object, kind, name, range));
    });
  }

  async getInto(kind: ObjectKind, name: string, offset: number, out: Buffer): Promise<boolean> {
    return this.#around('get', kind, name, () => {
      const object = this.objects[kind].get(name);
      if (object === undefined) return false;
      sliceOf(object, kind, name, { offset, length: out.length }).copy(out);
      return true;
    });
  }

  async put(
    kind: ObjectKind,
    name: string,
    pieces: readonly Buffer[],
    options: PutOptions = {},
  ): Promise<boolean> {
    return this.#around('put', kind, name, () => {
      if (options.ifAbsent === true && this.objects[kind].has(name)) return false;
      this.objects[kind].set(name, Buffer.concat(pieces));
      return true;
    });
  }

  create(kind: ObjectKind): ObjectWriter {
    return pieceWriter((name, views) => this.put(kind, name, views));
  }

  async list(kind: ObjectKind): Promise<string[]> {
    return this.#around('list', kind, '', () => [...this.objects[kind].keys()]);
  }

  async stat(kind: ObjectKind, name: string): Promise<number | undefined> {
    return this.#around('stat', kind, name, () => this.objects[kind].get(name)?.length);
  }

  async delete(kind: ObjectKind, name: string): Promise<boolean> {
    return this.#around('delete', kind, name, () => this.objects[kind].delete(name));
  }

  async leftovers(): Promise<string[]> {
    return [];
  }

  async removeLeftover(): Promise<void> {}

  async reserve(): Promise<boolean> {
    return true;
  }
}

function sliceOf(object: Buffer, kind: ObjectKind, name: string, range?: ByteRange): Buffer {
  if (range === undefined) return object;
  const end = range.offset + range.length;
  if (end > object.length)
    throw new Failure('read', `${kind}/${name}`, {
      cause: `it ends at ${object.length}, before ${end}`,
      kind: 'damaged',
    });
  return object.subarray(range.offset, end);
}
