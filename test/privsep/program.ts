/** A program whose children do what a test tells them to. Run by family.ts' supervisors through re-exec. */
import crypto from 'node:crypto';
import fs from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import zlib from 'node:zlib';
import ffi from 'ffi-napi';
import { describe } from '../../src/error.ts';
import { message } from '../../src/ipc/message.ts';
import { integer, list, record, text } from '../../src/ipc/shape.ts';
import { type ChildContext, childArguments, runChild } from '../../src/privsep/child.ts';
import { syscall } from '../../src/sys/foreign.ts';
import { mapShared, memfdCreate, unmap } from '../../src/sys/memory.ts';

/** parent → child: do `what`; answered by DONE. */
export const DO = message(
  40,
  'do',
  record({ what: text(64), about: text(4096), numbers: list(integer(-(2 ** 53), 2 ** 53), 8) }),
);
export const DONE = message(41, 'done', record({ text: text(16384), number: integer(-(2 ** 53), 2 ** 53) }));
/** peer → peer: who are you? */
export const WHO = message(42, 'who', record({}));
export const WHO_IS = message(43, 'who is', record({ text: text(256) }));

interface Answer {
  text: string;
  number: number;
}
type Action = (context: ChildContext, about: string, numbers: number[]) => Promise<Answer> | Answer;

const calls = ffi.Library(null, {
  syscall: ['long', ['long', 'long', 'long', 'long', 'long', 'long', 'long']],
  setuid: ['int', ['uint']],
});

const answer = (text: unknown, number = 0): Answer => ({ text: String(text), number });

async function work(): Promise<Answer> {
  await pause(1);
  const many = Array.from({ length: 200_000 }, (_, i) => ({ i, text: `x${i}` }));
  for (let i = 0; i < 100; i++) Buffer.alloc(1 << 20, i);
  await new Promise((done) => zlib.zstdCompress(Buffer.alloc(1 << 20, 7), done));
  await new Promise((done) => crypto.randomBytes(64, done));
  await new Promise((done) => crypto.pbkdf2('a', 'b', 1000, 32, 'sha256', done));
  const cipher = crypto.createCipheriv('aes-256-gcm', Buffer.alloc(32), Buffer.alloc(12));
  cipher.update(Buffer.alloc(1 << 20));
  cipher.final();
  // enough turns that the optimizing compiler makes code, on its own thread
  const sum = new Function('n', 'let s = 0; for (let i = 0; i < n; i++) s += i * i; return s');
  for (let i = 0; i < 3000; i++) sum(3000);
  const fd = memfdCreate('work', 1 << 20);
  const shared = mapShared(fd, 1 << 20, 'write');
  shared.fill(1);
  unmap(shared);
  fs.closeSync(fd);
  console.error('worked');
  return answer(`${new Date(0).toLocaleString('sv')} ${many.length} ${process.resourceUsage().maxRSS > 0}`);
}

const raw = (numbers: number[]): number => {
  const [number = -1, ...rest] = numbers;
  return syscall(number, ...rest);
};

const rawOnPool = (numbers: number[]): Promise<number> => {
  const given = [...numbers, 0, 0, 0, 0, 0, 0, 0].slice(0, 7) as [number, ...number[]];
  return new Promise((done, failed) => {
    const back = (error: Error | null, result: number): void =>
      error ? failed(error) : done(Number(result));
    (calls.syscall as unknown as { async: (...given: unknown[]) => void }).async(...given, back);
  });
};

const setuidOnPool = (): Promise<number> =>
  new Promise((done, failed) => {
    const back = (error: Error | null, result: number): void => (error ? failed(error) : done(result));
    (calls.setuid as unknown as { async: (...given: unknown[]) => void }).async(0, back);
  });

const ACTIONS: Readonly<Record<string, Action>> = {
  work,
  ids: () => answer(`${process.getuid?.()}:${process.getgid?.()}`),
  options: () => answer(process.execArgv.join(' ')),
  settings: (context) => answer(JSON.stringify(context.settings)),
  peers: (context, about) => answer([...context.peers(about).keys()].sort().join(' ')),
  call: (_, __, numbers) => answer('', raw(numbers)),
  'call on pool': async (_, __, numbers) => answer('', await rawOnPool(numbers)),
  'setuid on pool': async () => answer('', await setuidOnPool()),
  read: (_, about) => answer(fs.readFileSync(about, 'latin1')),
  'read on pool': async (_, about) => answer(await fs.promises.readFile(about, 'latin1')),
  list: (_, about) => answer(fs.readdirSync(about).sort().join(' ')),
  write: (_, about) => {
    fs.writeFileSync(about, 'written');
    fs.fsyncSync(fs.openSync(about, 'r'));
    return answer('written');
  },
  spawn: async () => {
    const { spawnSync } = await import('node:child_process');
    return answer(spawnSync('/bin/true').error);
  },
  ask: async (context, about) => {
    const [role = '', instance] = about.split(' ');
    const peer = context.peer(role, instance);
    if (peer === undefined) return answer('no channel');
    return answer((await peer.query(WHO, {}, WHO_IS)).payload.text);
  },
  /** breaks the rules towards a peer */
  insult: (context, about) => {
    context.peer(about)?.message(DONE, { text: 'unexpected', number: 0 });
    return answer('sent');
  },
  'insult parent': (context) => {
    context.parent.message(WHO, {});
    return answer('sent');
  },
  throw: () => {
    setImmediate(() => {
      throw new Error('a bug');
    });
    return answer('thrown');
  },
  spin: () => {
    setImmediate(() => {
      for (;;);
    });
    return answer('will spin');
  },
  exit: (_, __, [code = 0]) => process.exit(code),
  'spin at stop': (context) => {
    context.onStop(() => {
      for (;;);
    });
    return answer('will spin');
  },
};

/** Every role is the same: what it may do is up to its declaration. */
function main(context: ChildContext): void {
  if (context.settings === 'fail') throw new Error('cannot set up');
  if (context.settings === 'hang') for (;;);
  if (context.settings === 'die') process.abort();
  const roles = ['control', 'scanner', 'chunker', 'crypto', 'storage'];
  for (const role of roles)
    context.onPeer(role, (channel) => {
      channel.handler(WHO, (received) => channel.reply(received, WHO_IS, { text: context.name }));
    });
  context.onStop(() => console.error(`stopped`));
  context.parent.handler(DO, async (received) => {
    const { what, about, numbers } = received.payload;
    const action = ACTIONS[what];
    let done: Answer;
    try {
      if (action === undefined) throw new Error(`nothing known about ${what}`);
      done = await action(context, about, numbers);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      done = answer(`${code ?? describe(error)}`, -1);
    }
    context.parent.reply(received, DONE, done);
  });
}

const argv = process.argv.slice(2);
if (childArguments(argv) !== undefined) {
  const role = async (): Promise<typeof main> => main;
  await runChild({ control: role, scanner: role, chunker: role, crypto: role, storage: role }, {}, argv);
}
