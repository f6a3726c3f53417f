/** A process that runs the hook that it is told, and prints how that ended: for hooks.test.ts, which may kill it. */
import { describe } from '../../src/error.ts';
import { runHook } from '../../src/processes/parent/hooks.ts';
import { syscall } from '../../src/sys/foreign.ts';
import { NUMBERS } from '../../src/sys/numbers.ts';

const [command = '', user = '', timeout = '0'] = process.argv.slice(2);
const F_DUPFD = 0;
const LEFT_OPEN = 200;

// as whoever started the daemon may have left it: open, and inherited
syscall(NUMBERS.fcntl, 0, F_DUPFD, LEFT_OPEN);
// a group that it is not to keep
process.setgroups?.([0, 61077]);
const printed: string[] = [];
const keep = (text: string): number => printed.push(text);
const log = { debug: keep, info: keep, warn: keep, error: keep, verbose: true };
const event = { source: 'home', repository: 'local', when: 'before' } as const;
const tools = { log, timeoutMs: Number(timeout), stopping: new AbortController().signal };
const outcome = await runHook({ command, user }, event, tools).then(
  () => 'done',
  (error: unknown) => describe(error),
);
process.stdout.write(JSON.stringify({ outcome, printed }));
