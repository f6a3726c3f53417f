/** A process of the user that it is told, which takes all inotify instances that the user has left, also those that come free. */
import { O_CLOEXEC } from '../../src/sys/constants.ts';
import { syscall } from '../../src/sys/foreign.ts';
import { NUMBERS } from '../../src/sys/numbers.ts';

function takeAll(): void {
  while (syscall(NUMBERS.inotify_init1, O_CLOEXEC) >= 0);
}

process.setuid?.(Number(process.argv[2]));
takeAll();
process.stdout.write('none left\n');
setInterval(takeAll, 1);
