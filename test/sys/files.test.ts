/** File calls: names as bytes, times, modes, devices, directories, holes, and that nothing is followed. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as k from '../../src/sys/constants.ts';
import * as e from '../../src/sys/errno.ts';
import * as files from '../../src/sys/files.ts';
import { addressOf, pinned } from '../../src/sys/foreign.ts';
import * as xattrs from '../../src/sys/xattrs.ts';

const name = (text: string): Buffer => Buffer.from(text, 'latin1');

describe('files', () => {
  const stat = new files.Stat();
  let root = '';
  let dir = -1;

  before(() => {
    root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    dir = fs.openSync(root, 'r');
  });
  after(() => {
    fs.closeSync(dir);
    fs.rmSync(root, { recursive: true });
  });

  function create(at: Buffer, mode = 0o644): number {
    const fd = files.openAt(dir, at, k.O_CREAT | k.O_EXCL | k.O_RDWR, mode);
    assert.ok(fd >= 0, e.errnoName(fd));
    return fd;
  }

  test('statx agrees with Node in every field', () => {
    const fd = create(name('stat'), 0o640);
    fs.writeSync(fd, 'x'.repeat(5000));
    assert.equal(files.statAt(dir, name('stat'), stat), 0);
    const node = fs.lstatSync(path.join(root, 'stat'), { bigint: true });
    assert.equal(BigInt(stat.mode), node.mode);
    assert.equal(stat.ino, node.ino);
    assert.equal(BigInt(stat.inoHigh) * 2n ** 32n + BigInt(stat.inoLow), node.ino);
    assert.equal(BigInt(stat.size), node.size);
    assert.equal(BigInt(stat.blocks), node.blocks);
    assert.equal(BigInt(stat.nlink), node.nlink);
    assert.equal(BigInt(stat.uid), node.uid);
    assert.equal(BigInt(stat.gid), node.gid);
    assert.equal(BigInt(stat.mtimeSec) * 10n ** 9n + BigInt(stat.mtimeNsec), node.mtimeNs);
    assert.equal(BigInt(stat.ctimeSec) * 10n ** 9n + BigInt(stat.ctimeNsec), node.ctimeNs);
    assert.equal(BigInt(stat.atimeSec) * 10n ** 9n + BigInt(stat.atimeNsec), node.atimeNs);
    const other = new files.Stat();
    assert.equal(files.statFd(fd, other), 0);
    assert.equal(other.ino, stat.ino);
    assert.equal(other.mountId, stat.mountId);
    fs.closeSync(fd);
  });

  test('every byte but NUL and slash makes a name', () => {
    for (let byte = 1; byte < 256; byte++) {
      if (byte === 0x2f) continue;
      const odd = Buffer.from([0x6e, byte]);
      fs.closeSync(create(odd));
      assert.equal(files.statAt(dir, odd, stat), 0);
      assert.equal(files.unlinkAt(dir, odd), 0);
    }
    assert.equal(files.statAt(dir, name('a\0b'), stat), -e.EINVAL);
    assert.equal(files.symlinkAt(name('a\0b'), dir, name('l')), -e.EINVAL);
    assert.equal(files.renameAt(dir, name('stat'), dir, name('a\0b')), -e.EINVAL);
    assert.equal(files.statAt(dir, name(''), stat), -e.ENOENT);
    assert.equal(files.statAt(dir, Buffer.alloc(4096, 'x'), stat), -e.ENAMETOOLONG);
    assert.equal(files.statAt(dir, Buffer.alloc(256, 'x'), stat), -e.ENAMETOOLONG);
  });

  test('a part of a longer buffer is a name', () => {
    fs.closeSync(create(name('part')));
    assert.equal(files.statAt(dir, name('xxpartyy'), stat, 2, 6), 0);
    assert.equal(files.statAt(dir, name('xxpartyy'), stat, 2, 7), -e.ENOENT);
    assert.equal(files.statAt(dir, name('xxpart'), stat, 2, 9), -e.EINVAL);
  });

  test('links are never followed', () => {
    assert.equal(files.symlinkAt(name('/etc/passwd'), dir, name('link')), 0);
    assert.equal(files.statAt(dir, name('link'), stat), 0);
    assert.equal(stat.mode & k.S_IFMT, k.S_IFLNK);
    assert.equal(files.openAt(dir, name('link'), k.O_RDONLY), -e.ELOOP);
    const target = Buffer.alloc(64);
    const length = files.readlinkAt(dir, name('link'), target);
    assert.equal(target.toString('latin1', 0, length), '/etc/passwd');
    const mode = fs.statSync('/etc/passwd').mode;
    assert.equal(files.chmodAt(dir, name('link'), 0o600), -e.ENOTSUP);
    assert.equal(files.chownAt(dir, name('link'), 12, 34), 0);
    assert.equal(files.utimensAt(dir, name('link'), 1, 0, -5, 7), 0);
    assert.equal(files.statAt(dir, name('link'), stat), 0);
    assert.deepEqual([stat.uid, stat.gid, stat.mtimeSec, stat.mtimeNsec], [12, 34, -5, 7]);
    assert.equal(files.linkAt(dir, name('link'), dir, name('hard')), 0);
    assert.equal(files.statAt(dir, name('hard'), stat), 0);
    assert.deepEqual([stat.mode & k.S_IFMT, stat.nlink], [k.S_IFLNK, 2]);
    assert.equal(fs.statSync('/etc/passwd').mode, mode);
    assert.equal(fs.statSync('/etc/passwd').uid, 0);
  });

  test('times before 1970 and after 2038, with nanoseconds, or left alone', () => {
    const fd = create(name('times'));
    for (const [sec, nsec] of [
      [-1, 999_999_999],
      [-2_147_483_647, 1],
      [0, 0],
      [4_294_967_296, 123_456_789],
      [15_032_385_534, 5],
    ] as const) {
      assert.equal(files.utimensFd(fd, 1, 2, sec, nsec), 0);
      assert.equal(files.statFd(fd, stat), 0);
      assert.deepEqual([stat.mtimeSec, stat.mtimeNsec], [sec, nsec]);
      assert.equal(files.utimensAt(dir, name('times'), 0, k.UTIME_OMIT, 0, k.UTIME_OMIT), 0);
      assert.equal(files.statFd(fd, stat), 0);
      assert.deepEqual([stat.atimeSec, stat.atimeNsec], [1, 2]);
    }
    fs.closeSync(fd);
  });

  test('modes with setuid bits, by descriptor, by name and through /proc', () => {
    const fd = create(name('mode'));
    assert.equal(files.chownFd(fd, 7, 8), 0);
    assert.equal(files.chmodFd(fd, 0o4711), 0);
    assert.equal(files.statFd(fd, stat), 0);
    assert.deepEqual([stat.mode & 0o7777, stat.uid, stat.gid], [0o4711, 7, 8]);
    assert.equal(files.chmodAt(dir, name('mode'), 0o2750), 0);
    assert.equal(files.statFd(fd, stat), 0);
    assert.equal(stat.mode & 0o7777, 0o2750);
    assert.equal(files.chmodThroughProc(dir, name('mode'), 0o1700), 0);
    assert.equal(files.statFd(fd, stat), 0);
    assert.equal(stat.mode & 0o7777, 0o1700);
    assert.equal(files.chmodThroughProc(dir, name('none'), 0o1700), -e.ENOENT);
    fs.closeSync(fd);
  });

  test('fifo, socket and devices', () => {
    assert.equal(files.mknodAt(dir, name('fifo'), k.S_IFIFO | 0o600, 0, 0), 0);
    assert.equal(files.mknodAt(dir, name('socket'), k.S_IFSOCK | 0o600, 0, 0), 0);
    assert.equal(files.mknodAt(dir, name('device'), k.S_IFCHR | 0o600, 0xfff, 0xfffff), 0);
    assert.equal(files.statAt(dir, name('device'), stat), 0);
    assert.deepEqual([stat.mode & k.S_IFMT, stat.rdevMajor, stat.rdevMinor], [k.S_IFCHR, 0xfff, 0xfffff]);
    assert.equal(files.mknodAt(dir, name('block'), k.S_IFBLK | 0o600, 8, 300), 0);
    assert.equal(files.statAt(dir, name('block'), stat), 0);
    assert.deepEqual([stat.mode & k.S_IFMT, stat.rdevMajor, stat.rdevMinor], [k.S_IFBLK, 8, 300]);
    assert.equal(files.mknodAt(dir, name('over'), k.S_IFCHR, 0x1000, 0), -e.EINVAL);
    assert.equal(files.mknodAt(dir, name('over'), k.S_IFCHR, 0, 0x100000), -e.EINVAL);
  });

  test('a directory read by its records has every name', () => {
    assert.equal(files.mkdirAt(dir, name('many'), 0o755), 0);
    const many = files.openAt(dir, name('many'), k.O_DIRECTORY);
    const wanted = new Set<string>();
    for (let i = 0; i < 3000; i++) {
      const one = `file-${i}-${'x'.repeat(i % 200)}`;
      wanted.add(one);
      fs.closeSync(files.openAt(many, name(one), k.O_CREAT | k.O_WRONLY, 0o600));
    }
    const buffer = Buffer.alloc(4096);
    let got = 0;
    for (
      let bytes = files.readDirectory(many, buffer);
      bytes > 0;
      bytes = files.readDirectory(many, buffer)
    ) {
      for (let at = 0; at < bytes; at += buffer.readUInt16LE(at + files.DIRECTORY_RECORD.length)) {
        const start = at + files.DIRECTORY_RECORD.name;
        const one = buffer.toString('latin1', start, buffer.indexOf(0, start));
        if (one === '.' || one === '..') continue;
        assert.equal(buffer[at + files.DIRECTORY_RECORD.type], k.DT_REG);
        assert.ok(wanted.delete(one), one);
        got++;
      }
    }
    assert.equal(got, 3000);
    assert.equal(wanted.size, 0);
    fs.closeSync(many);
    const file = create(name('no directory'));
    assert.equal(files.readDirectory(file, buffer), -e.ENOTDIR);
    fs.closeSync(file);
  });

  test('beneath means beneath', () => {
    const beneath = k.RESOLVE_BENEATH | k.RESOLVE_NO_MAGICLINKS;
    assert.equal(files.mkdirAt(dir, name('inside'), 0o755), 0);
    const inside = files.openAt(dir, name('inside'), k.O_DIRECTORY);
    assert.equal(files.symlinkAt(name('/etc/passwd'), inside, name('absolute')), 0);
    assert.equal(files.symlinkAt(name('../part'), inside, name('up')), 0);
    assert.equal(files.openBeneath(inside, name('../part'), k.O_RDONLY, 0, beneath), -e.EXDEV);
    assert.equal(files.openBeneath(inside, name('absolute'), k.O_RDONLY, 0, beneath), -e.EXDEV);
    assert.equal(files.openBeneath(inside, name('up'), k.O_RDONLY, 0, beneath), -e.EXDEV);
    const fd = files.openBeneath(dir, name('inside/../part'), k.O_RDONLY, 0, beneath);
    assert.ok(fd >= 0);
    fs.closeSync(fd);
    fs.closeSync(inside);
  });

  test('rename replaces only where it may; removal of files and directories', () => {
    fs.closeSync(create(name('one')));
    fs.closeSync(create(name('two')));
    assert.equal(files.renameAt(dir, name('one'), dir, name('two'), { replace: false }), -e.EEXIST);
    assert.equal(files.renameAt(dir, name('one'), dir, name('two')), 0);
    assert.equal(files.mkdirAt(dir, name('gone'), 0o700), 0);
    assert.equal(files.unlinkAt(dir, name('gone')), -e.EISDIR);
    assert.equal(files.unlinkAt(dir, name('gone'), true), 0);
    assert.equal(files.unlinkAt(dir, name('gone'), true), -e.ENOENT);
  });

  test('holes are found in a file of terabytes', () => {
    const fd = create(name('sparse'));
    const far = 5 * 2 ** 40;
    fs.writeSync(fd, 'data', far);
    assert.equal(files.seekData(fd, 0), far);
    assert.equal(files.seekHole(fd, far), far + 4);
    assert.equal(files.seekData(fd, far + 4), -e.ENXIO);
    assert.equal(files.statFd(fd, stat), 0);
    assert.equal(stat.size, far + 4);
    fs.closeSync(fd);
  });

  test('what is read ahead is read from the disk, once', () => {
    // on a disk, where the system's temporary directory may be in memory
    const file = path.join('/var/tmp', `plakard-ahead-${process.pid}`);
    const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_DIRECT, 0o600);
    try {
      // written past the page cache, it is in no memory
      const page = pinned(1 << 16);
      const skip = (4096 - (addressOf(page) % 4096)) % 4096;
      assert.equal(fs.writeSync(fd, page, skip, 8192, 0), 8192);
      assert.equal(files.setDirect(fd, false), 0);
      const before = files.blocksRead();
      files.readAhead(fd, 0, 1 << 20);
      const after = files.blocksRead();
      assert.ok(after > before, `${before} ${after}`);
      assert.equal(fs.readSync(fd, page, 0, 8192, 0), 8192);
      files.readAhead(fd, 0, 1 << 20);
      assert.equal(files.blocksRead(), after);
    } finally {
      fs.closeSync(fd);
      fs.unlinkSync(file);
    }
  });

  test('attributes by name, relative to the current directory, and by descriptor', () => {
    const back = fs.openSync('.', 'r');
    const fd = create(name('attributes'));
    assert.equal(files.changeDirectory(dir), 0);
    try {
      const buffer = Buffer.alloc(256);
      assert.equal(xattrs.listXattr(name('attributes'), buffer), 0);
      assert.equal(xattrs.setXattr(name('attributes'), name('user.a'), Buffer.from([0, 1, 2])), 0);
      assert.equal(xattrs.fsetXattr(fd, name('user.b'), Buffer.alloc(0)), 0);
      assert.equal(xattrs.fsetXattr(fd, name('user.b'), Buffer.alloc(0), k.XATTR_CREATE), -e.EEXIST);
      const length = xattrs.listXattr(name('attributes'), buffer);
      assert.deepEqual(
        buffer
          .toString('latin1', 0, length - 1)
          .split('\0')
          .sort(),
        ['user.a', 'user.b'],
      );
      assert.equal(xattrs.flistXattr(fd, Buffer.alloc(0)), length);
      assert.equal(xattrs.flistXattr(fd, Buffer.alloc(3)), -e.ERANGE);
      assert.equal(xattrs.getXattr(name('attributes'), name('user.a'), buffer), 3);
      assert.deepEqual(buffer.subarray(0, 3), Buffer.from([0, 1, 2]));
      assert.equal(xattrs.fgetXattr(fd, name('user.a'), Buffer.alloc(0)), 3);
      assert.equal(xattrs.fgetXattr(fd, name('user.c'), buffer), -e.ENODATA);
      assert.equal(xattrs.removeXattr(name('attributes'), name('user.a')), 0);
      assert.equal(xattrs.fremoveXattr(fd, name('user.b')), 0);
      assert.equal(xattrs.flistXattr(fd, buffer), 0);
      assert.equal(files.symlinkAt(name('attributes'), dir, name('to attributes')), 0);
      assert.equal(xattrs.setXattr(name('to attributes'), name('user.a'), buffer), -e.EPERM);
    } finally {
      files.changeDirectory(back);
      fs.closeSync(back);
      fs.closeSync(fd);
    }
  });

  test('errors say the call, the object and the reason', () => {
    const failure = e.errnoError(-e.EACCES, 'openat', '/x');
    assert.equal(String(failure.message), 'openat /x');
    assert.ok(failure.cause instanceof e.SystemError);
    assert.equal(failure.cause.message, 'EACCES: permission denied, openat');
    assert.deepEqual([failure.cause.code, failure.cause.errno], ['EACCES', -13]);
    assert.equal(e.errnoError(e.ENOSYS, 'openat2', '/x').remedy, 'needs Linux 5.6 or later');
    assert.equal(e.errnoError(e.ESTALE, 'statx', 'x').cause instanceof Error, true);
    assert.equal(e.errnoName(-4095), 'E4095');
  });

  test('descriptors opened here are closed on exec', () => {
    const fd = create(name('cloexec'));
    const listed = execFileSync('/bin/sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'latin1' });
    assert.ok(!listed.includes('cloexec'));
    fs.closeSync(fd);
  });
});
