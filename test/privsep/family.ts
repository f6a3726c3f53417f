/** A whole family of children as plakard has it, over program.ts. Used by the tests here. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { child, type Declaration } from '../../src/privsep/declare.ts';
import { Supervisor, type SupervisorOptions } from '../../src/privsep/supervise.ts';
import { DO, DONE } from './program.ts';

/** Threads of each crypto worker's pool; the other children have as many as libuv makes. */
export const POOL_THREADS = 2;
export const USERS = { plakard: 61001, plakarc: 61002, plakarq: { uid: 61003, gid: 61004 } } as const;
const MAIN = path.join(import.meta.dirname, 'program.ts');

/** Compiled once for all starts; what plakard's launcher does too. */
const cache = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
process.on('exit', () => fs.rmSync(cache, { recursive: true }));

export class Family extends Supervisor {
  /** holds the root directories */
  readonly directory: string;
  readonly lines: string[] = [];

  constructor(options: Partial<SupervisorOptions> = {}) {
    const output = (name: string, line: string): number => this.lines.push(`${name}: ${line}`);
    super({ main: MAIN, output, environment: { NODE_COMPILE_CACHE: cache }, ...options });
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    fs.chmodSync(this.directory, 0o755);
    for (const name of ['empty', 'source', 'repository']) fs.mkdirSync(this.path(name));
    fs.writeFileSync(this.path('source/secret'), 'root only', { mode: 0o600 });
    fs.writeFileSync(this.path('repository/pack'), 'sealed', { mode: 0o644 });
    fs.chownSync(this.path('repository'), USERS.plakarq.uid, USERS.plakarq.gid);
    this.atEnd(() => fs.rmSync(this.directory, { recursive: true }));
  }

  path(name: string): string {
    return path.join(this.directory, name);
  }

  /** Has a child do something; the answer's text, or its number where that is not 0. */
  async ask(name: string, what: string, about = '', numbers: number[] = []): Promise<string | number> {
    const { payload } = await this.channel(name).query(DO, { what, about, numbers }, DONE, {
      timeoutMs: 20_000,
    });
    return payload.number === 0 || payload.text !== '' ? payload.text : payload.number;
  }
}

/** Declarations as in plakard; `group` names a repository. */
export function control(family: Family): Declaration {
  return child('control')
    .user(USERS.plakard)
    .chroot(family.path('empty'))
    .profile('control')
    .mayTalkTo('storage');
}

export function scanner(family: Family, source = 'home'): Declaration {
  return child('scanner')
    .instance(source)
    .user(USERS.plakard)
    .chroot(family.path('source'))
    .profile('scanner')
    .capabilities('CAP_DAC_READ_SEARCH')
    .mayTalkTo('chunker', 'control')
    .startsAtOnce();
}

export function chunker(family: Family, group = 'local'): Declaration {
  const talker = child('chunker').instance(group).user(USERS.plakarc).chroot(family.path('empty'));
  return talker.profile('worker').talksTo('crypto', 'storage').limit('nofile', 512);
}

export function crypto(family: Family, group = 'local', number = 1): Declaration {
  const worker = child('crypto')
    .instance(`${group}/${number}`)
    .user(USERS.plakarc)
    .chroot(family.path('empty'));
  return worker.profile('worker').talksTo('storage').poolThreads(POOL_THREADS);
}

export function storage(family: Family, group = 'local'): Declaration {
  const keeper = child('storage').instance(group).user(USERS.plakarq).chroot(family.path('repository'));
  return keeper.profile('storage').settings({ repository: group, sizes: [1, 2 ** 40] });
}

export const NAMES = [
  'storage local',
  'crypto local/1',
  'crypto local/2',
  'chunker local',
  'scanner home',
  'control',
];

/** One of each, and two crypto workers. */
export function family(options: Partial<SupervisorOptions> = {}): Family {
  const made = new Family(options);
  made.declare(
    storage(made),
    crypto(made),
    crypto(made, 'local', 2),
    chunker(made),
    scanner(made),
    control(made),
  );
  return made;
}
