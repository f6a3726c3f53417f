/**
 * Whom a child runs as. Used by declare.ts.
 *
 * Names are looked up in /etc/passwd itself: daemon users live there, and a
 * name service would have to be loaded and could be away when it is needed.
 */
import fs from 'node:fs';
import { Failure } from '../error.ts';

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/** 2^32-1 means "no change" to setresuid, 2^32-2 is the overflow id of some file systems but a valid user. */
const ID_MAX = 0xffff_fffe;
const PASSWD = '/etc/passwd';
const PASSWD_MAX_BYTES = 16 << 20;

function checked(user: User, text: string, name: string): User {
  for (const id of [user.uid, user.gid]) {
    if (!Number.isInteger(id) || id < 1 || id > ID_MAX) {
      const cause = id === 0 ? 'that is root' : 'not an id';
      throw new Failure('run child', `${name} as ${text}`, { cause, remedy: 'give it a user of its own' });
    }
  }
  return { uid: user.uid, gid: user.gid };
}

/** The entry of `name` in the text of a passwd file. */
export function parsePasswd(text: string, name: string): User | undefined {
  for (const line of text.split('\n')) {
    const [entry, , uid, gid] = line.split(':');
    if (entry === name && uid !== undefined && gid !== undefined && /^\d+$/.test(uid) && /^\d+$/.test(gid))
      return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

/**
 * The ids of a user given by name, by number (then also the group's) or by
 * both ids; root is refused. `child` names the child in errors.
 */
export function lookUpUser(user: string | number | User, child: string): User {
  if (typeof user === 'number') return checked({ uid: user, gid: user }, String(user), child);
  if (typeof user === 'object') return checked(user, `${user.uid}:${user.gid}`, child);
  if (/^\d+$/.test(user)) return checked({ uid: Number(user), gid: Number(user) }, user, child);
  if (fs.statSync(PASSWD).size > PASSWD_MAX_BYTES)
    throw new Failure('look up user', user, { cause: `${PASSWD} is too large` });
  const found = parsePasswd(fs.readFileSync(PASSWD, 'utf8'), user);
  if (found === undefined) {
    throw new Failure('look up user', user, {
      cause: `not in ${PASSWD}`,
      remedy: `create it with: useradd -r -s /usr/sbin/nologin -d /var/empty ${user}`,
    });
  }
  return checked(found, user, child);
}
