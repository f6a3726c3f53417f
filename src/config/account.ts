/**
 * Users and groups by name: what `set user` and `set socket … group` name, as the
 * ids to become. The parent resolves them before it starts any child, and a name
 * that is not there is fatal: no child ever runs as somebody else.
 */

import { Failure } from '../error.ts';
import { shown } from './model.ts';
import { numericId } from './value.ts';

/** The longest passwd or group file. */
const ACCOUNTS_MAX_BYTES = 64 * 1024 * 1024;

/** Reads /etc/passwd or /etc/group, up to a length. */
export type AccountReader = (maxBytes: number) => Buffer;

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The ids of a user by name or number. A number that is not in passwd stands for
 * itself, and is then the group too. Throws a Failure with a remedy for `role`,
 * the child that should run as this user.
 */
export function resolveUser(nameOrNumber: string, readPasswd: AccountReader, role = 'ROLE'): User {
  const wanted = numericId(nameOrNumber);
  const [, , uid = wanted, gid = wanted] = entry(nameOrNumber, wanted, readPasswd).map(toId);
  if (uid === undefined || gid === undefined) {
    throw new Failure('user', shown(nameOrNumber), {
      cause: 'no such user',
      remedy: `make it with systemd-sysusers or adduser, or set user ${role} NUMBER`,
    });
  }
  return { uid, gid };
}

/** The id of a group by name or number. A number need not be in the group file. Throws a Failure. */
export function resolveGroup(nameOrNumber: string, readGroup: AccountReader): number {
  const wanted = numericId(nameOrNumber);
  if (wanted !== undefined) return wanted;
  const gid = entry(nameOrNumber, undefined, readGroup).map(toId)[2];
  if (gid !== undefined) return gid;
  throw new Failure('group', shown(nameOrNumber), {
    cause: 'no such group',
    remedy: 'make it with addgroup, or name one that exists',
  });
}

/** The fields of the account called `name` or numbered `id`; none if there is no such account. */
function entry(name: string, id: number | undefined, read: AccountReader): string[] {
  for (const line of read(ACCOUNTS_MAX_BYTES).toString('latin1').split('\n')) {
    const fields = line.split(':');
    if (fields[0] === name && id === undefined) return fields;
    if (id !== undefined && toId(fields[2]) === id) return fields;
  }
  return [];
}

function toId(field: string | undefined): number | undefined {
  return field === undefined ? undefined : numericId(field);
}
