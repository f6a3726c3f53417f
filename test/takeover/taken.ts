/**
 * The main of a daemon's children in the tests here, in place of src/plakard.ts:
 * the same roles, but the one that a plan has next is taken over when it starts.
 * Everything that any child is sent is recorded. The plan is read, and the life
 * struck off it, while the process is still root.
 */
import fs from 'node:fs';
import net from 'node:net';
import { Channel } from '../../src/ipc/channel.ts';
import type { CallName } from '../../src/privsep/calls.ts';
import { type ChildContext, childArguments, type Roles, runChild } from '../../src/privsep/child.ts';
import { REQUESTS } from '../../src/processes/requests.ts';
import { startOf } from '../parent/daemon.ts';
import { Attack, Random } from './attack.ts';
import { callOn, tryMemory, tryWalls } from './walls.ts';

/** A life of a role that is taken over, and the seed of what it then does; or the one call that it makes; or that it spins. */
export interface Life {
  readonly role: string;
  readonly seed: number;
  readonly call?: CallName;
  readonly thread?: 'main' | 'pool';
  readonly spins?: true;
}

/** What is recorded: bytes as they came, keys as they were given, what an attack did, and what the kernel refused. */
export type Entry = 'bytes' | 'key' | 'note' | 'walls' | 'memory';
const TAGS: Readonly<Record<Entry, number>> = { bytes: 0, key: 1, note: 2, walls: 3, memory: 4 };
/** As long as a child whose message must not be survived may go on. */
const SURVIVED_MS = 10_000;
/** Of a descriptor that was given. */
const LOOK_BYTES = 4096;
const KEY_BYTES = 32;
/** Standard input: the one descriptor that a child is left with besides its channels. */
const RECORD = 0;

const ROLES: Roles = {
  control: async () => (await import('../../src/processes/control.ts')).control,
  scanner: async () => (await import('../../src/processes/scanner.ts')).scanner,
  chunker: async () => (await import('../../src/processes/chunker.ts')).chunker,
  crypto: async () => (await import('../../src/processes/crypto.ts')).crypto,
  storage: async () => (await import('../../src/processes/storage.ts')).storage,
  keys: async () => (await import('../../src/processes/keys.ts')).keys,
};

function record(entry: Entry, bytes: Buffer): void {
  const head = Buffer.alloc(5);
  head[0] = TAGS[entry];
  head.writeUInt32LE(bytes.length, 1);
  fs.writeSync(RECORD, Buffer.concat([head, bytes]));
}

/** The entries of a record. */
export function* entriesOf(recorded: Buffer): Generator<{ entry: Entry; bytes: Buffer }> {
  const names = Object.keys(TAGS) as Entry[];
  for (let at = 0; at + 5 <= recorded.length; ) {
    const end = at + 5 + recorded.readUInt32LE(at + 1);
    const entry = names.find((name) => TAGS[name] === recorded[at]);
    if (entry === undefined) throw new Error(`a broken record, at ${at}`);
    yield { entry, bytes: recorded.subarray(at + 5, end) };
    at = end;
  }
}

function recordKeys(value: unknown): void {
  if (value instanceof Uint8Array) {
    if (value.length === KEY_BYTES) record('key', Buffer.from(value));
  } else if (typeof value === 'object' && value !== null)
    for (const each of Object.values(value)) recordKeys(each);
}

function recordDescriptor(fd: number): void {
  const bytes = Buffer.alloc(LOOK_BYTES);
  try {
    record('bytes', bytes.subarray(0, fs.readSync(fd, bytes, 0, LOOK_BYTES, 0)));
  } catch {
    // a socket has no contents to look at
  }
}

/** From now on everything that comes is recorded, to descriptor RECORD. */
function recordAll(file: string): void {
  fs.closeSync(RECORD);
  fs.openSync(file, 'a');
  const heard: unknown = Reflect.get(net.Socket.prototype, 'on');
  if (typeof heard !== 'function') throw new Error('no sockets');
  const on = function (this: net.Socket, event: string, listener: (...given: unknown[]) => void): unknown {
    if (event !== 'data') return heard.call(this, event, listener);
    return heard.call(this, event, (chunk: Buffer) => {
      record('bytes', chunk);
      listener(chunk);
    });
  };
  Reflect.set(net.Socket.prototype, 'on', on);
  const { handler } = Channel.prototype;
  Channel.prototype.handler = function (type, handle) {
    handler.call(this, type, (message) => {
      for (const fd of message.fds) recordDescriptor(fd);
      if (type.name === 'rings') record('memory', Buffer.from(JSON.stringify(message.fds.map(tryMemory))));
      if (/^(chunker|crypto) keys$/.test(type.name)) recordKeys(message.payload);
      return handle(message as never);
    });
  };
}

/** The seed of this child's life, if it is the next to be taken over; strikes it off the plan. */
function takePlan(file: string, role: string): Life | undefined {
  const [next, ...later] = JSON.parse(fs.readFileSync(file, 'utf8')) as Life[];
  if (next?.role !== role) return undefined;
  fs.writeFileSync(`${file}.${process.pid}`, JSON.stringify(later));
  fs.renameSync(`${file}.${process.pid}`, file);
  return next;
}

/** Tries what the kernel has to refuse, and goes on as the role. */
function tried(load: Roles[string]): Roles[string] {
  return async () => {
    const real = await load();
    return async (context) => {
      record('walls', Buffer.from(JSON.stringify(await tryWalls())));
      await real(context);
    };
  };
}

/** Makes one call, which it must not survive; whoever lives for one question, before it is asked. */
function calling({ call = 'execve', thread = 'main' }: Life, load: Roles[string]): Roles[string] {
  return async () => {
    const real = await load();
    return async (context) => {
      const die = async (): Promise<void> => {
        await callOn(thread, call);
        record('note', Buffer.from(`${context.name}: SURVIVED ${call}`));
      };
      if (context.role === 'keys') await die();
      await real(context);
      void context.begun.then(die);
    };
  };
}

/** Does its work until it is ready, and then nothing but use the processor. */
function spinning(load: Roles[string]): Roles[string] {
  return async () => {
    const real = await load();
    return async (context) => {
      await real(context);
      void context.begun.then(() => {
        for (;;);
      });
    };
  };
}

async function attackNow(attack: Attack, random: Random, context: ChildContext): Promise<void> {
  await context.begun;
  // some rounds wait until there is work, and peers
  if (random.under(3) > 0) await new Promise((resolve) => setTimeout(resolve, random.under(400)));
  for (let i = random.under(40); i > 0; i--) attack.say();
  attack.ask((REQUESTS[context.role] ?? []).map(({ type }) => type));
  await new Promise((resolve) => setTimeout(resolve, 20));
  const way = attack.end();
  record('note', Buffer.from(`${context.name}: ${way}`));
  setTimeout(() => {
    record('note', Buffer.from(`${context.name}: SURVIVED ${way}`));
    process.exit(1);
  }, SURVIVED_MS);
}

/** Runs the child that the arguments name. `directory` holds the plan, and the records. */
export async function runTaken(directory: string): Promise<void> {
  const named = childArguments(process.argv.slice(2));
  if (named === undefined) throw new Error('no role given');
  const { role } = named;
  recordAll(`${directory}/${role}.record`);
  const life = takePlan(`${directory}/plan.json`, role);
  const load = ROLES[role];
  if (load === undefined) throw new Error(`there is no role ${role}`);
  const isFirst = fs.fstatSync(RECORD).size === 0;
  if (life === undefined) return await runChild(isFirst ? { [role]: tried(load) } : ROLES, REQUESTS);
  const { seed } = life;
  record('note', Buffer.from(`began ${process.pid} at ${startOf('self')}, seed ${seed}`));
  if (life.call !== undefined) return await runChild({ [role]: calling(life, load) }, REQUESTS);
  if (life.spins) return await runChild({ [role]: spinning(load) }, REQUESTS);
  const random = new Random(seed);
  const taken: Roles = {
    [role]: async () => {
      const real = await load();
      return async (context) => {
        const attack = new Attack(random, context);
        if (random.under(2) === 0) attack.bendAll(random.pick([1, 3, 20]));
        if (random.under(8) === 0) attack.say();
        await real(context);
        void attackNow(attack, random, context);
      };
    },
  };
  await runChild(taken, REQUESTS);
}
