/** Everything that a file system can hold comes back as it was. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MemoryChunks } from '../../src/snapshot/chunks.ts';
import { utimensAt } from '../../src/sys/files.ts';
import { pullTree, scan, scratch } from './plant.ts';

const AT_FDCWD = -100;

function sh(directory: string, script: string): void {
  execFileSync('/bin/bash', ['-ec', script], { cwd: directory });
}

/** What rsync would have to change to make `copy` the same as `original`; empty if nothing. */
function differences(original: string, copy: string): string {
  const options = ['-aHAXn', '--delete', '--itemize-changes', '--checksum', '--specials', '--devices'];
  return execFileSync('rsync', [...options, `${original}/`, `${copy}/`], { encoding: 'utf8' });
}

/** Plants with `script`, restores into an empty directory and compares in both ways. */
async function roundTrip(
  t: { after: (fn: () => void) => void },
  plant: (directory: string) => void,
  byRsync = true,
) {
  const base = scratch(t);
  const original = path.join(base, 'original');
  const copy = path.join(base, 'copy');
  fs.mkdirSync(original);
  fs.mkdirSync(copy);
  plant(original);
  const chunks = new MemoryChunks();
  const root = scan(original, chunks);
  const result = await pullTree(chunks, root, copy);
  assert.deepEqual(
    result.problems.map(({ failure }) => String(failure)),
    [],
  );
  assert.equal(result.worst, undefined);
  if (byRsync) assert.equal(differences(original, copy), '');
  assert.deepEqual(scan(copy, new MemoryChunks()), root);
  return { original, copy, result };
}

describe('round trip', () => {
  test('files, empty files and directories, modes and owners', async (t) => {
    const { result } = await roundTrip(t, (directory) =>
      sh(
        directory,
        `mkdir -p a/b/c d; echo hello >a/b/c/file; : >empty; head -c 100000 /dev/urandom >a/random
         echo s >setuid; chown 1234:4321 setuid; chmod 6755 setuid; echo t >own; chown 7:8 own; chmod 4711 own
         chmod 000 a/random; chmod 3777 d; chown 99:98 d; echo r >readonly; chmod 400 readonly; chmod 2750 a/b`,
      ),
    );
    assert.equal(result.counts.files, 6);
    assert.equal(result.counts.directories, 4);
  });

  test('hard links, within and across directories, also of links and fifos', async (t) => {
    const { copy, result } = await roundTrip(t, (directory) =>
      sh(
        directory,
        `mkdir -p a/b z; echo one >a/b/one; ln a/b/one two; ln a/b/one z/three; ln -s nowhere l; ln l z/l2
         mkfifo f; ln f a/f2; head -c 3000000 /dev/urandom >big; ln big z/big2; : >e; ln e a/e2`,
      ),
    );
    assert.equal(result.counts.links, 6);
    assert.equal(fs.statSync(path.join(copy, 'two')).nlink, 3);
  });

  test('every byte in names, and the longest', async (t) => {
    await roundTrip(t, (directory) => {
      const prefix = Buffer.from(`${directory}/`);
      for (let byte = 1; byte < 256; byte++)
        if (byte !== 0x2f && byte !== 0x2e)
          fs.writeFileSync(Buffer.concat([prefix, Buffer.of(byte)]), `byte ${byte}`);
      fs.writeFileSync(Buffer.concat([prefix, Buffer.alloc(255, 0xff)]), 'long');
      fs.mkdirSync(Buffer.concat([prefix, Buffer.alloc(255, 0xfe)]));
      fs.writeFileSync(Buffer.concat([prefix, Buffer.from('line\nfeed')]), 'x');
    });
  });

  test('symlinks with owners and times, fifos, sockets and devices', async (t) => {
    await roundTrip(t, (directory) =>
      sh(
        directory,
        `ln -s /etc/passwd absolute; ln -s ../.. up; ln -s "$(printf 'a\\nb')" newline; chown -h 12:13 up
         touch -h -d '1999-12-31 23:59:59.123456789' up; mkfifo -m 0640 fifo; chown 5:6 fifo; touch -d 1980-01-01 fifo
         mknod -m 0600 null c 1 3; mknod block b 259 1048575; chown 1:2 null
         python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('socket')"; chmod 1777 socket`,
      ),
    );
  });

  test('times before 1970, after 2038, to the nanosecond', async (t) => {
    await roundTrip(t, (directory) => {
      const seconds = [-2147483648, -1, 0, 2147483648, 15032385535];
      for (const second of seconds) {
        const name = Buffer.from(path.join(directory, `t${second}`));
        fs.writeFileSync(name, `${second}`);
        assert.equal(utimensAt(AT_FDCWD, name, 0, 0, second, 999_999_999), 0);
      }
      fs.mkdirSync(path.join(directory, 'd'));
      fs.writeFileSync(path.join(directory, 'd/x'), '');
      assert.equal(utimensAt(AT_FDCWD, Buffer.from(path.join(directory, 'd')), 0, 0, -1, 1), 0);
    });
  });

  test('xattrs, ACLs, default ACLs and capabilities', async (t) => {
    await roundTrip(t, (directory) =>
      sh(
        directory,
        `echo x >f; setfattr -n user.one -v 1 f; setfattr -n user.empty f; setfattr -n trusted.t -v 0x00ff f
         mkdir d; setfacl -m u:1234:rwx,g:55:r,m::rw d; setfacl -d -m u:77:r d; setfattr -n user.dir -v d d
         echo y >d/acl; setfacl -b d/acl; echo z >d/inherits; mkdir d/e; ln -s f l; setfattr -h -n trusted.l -v l l
         mkfifo p; setfacl -m u:9:rw p; echo c >cap; chown 3:4 cap; chmod 4755 cap
         setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 cap
         setfacl -m u:55:rwx .; setfattr -n user.root -v r .`,
      ),
    );
  });

  test('sparse files stay sparse, however big', async (t) => {
    const { copy } = await roundTrip(
      t,
      (directory) =>
        sh(
          directory,
          `truncate -s 8T huge; printf end | dd of=middle bs=1 seek=5G conv=notrunc status=none; truncate -s 6G middle
         truncate -s 1M hole; (head -c 300000 /dev/urandom; head -c 700000 /dev/zero) >zeros
         dd if=/dev/urandom of=start bs=1M count=2 status=none; truncate -s 10G start`,
        ),
      // rsync would read the holes
      false,
    );
    assert.equal(fs.statSync(path.join(copy, 'huge')).blocks, 0);
    assert.ok(fs.statSync(path.join(copy, 'middle')).blocks < 100);
  });

  test('a file of more chunks than its entry holds', async (t) => {
    await roundTrip(t, (directory) =>
      fs.writeFileSync(path.join(directory, 'f'), Buffer.alloc(40 << 20, 'chunks')),
    );
  });
});
