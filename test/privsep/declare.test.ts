/** Declarations, users and what a thread's status must say, without processes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describe as words } from '../../src/error.ts';
import { childArguments } from '../../src/privsep/child.ts';
import { child, connectsAtStart, mayConnect } from '../../src/privsep/declare.ts';
import { proveStatus } from '../../src/privsep/threads.ts';
import { lookUpUser, parsePasswd } from '../../src/privsep/user.ts';

function refusal(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return words(error);
  }
  return assert.fail('nothing was refused');
}

describe('declarations', () => {
  const whole = (role: string, instance = '') =>
    child(role).instance(instance).user(1000).chroot('/var/empty').profile('worker');

  test('a complete one reads back', () => {
    const declared = whole('crypto', 'local/2')
      .talksTo('storage')
      .limit('nofile', 64)
      .settings({ a: 1 })
      .complete();
    assert.equal(declared.name, 'crypto local/2');
    assert.equal(declared.group, 'local');
    assert.deepEqual(declared.user, { uid: 1000, gid: 1000 });
    assert.deepEqual(declared.limits, { core: 0, nofile: 64 });
    assert.equal(whole('control').complete().name, 'control');
  });

  test('what is missing is named', () => {
    assert.equal(
      refusal(() => child('storage').complete()),
      'declare child storage: no user given',
    );
    assert.equal(
      refusal(() => child('storage').user(1).complete()),
      'declare child storage: no root directory given',
    );
    const unprofiled = child('storage').user(1).chroot('/x');
    assert.equal(
      refusal(() => unprofiled.complete()),
      'declare child storage: no system call profile given',
    );
    assert.match(
      refusal(() => whole('storage').chroot('relative').complete()),
      /relative is no absolute path/,
    );
    assert.match(
      refusal(() => child('-x')),
      /^declare child -x: not a name/,
    );
    assert.match(
      refusal(() => child('storage').instance('a\nb')),
      /unusable instance name/,
    );
  });

  test('root is nobody’s user', () => {
    for (const user of [0, '0', 'root', { uid: 1, gid: 0 }, { uid: 0, gid: 1 }] as const)
      assert.match(
        refusal(() => whole('storage').user(user).complete()),
        /^run child storage as .*: that is root/,
      );
    assert.match(
      refusal(() =>
        whole('storage')
          .user(2 ** 32 - 1)
          .complete(),
      ),
      /not an id/,
    );
    assert.match(
      refusal(() => whole('storage').user('no-such-user').complete()),
      /not in \/etc\/passwd \(create it/,
    );
  });

  test('who talks to whom: one side’s word is enough, and the group decides', () => {
    const chunker = whole('chunker', 'local').talksTo('crypto').complete();
    const crypto = whole('crypto', 'local/1').complete();
    const other = whole('crypto', 'remote/1').complete();
    const control = whole('control').mayTalkTo('chunker').complete();
    assert.equal(connectsAtStart(chunker, crypto), true);
    assert.equal(connectsAtStart(crypto, chunker), true);
    assert.equal(connectsAtStart(chunker, other), false);
    assert.equal(mayConnect(chunker, other), false);
    assert.equal(connectsAtStart(control, chunker), false);
    assert.equal(mayConnect(chunker, control), true);
    assert.equal(mayConnect(control, crypto), false);
  });
});

test('users are found in a passwd file', () => {
  const passwd =
    'root:x:0:0::/root:/bin/sh\n_plakard:x:900:901::/var/empty:/sbin/nologin\nbroken:x::1\n_plak:x:1\n';
  assert.deepEqual(parsePasswd(passwd, '_plakard'), { uid: 900, gid: 901 });
  for (const name of ['broken', '_plak', 'plakard', '']) assert.equal(parsePasswd(passwd, name), undefined);
  assert.deepEqual(lookUpUser('65534', 'x'), { uid: 65534, gid: 65534 });
});

test('arguments name a child', () => {
  assert.deepEqual(childArguments(['-x', 'storage', '-i', 'local']), { role: 'storage', instance: 'local' });
  assert.deepEqual(childArguments(['-x', 'control', '-i', '']), { role: 'control', instance: '' });
  assert.equal(childArguments(['-d', '-f', 'plakard.conf']), undefined);
  assert.equal(childArguments(['-x']), undefined);
});

describe('a thread’s status', () => {
  const status = (changes: Readonly<Record<string, string>> = {}): string => {
    const zero = '0'.repeat(16);
    const fields: Record<string, string> = {
      Tgid: '10',
      Uid: '5\t5\t5\t5',
      Gid: '6\t6\t6\t6',
      Groups: ' ',
      Threads: '3',
      CapInh: zero,
      CapPrm: zero,
      CapEff: zero,
      CapBnd: zero,
      CapAmb: zero,
      NoNewPrivs: '1',
      Seccomp: '2',
      ...changes,
    };
    return Object.entries(fields)
      .map(([name, value]) => `${name}:\t${value}\n`)
      .join('');
  };
  const expected = { uid: 5, gid: 6, capabilities: 0n };

  test('is proved', () => {
    proveStatus(status(), '11', 3, expected);
    const four = '0000000000000004';
    proveStatus(status({ CapPrm: four, CapEff: four }), '10', 3, { ...expected, capabilities: 4n });
    proveStatus(status(), '11', 3, { ...expected, capabilities: 4n });
  });

  test('is refused for any field that is not as it must be', () => {
    const wrong: Readonly<Record<string, string>> = {
      Uid: '5\t0\t5\t5',
      Gid: '6\t6\t0\t6',
      Groups: '0',
      Threads: '4',
      CapInh: '0000000000000001',
      CapPrm: '000001ffffffffff',
      CapEff: '0000000000000002',
      CapAmb: '0000000000000004',
      NoNewPrivs: '0',
      Seccomp: '0',
    };
    for (const [field, value] of Object.entries(wrong)) {
      const text = refusal(() => proveStatus(status({ [field]: value }), '11', 3, expected));
      assert(text.startsWith(`give up root: thread 11 has ${field} `), text);
    }
    assert.match(
      refusal(() => proveStatus('', '11', 3, expected)),
      /has Uid not at all/,
    );
    // the main thread must have what it was promised, and no other more than that
    assert.match(
      refusal(() => proveStatus(status(), '10', 3, { ...expected, capabilities: 4n })),
      /CapPrm/,
    );
  });
});
