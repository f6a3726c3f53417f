/** A parent that tells who its children are, and then hangs. Run by supervise.test.ts, which kills it. */
import fs from 'node:fs';
import { family, NAMES } from './family.ts';

// children write to our standard output too: whoever reads it sees its end when all are gone
const held = family({ output: 1 });
await held.start(NAMES);
fs.writeSync(1, `${NAMES.map((name) => held.pid(name)).join(' ')}\n`);
for (;;);
