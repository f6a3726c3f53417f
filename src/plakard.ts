/**
 * plakard's main: the parent, or, with -x, one of its children. Reads its
 * arguments, checks or runs the configuration, and turns a failure into one
 * line and an exit code. What only one of them needs is imported for it alone:
 * scripts/bundle.ts makes of that a bundle for each.
 */
import path from 'node:path';
import { childArguments } from './privsep/child.ts';

/** What the parent starts its children by. */
const LAUNCHER = path.join(import.meta.dirname, '../bin/daemon.cjs');

/** Awaited by nobody: modules that are bundled cannot wait while they are loaded. */
async function run(): Promise<void> {
  const args = process.argv.slice(2);
  if (childArguments(args) === undefined) {
    const { runDaemon } = await import('./daemon.ts');
    await runDaemon(args, LAUNCHER);
    return;
  }
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
void run();
