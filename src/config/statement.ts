/**
 * The statements of plakard.conf: a row each, in the tables that the grammar
 * reads by. A row says how a statement is written, and its action what it sets;
 * plakard.conf(5) describes them in this order. The drafts that the rows fill
 * become the configuration once a file has been read without a mistake.
 */

import { calendar } from './calendar.ts';
import { block, grammar, rowsFor } from './grammar.ts';
import { Mistake } from './input.ts';
import {
  CHECKS,
  type CheckDepth,
  type Compression,
  type Configuration,
  type Encryption,
  type Hook,
  type Keep,
  type KeepWhen,
  type Location,
  OPERATIONS,
  PERIOD_SECONDS,
  PERIODS,
  type Permit,
  type Push,
  type RateLimit,
  type Repository,
  ROLES,
  type Role,
  type Schedule,
  type Socket,
  type Source,
  type Sync,
  shown,
  type Watch,
} from './model.ts';
import type { NameKind } from './names.ts';
import { keepPolicy } from './policy.ts';
import {
  absolutePath,
  account,
  braced,
  checked,
  duration,
  integer,
  list,
  mode,
  oneOf,
  options,
  rateLimit,
  size,
  text,
  tidy,
  timeOfDay,
  type Value,
  wrongPath,
} from './value.ts';

const CPU_MAX = 1024;
/** Below this not even one segment of each kind fits. */
const MEMORY_MIN_BYTES = 16 * 1024 * 1024;
/** sun_path, without its NUL. */
const SOCKET_PATH_MAX_BYTES = 107;
const ZSTD_LEVEL_MAX = 22;
const DEFAULT_ZSTD_LEVEL = 1;
const SOURCE_PATHS_MAX = 64;
const HOOKS_MAX = 16;
/** Of one direction and place. */
const LIMITS_MAX = 16;
/** Sources with `watch`: the kernel allows a user 128 inotify instances by default. */
const WATCHED_MAX = 64;
const DEFAULT_SETTLE_S = 2;
const DEFAULT_SCAN_S = 86_400;
/** Pushes, syncs and permits, each. */
const ROWS_MAX = 4096;
/** A pattern or a command. */
const TEXT_MAX_BYTES = 4095;

const DEFAULT_SOCKET: Socket = { path: '/var/run/plakard.sock', mode: 0o660 };
/** systemd.exec(5), LoadCredential: where they are for plakard.service, if the environment says nothing else. */
const CREDENTIALS = '/run/credentials/plakard.service';
const DEFAULT_STATE = '/var/db/plakard';
const DEFAULT_USERS: Readonly<Record<Role, string>> = {
  control: '_plakard',
  scanner: '_plakard',
  chunker: '_plakarc',
  crypto: '_plakarc',
  storage: '_plakarq',
};

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type LimitsDraft = { readonly [way in 'read' | 'write']: RateLimit[] };

/** The configuration while it is read. */
interface Draft {
  cpu?: number;
  memoryBytes?: number;
  socket?: Socket;
  state?: string;
  log?: Configuration['log'];
  reload?: Configuration['reload'];
  metricsFile?: string;
  users: Partial<Record<Role, string>>;
  limits: LimitsDraft;
  repositories: Repository[];
  sources: Source[];
  pushes: Push[];
  syncs: Sync[];
  permits: Permit[];
}

export function newDraft(): Draft {
  return {
    users: {},
    limits: { read: [], write: [] },
    repositories: [],
    sources: [],
    pushes: [],
    syncs: [],
    permits: [],
  };
}

/** The draft with every default filled in. */
export function finish(draft: Draft): Configuration {
  return {
    ...draft,
    socket: draft.socket ?? DEFAULT_SOCKET,
    state: draft.state ?? DEFAULT_STATE,
    log: draft.log ?? 'text',
    reload: draft.reload ?? 'manual',
    users: { ...DEFAULT_USERS, ...draft.users },
  };
}

/** A name is shown by ps, and part of file names in the state directory. */
const anyName = text('a name of letters, digits, and . _ -', (found) =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(found) ? found : undefined,
);

/** A name that this statement defines, or one that some statement does. */
function name(kind: NameKind, use: 'declare' | 'refer'): Value<string> {
  return {
    expected: `the name of a ${kind}`,
    parse(input) {
      const { at } = input.peek();
      const found = anyName.parse(input);
      const wrong = input.session.names[use](kind, found, at);
      if (wrong !== undefined) throw new Mistake(at, wrong);
      return found;
    },
  };
}

const newRepository = name('repository', 'declare');
const newSource = name('source', 'declare');
const aRepository = name('repository', 'refer');
const aSource = name('source', 'refer');
const period = oneOf(PERIODS);
const direction = oneOf(['read', 'write']);
const anyAccount = account('user');

/** Kinds of repository that plakard knows of, but cannot serve yet. */
const LATER = /^(s3|ssh|sftp|tcp|http|https|sqlite|postgres|memory|null):/;

/** `/path` or `file:///path`. */
const location: Value<Location> = {
  expected: 'a location such as /var/plakard/local',
  parse(input) {
    const { at } = input.peek();
    const found = text(location.expected, (any) => any).parse(input);
    const later = LATER.exec(found)?.[1];
    if (later !== undefined) {
      throw new Mistake(at, `location ${shown(found)}: ${later} is not supported by this version`);
    }
    const plain = found.startsWith('file:///') ? found.slice('file://'.length) : found;
    if (!plain.startsWith('/')) {
      throw new Mistake(at, `location ${shown(found)} is neither an absolute path nor a known kind`);
    }
    const path = tidy(plain);
    const wrong = wrongPath(path);
    if (wrong !== undefined) throw new Mistake(at, wrong);
    return { kind: 'fs', path };
  },
};

/** Nothing, `every DURATION` or `at TIME`. */
const schedule: Value<Schedule | undefined> = {
  expected: `'every' or 'at'`,
  parse(input) {
    if (input.accept('every')) return { kind: 'every', seconds: duration.parse(input) };
    if (input.accept('at')) return calendar.parse(input);
    return undefined;
  },
};

/** A schedule, which there must be. */
const someSchedule: Value<Schedule> = {
  expected: schedule.expected,
  parse(input) {
    const found = schedule.parse(input);
    if (found === undefined) throw input.unexpected(schedule.expected);
    return found;
  },
};

/** Nothing, a schedule, or `after push`. */
const keepWhen: Value<KeepWhen | undefined> = {
  expected: `'every', 'at' or 'after push'`,
  parse(input) {
    if (!input.accept('after')) return schedule.parse(input);
    if (!input.accept('push')) throw input.unexpected(shown('push'));
    return { kind: 'after push' };
  },
};

/** `fast daily`, `full at 03:00 on sunday`. */
const checkRule: Value<readonly [CheckDepth, Schedule]> = {
  expected: `a rule such as 'fast daily'`,
  parse(input) {
    const depth = oneOf(CHECKS).parse(input);
    const when = schedule.parse(input);
    return [depth, when ?? { kind: 'every', seconds: PERIOD_SECONDS[period.parse(input)] }];
  },
};

const newWatch = options({ settle: duration, scan: duration });

/** Text of which `holds` says whether there is anything in it. */
const bounded = (expected: string, holds: (found: string) => boolean): Value<string> =>
  checked(
    text(expected, (found) => (holds(found) ? found : undefined)),
    (found) => (Buffer.byteLength(found) > TEXT_MAX_BYTES ? `${expected} is too long` : undefined),
  );

/** Without the `!` before it and the `/` after it a pattern still has to match something. */
const pattern = bounded('a pattern', (found) => found.replace(/^!/, '').replace(/\/$/, '') !== '');
const command = bounded('a command', (found) => found.trim() !== '');

/** Adds a limit to those of its direction, of which each holds at a time of its own. */
function addLimit({ draft, once, mistake }: Adding, way: 'read' | 'write', limit: RateLimit): void {
  const { between } = limit;
  once(
    `limit ${way}${between === undefined ? '' : ` between ${timeOfDay(between.from)} and ${timeOfDay(between.to)}`}`,
  );
  const limits = draft.limits[way];
  if (limits.length >= LIMITS_MAX) throw mistake(`more than ${LIMITS_MAX} limits`);
  limits.push(limit);
}

interface Adding {
  readonly draft: { readonly limits: LimitsDraft };
  readonly once: (what: string) => void;
  readonly mistake: (what: string) => Mistake;
}

/** A secret that the service manager passes: its name, and the file that it is in. */
const credential: Value<{ readonly path: string; readonly credential: string }> = {
  expected: 'the name of a credential',
  parse(input) {
    const name = text(credential.expected, (found) =>
      /^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/.test(found) ? found : undefined,
    ).parse(input);
    return { path: `${input.session.files.credentials ?? CREDENTIALS}/${name}`, credential: name };
  },
};

interface RepositoryDraft {
  encryption?: Encryption;
  compression?: Compression;
  keep?: Keep;
  keepWhen?: KeepWhen;
  checks: { [depth in CheckDepth]?: Schedule };
  cleanup?: Schedule;
  limits: LimitsDraft;
}

const inRepository = rowsFor<RepositoryDraft>();

const REPOSITORY = grammar<RepositoryDraft>([
  inRepository(['passphrase', 'file', absolutePath()], ({ draft, at, once }, path) => {
    once('passphrase, key or no encryption');
    draft.encryption = { kind: 'passphrase', path, at };
  }),
  inRepository(['key', 'file', absolutePath()], ({ draft, at, once }, path) => {
    once('passphrase, key or no encryption');
    draft.encryption = { kind: 'keyfile', path, at };
  }),
  inRepository(['passphrase', 'credential', credential], ({ draft, at, once }, given) => {
    once('passphrase, key or no encryption');
    draft.encryption = { kind: 'passphrase', ...given, at };
  }),
  inRepository(['key', 'credential', credential], ({ draft, at, once }, given) => {
    once('passphrase, key or no encryption');
    draft.encryption = { kind: 'keyfile', ...given, at };
  }),
  inRepository(['no', 'encryption'], ({ draft, once }) => {
    once('passphrase, key or no encryption');
    draft.encryption = { kind: 'none' };
  }),
  inRepository(['compression', 'zstd', integer(1, ZSTD_LEVEL_MAX)], ({ draft, once }, level) => {
    once('compression');
    draft.compression = { kind: 'zstd', level };
  }),
  inRepository(['compression', 'none'], ({ draft, once }) => {
    once('compression');
    draft.compression = { kind: 'none' };
  }),
  inRepository(['keep', keepPolicy, keepWhen], ({ draft, once }, keep, when) => {
    once('keep');
    draft.keep = keep;
    if (when !== undefined) draft.keepWhen = when;
  }),
  inRepository(['check', list(checkRule)], ({ draft, once }, rules) => {
    for (const [depth, when] of rules) {
      once(`check ${depth}`);
      draft.checks[depth] = when;
    }
  }),
  inRepository(['cleanup', someSchedule], ({ draft, once }, when) => {
    once('cleanup');
    draft.cleanup = when;
  }),
  inRepository(['limit', direction, rateLimit], addLimit),
]);

interface SourceDraft {
  paths: string[];
  excludes: string[];
  oneFilesystem: boolean;
  watch?: Watch;
  before: Hook[];
  after: Hook[];
}

const inSource = rowsFor<SourceDraft>();

const SOURCE = grammar<SourceDraft>([
  inSource(['path', list(absolutePath())], ({ draft, mistake }, paths) => {
    for (const path of paths) {
      if (draft.paths.includes(path)) throw mistake(`path ${shown(path)} is given twice`);
      if (draft.paths.length >= SOURCE_PATHS_MAX) throw mistake(`more than ${SOURCE_PATHS_MAX} paths`);
      draft.paths.push(path);
    }
  }),
  inSource(['exclude', list(pattern)], ({ draft, mistake }, patterns) => {
    if (draft.excludes.length + patterns.length > ROWS_MAX) throw mistake(`more than ${ROWS_MAX} patterns`);
    draft.excludes.push(...patterns);
  }),
  inSource(['one', 'filesystem'], ({ draft, once }) => {
    once('one filesystem');
    draft.oneFilesystem = true;
  }),
  inSource(['watch', newWatch], ({ draft, once }, given) => {
    once('watch');
    const { settle = DEFAULT_SETTLE_S, scan = DEFAULT_SCAN_S } = given;
    draft.watch = { settleSeconds: settle, scanSeconds: scan };
  }),
  inSource(
    ['run', oneOf(['before', 'after']), command, 'as', anyAccount],
    ({ draft, mistake }, when, line, user) => {
      if (draft[when].length >= HOOKS_MAX) throw mistake(`more than ${HOOKS_MAX} commands to run ${when}`);
      draft[when].push({ command: line, user });
    },
  ),
]);

const newRepositoryDraft = (): RepositoryDraft => ({ checks: {}, limits: { read: [], write: [] } });
const newSourceDraft = (): SourceDraft => ({
  paths: [],
  excludes: [],
  oneFilesystem: false,
  before: [],
  after: [],
});

const top = rowsFor<Draft>();

export const STATEMENTS = grammar<Draft>(
  [
    top(['set', 'cpu', integer(1, CPU_MAX)], ({ draft, once }, cpu) => {
      once('set cpu');
      draft.cpu = cpu;
    }),
    top(['set', 'memory', size(MEMORY_MIN_BYTES)], ({ draft, once }, memoryBytes) => {
      once('set memory');
      draft.memoryBytes = memoryBytes;
    }),
    top(
      ['set', 'socket', absolutePath(SOCKET_PATH_MAX_BYTES), options({ group: account('group'), mode })],
      ({ draft, once }, path, given) => {
        once('set socket');
        draft.socket = { ...DEFAULT_SOCKET, ...given, path };
      },
    ),
    top(['set', 'state', absolutePath()], ({ draft, once }, path) => {
      once('set state');
      draft.state = path;
    }),
    top(
      ['set', 'user', oneOf(ROLES), account('user', { unprivileged: true })],
      ({ draft, once }, role, user) => {
        once(`set user ${role}`);
        draft.users[role] = user;
      },
    ),
    top(['set', 'log', oneOf(['json', 'text'])], ({ draft, once }, log) => {
      once('set log');
      draft.log = log;
    }),
    top(['set', 'reload', oneOf(['automatic', 'manual'])], ({ draft, once }, reload) => {
      once('set reload');
      draft.reload = reload;
    }),
    top(['set', 'metrics', 'file', absolutePath()], ({ draft, once }, path) => {
      once('set metrics file');
      draft.metricsFile = path;
    }),
    top(['limit', direction, rateLimit], addLimit),
    top(
      ['repository', newRepository, 'at', location, block(REPOSITORY, newRepositoryDraft)],
      ({ draft, at, sound, mistake }, repository, where, { encryption, compression, ...rest }) => {
        const called = `repository ${shown(repository)}`;
        if (encryption === undefined) {
          if (!sound) return;
          throw mistake(`${called} needs a 'passphrase file', a 'key file' or 'no encryption'`);
        }
        const same = draft.repositories.find((other) => other.location.path === where.path);
        if (same !== undefined)
          throw mistake(`${called} is where ${shown(same.name)} is: ${shown(where.path)}`);
        draft.repositories.push({
          name: repository,
          location: where,
          encryption,
          compression: compression ?? { kind: 'zstd', level: DEFAULT_ZSTD_LEVEL },
          ...rest,
          at,
        });
      },
    ),
    top(
      ['source', newSource, block(SOURCE, newSourceDraft)],
      ({ draft, at, sound, mistake }, source, contents) => {
        const called = `source ${shown(source)}`;
        if (contents.paths.length === 0 && sound) throw mistake(`${called} needs a 'path'`);
        // what runs before a push may change what is watched, and so have it pushed for ever
        if (contents.watch !== undefined && contents.before.length > 0)
          throw mistake(`${called} cannot have both 'watch' and 'run before'`);
        const watched = draft.sources.filter(({ watch }) => watch !== undefined).length;
        if (contents.watch !== undefined && watched >= WATCHED_MAX)
          throw mistake(`more than ${WATCHED_MAX} sources are watched`);
        draft.sources.push({ name: source, ...contents, at });
      },
    ),
    top(
      ['push', aSource, 'to', aRepository, schedule],
      ({ draft, at, once, mistake }, source, repository, when) => {
        once(`push ${source} to ${repository}`);
        if (draft.pushes.length >= ROWS_MAX) throw mistake(`more than ${ROWS_MAX} pushes`);
        draft.pushes.push({ source, repository, ...(when && { schedule: when }), at });
      },
    ),
    top(
      ['sync', aRepository, oneOf(['to', 'from', 'with']), aRepository, schedule],
      ({ draft, at, once, mistake }, repository, way, other, when) => {
        once(`sync ${repository} ${way} ${other}`);
        if (repository === other)
          throw mistake(`repository ${shown(other)} cannot be synchronized with itself`);
        if (draft.syncs.length >= ROWS_MAX) throw mistake(`more than ${ROWS_MAX} of sync`);
        draft.syncs.push({ repository, direction: way, other, ...(when && { schedule: when }), at });
      },
    ),
    top(
      [
        'permit',
        oneOf(['user', 'group']),
        anyAccount,
        braced(oneOf(OPERATIONS)),
        options({ source: aSource, on: aRepository }),
      ],
      ({ draft, at, mistake }, subject, who, operations, { source, on }) => {
        if (draft.permits.length >= ROWS_MAX) throw mistake(`more than ${ROWS_MAX} permits`);
        const permit: Mutable<Permit> = { subject, name: who, operations: [...new Set(operations)], at };
        if (source !== undefined) permit.source = source;
        if (on !== undefined) permit.repository = on;
        draft.permits.push(permit);
      },
    ),
  ],
  { top: true },
);
