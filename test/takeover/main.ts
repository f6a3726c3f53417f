/** The daemon's main in the tests here: its children run the main that the first argument names. */
import { runDaemon } from '../../src/daemon.ts';

const [children = '', ...args] = process.argv.slice(2);
process.argv.splice(2, 1);
await runDaemon(args, children, { stallTimeoutMs: 5000, longestPauseMs: 200 });
