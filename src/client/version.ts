/** plakarctl version: the package's, which is the daemon's when both are of one installation. */
import fs from 'node:fs';
import { Failure } from '../error.ts';
import type { Context } from './context.ts';
import type { EventType } from './output.ts';

const VERSION: EventType<{ version: string; runtime: string }> = {
  name: 'version',
  json: (event) => event,
  text: ({ version, runtime }) => `plakarctl ${version} (Node.js ${runtime})`,
};

function packageVersion(): string {
  const file = new URL('../../package.json', import.meta.url);
  const { version } = JSON.parse(fs.readFileSync(file, 'utf8')) as { version?: unknown };
  if (typeof version !== 'string') throw new Failure('read version', 'package.json');
  return version;
}

export async function run(context: Context): Promise<void> {
  context.output.emit(VERSION, { version: packageVersion(), runtime: process.versions.node });
}
