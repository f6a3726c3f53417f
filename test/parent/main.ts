/** The daemon's main with other timeouts: what daemon.ts starts. Its children start as those of plakard do. */
import path from 'node:path';
import { runDaemon } from '../../src/daemon.ts';

const [timeouts = '{}', ...args] = process.argv.slice(2);
process.argv.splice(2, 1);
await runDaemon(args, path.join(import.meta.dirname, '../../bin/daemon.cjs'), JSON.parse(timeouts));
