/**
 * What a configuration is, once read: plain data, which every process can be
 * sent its part of. The grammar makes it (statement.ts), print.ts writes it out
 * again, and the parent acts by it. Every default has been filled in; names in
 * it refer to repositories and sources that exist in it.
 */

/** A place in a configuration file. Lines and columns (in characters) count from 1; line 0 is the file itself. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** Something wrong with a configuration, and where. */
export interface ConfigError extends Position {
  readonly message: string;
}

/** The children that run as a user of their own; see "Processes" in plakard(8). */
export const ROLES = ['control', 'scanner', 'chunker', 'crypto', 'storage'] as const;
export type Role = (typeof ROLES)[number];

/** What a `permit` can allow: plakarctl's commands, and `all` of them but `key`. */
export const OPERATIONS = [
  'all',
  'create',
  'push',
  'ls',
  'cat',
  'pull',
  'tarball',
  'check',
  'rm',
  'keep',
  'repair',
  'cleanup',
  'key',
  'find',
  'diff',
  'info',
  'checksum',
  'clone',
  'sync',
  'status',
  'monitor',
  'log',
  'trace',
  'pause',
  'resume',
  'reload',
  'stop',
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** Calendar periods, shortest first; they name both what is kept and how often is checked. */
export const PERIODS = ['hourly', 'daily', 'weekly', 'monthly', 'quarterly', 'yearly'] as const;
export type Period = (typeof PERIODS)[number];

/** How many seconds a period is taken for where something is done so often. */
export const PERIOD_SECONDS: Readonly<Record<Period, number>> = {
  hourly: 3600,
  daily: 86_400,
  weekly: 7 * 86_400,
  monthly: 30 * 86_400,
  quarterly: 91 * 86_400,
  yearly: 365 * 86_400,
};

/** The depths of a check, as `plakarctl check` has them. */
export const CHECKS = ['fast', 'snapshot', 'full'] as const;
export type CheckDepth = (typeof CHECKS)[number];

/** The control socket. */
export interface Socket {
  /** Absolute, and short enough for sockaddr_un. */
  readonly path: string;
  /** Name or decimal id of the group that owns it; root's group where absent. */
  readonly group?: string;
  /** Permission bits, 0 to 0777. */
  readonly mode: number;
}

/** Bytes a second at most: always, or between two times of each day. */
export interface RateLimit {
  readonly bytesPerSecond: number;
  /** Minutes after midnight, local time; past midnight where `to` is not after `from`. */
  readonly between?: { readonly from: number; readonly to: number };
}

/** Of those that hold at a time, the lowest counts. */
export interface Limits {
  readonly read: readonly RateLimit[];
  readonly write: readonly RateLimit[];
}

/** Where a repository is. */
export interface Location {
  readonly kind: 'fs';
  /** Absolute and normalized. */
  readonly path: string;
}

/** What opens a repository. The files are read by the parent, at each start. */
export type Encryption =
  | {
      readonly kind: 'passphrase' | 'keyfile';
      readonly path: string;
      /** Its name, where the service manager passes it. */
      readonly credential?: string;
      readonly at: Position;
    }
  | { readonly kind: 'none' };

export type Compression = { readonly kind: 'zstd'; readonly level: number } | { readonly kind: 'none' };

/** How many snapshots to keep: a snapshot that any of these keeps stays. */
export interface Keep {
  readonly hourly?: number;
  readonly daily?: number;
  readonly weekly?: number;
  readonly monthly?: number;
  readonly quarterly?: number;
  readonly yearly?: number;
  /** The newest so many. */
  readonly last?: number;
  /** All that are younger than this, in seconds. */
  readonly withinSeconds?: number;
}

/** When snapshots that no rule keeps are removed by themselves: at times of its own, or after each good push. */
export type KeepWhen = Schedule | { readonly kind: 'after push' };

/** How often to check, by depth; never by itself where absent. */
export type Checks = { readonly [depth in CheckDepth]?: Schedule };

export interface Repository {
  readonly name: string;
  readonly location: Location;
  readonly encryption: Encryption;
  readonly compression: Compression;
  /** What `plakarctl keep` goes by where it is given no policy. */
  readonly keep?: Keep;
  /** Nothing is ever removed by itself where absent. */
  readonly keepWhen?: KeepWhen;
  readonly checks: Checks;
  /** When unreferenced space is returned by itself. */
  readonly cleanup?: Schedule;
  readonly limits: Limits;
  readonly at: Position;
}

/** A command to run beside a push, with /bin/sh -c, as a user. */
export interface Hook {
  readonly command: string;
  /** Name or decimal id. */
  readonly user: string;
}

/** How a source is watched. */
export interface Watch {
  /** Nothing has changed for so long: then it is pushed. */
  readonly settleSeconds: number;
  /** All of it is looked at at least so often, whatever was seen to change. */
  readonly scanSeconds: number;
}

export interface Source {
  readonly name: string;
  /** Absolute and normalized; at least one, none twice. */
  readonly paths: readonly string[];
  readonly excludes: readonly string[];
  /** Do not cross into other file systems. */
  readonly oneFilesystem: boolean;
  /** Watch for changes, and push when they have settled. */
  readonly watch?: Watch;
  readonly before: readonly Hook[];
  readonly after: readonly Hook[];
  readonly at: Position;
}

/** Days of the week, as Date numbers them from 0. */
export const WEEK_DAYS = [
  'sunday',
  'monday',
  'tuesday',
  'wednesday',
  'thursday',
  'friday',
  'saturday',
] as const;
export type WeekDay = (typeof WEEK_DAYS)[number];

/** Times on the wall's clock, in local time. All lists ascend, and none is empty. */
export interface Calendar {
  readonly kind: 'at';
  /** minutes after midnight */
  readonly minutes: readonly number[];
  /** 1 to 12; any month where absent */
  readonly months?: readonly number[];
  /** 1 to 31. Of days of the month and of the week, where both are given, either is enough. */
  readonly monthDays?: readonly number[];
  /** indices of WEEK_DAYS */
  readonly weekDays?: readonly number[];
  /** how it was written, where it was as in crontab(5) */
  readonly cron?: string;
}

/** When something is done by itself: so many seconds apart, or at times of its own. */
export type Schedule = { readonly kind: 'every'; readonly seconds: number } | Calendar;

export interface Push {
  readonly source: string;
  readonly repository: string;
  /** Only when asked for where absent. */
  readonly schedule?: Schedule;
  readonly at: Position;
}

export interface Sync {
  readonly repository: string;
  readonly direction: 'to' | 'from' | 'with';
  /** The other repository's name. */
  readonly other: string;
  readonly schedule?: Schedule;
  readonly at: Position;
}

/** Who may do what. Permits add up; what none allows is refused. */
export interface Permit {
  readonly subject: 'user' | 'group';
  /** Name or decimal id. */
  readonly name: string;
  readonly operations: readonly Operation[];
  /** This source only; any where absent. */
  readonly source?: string;
  /** This repository only; any where absent. */
  readonly repository?: string;
  readonly at: Position;
}

export interface Configuration {
  /** Processors to use; as many as there are where absent. */
  readonly cpu?: number;
  /** Memory for all children together; the daemon's own default where absent. */
  readonly memoryBytes?: number;
  readonly socket: Socket;
  /** The directory of what the daemon remembers between starts. */
  readonly state: string;
  readonly log: 'json' | 'text';
  readonly reload: 'automatic' | 'manual';
  /** Where the metrics are written to; nowhere if absent. */
  readonly metricsFile?: string;
  /** Name or decimal id for each role; `resolveUser` makes ids of them. */
  readonly users: Readonly<Record<Role, string>>;
  /** For all repositories together. */
  readonly limits: Limits;
  /** In the order of the file; the first is plakarctl's default. */
  readonly repositories: readonly Repository[];
  readonly sources: readonly Source[];
  readonly pushes: readonly Push[];
  readonly syncs: readonly Sync[];
  readonly permits: readonly Permit[];
}

/** What is asked of a file before it is trusted: the fields of fs.Stats of the same names. */
export interface FileStat {
  readonly mode: number;
  readonly uid: number;
  readonly size: number;
  readonly dev: number;
  readonly ino: number;
}

/** The file system, as far as the configuration needs it. Both calls throw what the system says. */
export interface FileSource {
  /** The user who reads, whose own files are as good as root's. */
  readonly uid: number;
  /** The directory of the service manager's credentials, if it said. */
  readonly credentials?: string | undefined;
  /** All of a file; throws if it is longer than `maxBytes`. */
  readFile(path: string, maxBytes: number): Buffer;
  /** Follows symbolic links. */
  stat(path: string): FileStat;
}

/** The longest token or name that an error text repeats. */
const SHOWN_MAX_CHARS = 60;

/** `text` in quotes for an error text: short, and without control characters. */
export function shown(text: string): string {
  const plain = text.replace(/[\0-\x1f\x7f]/g, '?');
  return plain.length > SHOWN_MAX_CHARS ? `'${plain.slice(0, SHOWN_MAX_CHARS)}...'` : `'${plain}'`;
}

/** One line: `file:line:column: message`. */
export function formatError(error: ConfigError): string {
  const place = error.line === 0 ? error.file : `${error.file}:${error.line}:${error.column}`;
  return `${place}: ${error.message}`.replace(/[\0-\x1f\x7f]/g, '?');
}
