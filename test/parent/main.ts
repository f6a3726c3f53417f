/** The daemon's main with other timeouts: what daemon.ts starts. Its children run the real main. */
import path from 'node:path';
import { runDaemon } from '../../src/daemon.ts';

const [timeouts = '{}', ...args] = process.argv.slice(2);
process.argv.splice(2, 1);
await runDaemon(args, path.join(import.meta.dirname, '../../src/plakard.ts'), JSON.parse(timeouts));
