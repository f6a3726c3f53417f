/**
 * The other process in the tests of channels; its channel is descriptors 3 and
 * 4. Roles: `echo` answers; `deaf` never reads; `poor` answers with a table of
 * descriptors that is nearly full, and prints how its channel ended.
 */
import fs from 'node:fs';
import { describe } from '../../src/error.ts';
import { Channel } from '../../src/ipc/channel.ts';
import { RLIMIT_NOFILE } from '../../src/sys/constants.ts';
import { setRlimit } from '../../src/sys/process.ts';
import * as types from './types.ts';

function serve(): Channel {
  const channel = new Channel({ stream: 3, descriptors: 4 }, { name: 'test' });
  channel.handler(types.ECHO, (message) => {
    channel.reply(message, types.ECHOED, message.payload, message.fds, { given: true });
  });
  channel.handler(types.COUNT, (message) => {
    channel.reply(message, types.COUNTED, { descriptors: fs.readdirSync('/proc/self/fd').length });
  });
  channel.handler(types.SILENCE, () => {});
  channel.handler(types.CROSS, async (message) => {
    const { payload } = await channel.query(types.ECHO, message.payload, types.ECHOED);
    channel.reply(message, types.ECHOED, { ...payload, n: payload.n + 1 });
  });
  channel.handler(types.BREAK, (message) => {
    throw new Error(message.payload.text);
  });
  return channel;
}

/** The limit under which `count` more descriptors can be opened. */
function limitForFree(count: number): number {
  // the listing itself is over when it is read, and its descriptor no more there
  const open = new Set(fs.readdirSync('/proc/self/fd').filter((fd) => fs.existsSync(`/proc/self/fd/${fd}`)));
  let limit = 0;
  for (let free = 0; free < count; limit++) if (!open.has(String(limit))) free++;
  return limit;
}

const role = process.argv[2];
if (role === 'echo') {
  const channel = serve();
  await channel.dispatch();
} else if (role === 'poor') {
  const channel = serve();
  const limit = limitForFree(3);
  setRlimit(RLIMIT_NOFILE, limit, limit);
  const ended = channel.dispatch();
  process.stdout.write('ready\n');
  await ended.then(
    () => process.stdout.write('closed\n'),
    (error: unknown) => process.stdout.write(`${describe(error)}\n`),
  );
} else {
  process.stdout.write('ready\n');
  setInterval(() => {}, 1 << 30);
}
