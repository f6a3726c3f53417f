/** Numbers of errors: those that the kernel of this machine gives, and the words for them. */
import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { describe, test } from 'node:test';
import * as errno from '../../src/sys/errno.ts';

describe('errno', () => {
  test('every number is the one that the runtime was compiled with', () => {
    const known: Readonly<Record<string, number>> = constants.errno;
    const ours = Object.entries(errno).filter(([name]) => /^E[A-Z0-9]+$/.test(name));
    // the runtime has no name for this one
    const compared = ours.filter(([name]) => name !== 'ETOOMANYREFS');
    assert.ok(compared.length >= 20);
    for (const [name, number] of compared) assert.equal(number, known[name], name);
  });

  test('a number has its name, whatever its sign, and one that nobody knows is a name by itself', () => {
    assert.equal(errno.errnoName(13), 'EACCES');
    assert.equal(errno.errnoName(-13), 'EACCES');
    assert.equal(errno.errnoName(4000), 'E4000');
  });

  test('an error says call, object and words', () => {
    const { message, cause } = errno.errnoError(-errno.ENOENT, 'openat', 'etc/missing');
    assert.equal(message, 'openat etc/missing');
    assert.ok(cause instanceof errno.SystemError);
    assert.deepEqual([cause.code, cause.errno, cause.syscall], ['ENOENT', -2, 'openat']);
    assert.equal(cause.message, 'ENOENT: no such file or directory, openat');
  });
});
