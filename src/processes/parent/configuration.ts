/**
 * The configuration as the parent uses it: read and checked whole, its names
 * resolved to numbers, and what control has to know of it. Called by the
 * command, for -n and at start, and by the parent at each reload.
 *
 * Invariant: what `readConfiguration` returns can be applied: everything that
 * can be wrong with it has been looked at.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import {
  type Configuration,
  checkFiles,
  diskFiles,
  type FileSource,
  formatError,
  parseFile,
  type Role,
  resolveGroup,
  resolveUser,
} from '../../config/config.ts';
import { Failure } from '../../error.ts';
import type { PayloadOf } from '../../ipc/shape.ts';
import type { policy } from '../../messages/client.ts';
import type { CONTROL_SETTINGS } from '../../messages/parent.ts';
import type { User } from '../../privsep/user.ts';

/** A configuration with errors: a line for each, as `file:line:column: message`. */
export class ConfigurationRefused extends Failure {
  readonly lines: readonly string[];

  constructor(path: string, lines: readonly string[]) {
    const more = lines.length > 1 ? ` (and ${lines.length - 1} more)` : '';
    super('read configuration', path, { cause: `${lines[0] ?? 'nothing in it'}${more}` });
    this.lines = lines;
  }
}

/** A configuration, and the files that it was read from. */
export interface ReadConfiguration {
  readonly configuration: Configuration;
  readonly files: readonly string[];
}

/** Where a configuration comes from: its file, and the macros of the command line. */
export interface ConfigurationPlace {
  readonly path: string;
  readonly macros: Readonly<Record<string, string>>;
}

function ownFiles(): FileSource {
  return diskFiles(process.getuid?.() ?? 0, process.env.CREDENTIALS_DIRECTORY);
}

/** Reads and checks a configuration; throws a ConfigurationRefused that has one line for each error. */
export function readConfiguration({ path, macros }: ConfigurationPlace): ReadConfiguration {
  const sources = ownFiles();
  const { configuration, errors, files } = parseFile(path, {
    files: sources,
    macros,
    host: hostname(),
    system: process.platform,
  });
  const all = errors.length > 0 || configuration === undefined ? errors : checkFiles(configuration, sources);
  if (configuration === undefined || all.length > 0)
    throw new ConfigurationRefused(path, all.map(formatError));
  return { configuration, files };
}

/** The files of a configuration, as far as it can be read: what to watch while it is wrong, too. */
export function filesOf({ path, macros }: ConfigurationPlace): readonly string[] {
  const files = ownFiles();
  return parseFile(path, { files, macros, host: hostname(), system: process.platform }).files;
}

function accounts(path: string): (maxBytes: number) => Buffer {
  return (maxBytes) => readFileSync(path).subarray(0, maxBytes);
}

/** The user that a role runs as. */
export function userOf(configuration: Configuration, role: Role): User {
  return resolveUser(configuration.users[role], accounts('/etc/passwd'), role);
}

/** The group of the control socket. */
export function socketGroup({ socket }: Configuration): number {
  return socket.group === undefined ? 0 : resolveGroup(socket.group, accounts('/etc/group'));
}

/** What control has to know of the configuration. Throws where a `permit` names nobody. */
export function controlSettings({
  repositories,
  sources,
  permits,
}: Configuration): PayloadOf<typeof CONTROL_SETTINGS.shape> {
  const passwd = accounts('/etc/passwd');
  const group = accounts('/etc/group');
  return {
    host: hostname(),
    repositories: repositories.map(({ name, location, compression, encryption, keep }) => ({
      name,
      location: location.path,
      compression: compression.kind === 'none' ? 'none' : `zstd ${compression.level}`,
      encryption: encryption.kind !== 'none',
      // what is missing is undefined in a policy
      keep: keep as PayloadOf<typeof policy> | undefined,
    })),
    sources: sources.map(({ name, paths }) => ({ name, paths: [...paths] })),
    permits: permits.map(({ subject, name, operations, source, repository }) => ({
      uid: subject === 'user' ? resolveUser(name, passwd, 'control').uid : undefined,
      gid: subject === 'group' ? resolveGroup(name, group) : undefined,
      operations: [...operations],
      source,
      repository,
    })),
  };
}

/** Whether two statements say the same, wherever they stand. */
export function sameStatement(a: unknown, b: unknown): boolean {
  const withoutPlace = (key: string, value: unknown) => (key === 'at' ? undefined : value);
  return JSON.stringify(a, withoutPlace) === JSON.stringify(b, withoutPlace);
}
