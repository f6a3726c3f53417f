/** Tells whether /etc/hostname is open here, and in a child. Run by confinement.test.ts with it left open. */
import fs from 'node:fs';
import { family } from './family.ts';

const holds = (pid: number | string): boolean =>
  fs.readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return fs.readlinkSync(`/proc/${pid}/fd/${fd}`) === '/etc/hostname';
    } catch {
      return false; // readdir's own, closed by now
    }
  });

const made = family();
await made.start(['crypto local/1']);
fs.writeSync(1, JSON.stringify({ parent: holds('self'), child: holds(made.pid('crypto local/1') ?? 0) }));
await made.shutdown();
