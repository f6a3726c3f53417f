import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { resolveGroup, resolveUser } from '../../src/config/config.ts';
import { describe as textOf } from '../../src/error.ts';

const passwd = () =>
  Buffer.from(`root:x:0:0:root:/root:/bin/sh
broken
half:x:12
_plakard:x:901:902::/var/empty:/sbin/nologin
odd:x:-1:99999999999:::
77:x:5000:5000:::`);
const group = () => Buffer.from('wheel:*:10:root\noperator:*:5:root\n');

describe('accounts', () => {
  test('by name, by number, and by a number that nobody has', () => {
    assert.deepEqual(resolveUser('_plakard', passwd), { uid: 901, gid: 902 });
    assert.deepEqual(resolveUser('901', passwd), { uid: 901, gid: 902 });
    assert.deepEqual(resolveUser('77', passwd), { uid: 77, gid: 77 });
    assert.equal(resolveGroup('operator', group), 5);
    assert.equal(resolveGroup('4711', group), 4711);
  });

  test('a missing or malformed one is refused, with what to do', () => {
    for (const name of ['_plakarq', 'half', 'odd', 'broken', '', '4294967295']) {
      assert.throws(
        () => resolveUser(name, passwd, 'storage'),
        (error) => {
          assert.match(
            textOf(error),
            /no such user \(make it with systemd-sysusers or adduser, or set user storage/,
          );
          return true;
        },
      );
    }
    assert.throws(() => resolveGroup('staff', group), /group 'staff'/);
  });
});
