/** What a process gives up is gone, on every thread; and src/sys works afterwards. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Failure } from '../../src/error.ts';
import * as sys from '../../src/sys/process.ts';

const UID = 12_345;

describe('process', () => {
  test('a confined process sees nothing else, regains nothing, and works', () => {
    const root = fs.mkdtempSync(path.join(os.tmpdir(), 'plakard-'));
    fs.writeFileSync(path.join(root, 'secret'), 'secret', { mode: 0o600 });
    const program = fileURLToPath(new URL('./confined.ts', import.meta.url));
    const { stdout, stderr, status } = spawnSync(process.execPath, [program, root], { encoding: 'utf8' });
    fs.rmSync(root, { recursive: true });
    assert.equal(stderr, '');
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), {
      name: 'plakard: a long',
      core: { soft: 0, hard: 0 },
      files: 100,
      noSeccompBefore: 'EACCES',
      uid: { real: UID, effective: UID, saved: UID },
      gid: { real: UID, effective: UID, saved: UID },
      // Node counts the group itself
      groups: [UID],
      capabilities: true,
      dumpable: false,
      noNewPrivs: true,
      setResUid: 'EPERM',
      setGroups: 'EPERM',
      chroot: 'EPERM',
      mkdir: 'ENOTTY',
      secret: 'secret',
      write: 'EACCES',
      outside: 'ENOENT',
      stat: true,
      directory: true,
      xattrs: 0,
      missing: 'ENOENT',
      descriptors: 1,
      memory: true,
      // the pool's threads were there before, and lost everything
      pool: 'EACCES',
    });
  });

  test('arguments that make no sense are failures that name the call', () => {
    assert.throws(() => sys.chrootTo(-1), { message: 'fchdir descriptor -1' });
    assert.throws(() => sys.setGroups(Array.from({ length: 2000 }, (_, i) => i)), Failure);
    assert.throws(() => sys.installSeccomp(Buffer.alloc(7)), Failure);
    assert.throws(() => sys.installSeccomp(Buffer.alloc(0)), Failure);
    assert.throws(() => sys.setRlimit(999, 1, 1), /prlimit64 limit 999/);
  });

  test('a limit may be none', () => {
    const RLIMIT_LOCKS = 10;
    const before = sys.getRlimit(RLIMIT_LOCKS);
    sys.setRlimit(RLIMIT_LOCKS, 5, Number.POSITIVE_INFINITY);
    assert.deepEqual(sys.getRlimit(RLIMIT_LOCKS), { soft: 5, hard: Number.POSITIVE_INFINITY });
    sys.setRlimit(RLIMIT_LOCKS, before.soft, before.hard);
  });
});
