/**
 * plakard's main: the parent, or, with -x, one of its children. Reads its
 * arguments, checks or runs the configuration, and turns a failure into one
 * line and an exit code.
 */
import { childArguments } from './privsep/child.ts';

const named = childArguments(process.argv.slice(2));
if (named === undefined) {
  const { runDaemon } = await import('./daemon.ts');
  await runDaemon(process.argv.slice(2), import.meta.filename);
} else {
  const { runChild } = await import('./privsep/child.ts');
  const { REQUESTS } = await import('./processes/requests.ts');
  const roles = {
    control: async () => (await import('./processes/control.ts')).control,
    scanner: async () => (await import('./processes/scanner.ts')).scanner,
    chunker: async () => (await import('./processes/chunker.ts')).chunker,
    crypto: async () => (await import('./processes/crypto.ts')).crypto,
    storage: async () => (await import('./processes/storage.ts')).storage,
    keys: async () => (await import('./processes/keys.ts')).keys,
  };
  await runChild(roles, REQUESTS);
}
