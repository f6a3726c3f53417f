/** Opening configured paths: only links of root's lead anywhere. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { describe as describeError } from '../../src/error.ts';
import { openDirectory, walkToDirectory } from '../../src/sys/path.ts';

const STRANGER = 61042;

describe('a configured path', () => {
  const top = fs.mkdtempSync(path.join(fs.realpathSync(os.tmpdir()), 'plakard-'));
  const at = (...names: string[]): string => path.join(top, ...names);
  fs.mkdirSync(at('home', 'docs'), { recursive: true });
  fs.mkdirSync(at('secret', 'docs'), { recursive: true });
  fs.writeFileSync(at('home', 'file'), '');
  const link = (target: string, name: string, uid = 0): void => {
    fs.symlinkSync(target, at(name));
    fs.lchownSync(at(name), uid, uid);
  };
  link('home', 'relative');
  link(at('home'), 'absolute');
  link('relative/docs/..', 'up');
  link('absolute', 'chain');
  link('loop', 'loop');
  link(at('secret'), 'theirs', STRANGER);
  link('theirs', 'through');
  link('/proc/self/root', 'magic');
  after(() => fs.rmSync(top, { recursive: true }));

  const opens = [
    ['openat2', openDirectory],
    ['name by name', walkToDirectory],
  ] as const;
  for (const [how, open] of opens) {
    const reached = (name: string): string => {
      const fd = open(name);
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`);
      } finally {
        fs.closeSync(fd);
      }
    };
    const refusal = (name: string): string => {
      try {
        fs.closeSync(open(name));
      } catch (error) {
        return describeError(error);
      }
      return assert.fail(`${name} was opened`);
    };

    test(`${how}: directories, and what root's links lead to`, () => {
      assert.equal(reached('/'), '/');
      assert.equal(reached(at('home', 'docs')), at('home', 'docs'));
      for (const name of ['relative', 'absolute', 'up', 'chain'])
        assert.equal(reached(at(name, 'docs')), at('home', 'docs'), name);
      assert.equal(reached(`${top}//home/./docs/../docs/`), at('home', 'docs'));
    });

    test(`${how}: a link of somebody else's is refused by name, wherever it stands`, () => {
      for (const name of ['theirs', 'through'])
        assert.equal(
          refusal(at(name, 'docs')),
          `follow link ${at('theirs')}: it belongs to user ${STRANGER}, who could have it lead anywhere ` +
            '(name the path that it leads to, or make it root’s)',
        );
    });

    test(`${how}: loops, links of /proc's, files and what is missing`, () => {
      assert.match(refusal(at('loop', 'docs')), /^follow links .*more than 40$/);
      assert.doesNotMatch(refusal('/proc/self/exe/x'), /was opened/);
      assert.match(refusal(at('home', 'file')), /not a directory/);
      assert.match(refusal(at('none')), /no such file or directory/);
    });
  }

  test('a link at the end is followed for a root directory, and never by a walk', () => {
    fs.closeSync(openDirectory(at('absolute')));
    assert.throws(() => openDirectory(at('theirs')), /follow link/);
    assert.throws(() => walkToDirectory(at('absolute')), /open/);
  });

  test('a link of /proc’s leads nowhere', () => {
    // /proc/self/root is root's by the look of it, and readable as a path: it is taken as that, and never as itself
    const fd = openDirectory(at('magic', 'etc'));
    assert.equal(fs.readlinkSync(`/proc/self/fd/${fd}`), '/etc');
    fs.closeSync(fd);
  });

  test('no descriptor is left open by any of it', () => {
    const count = (): number => fs.readdirSync('/proc/self/fd').length;
    const before = count();
    for (const name of ['theirs/docs', 'loop/docs', 'none', 'home/file', 'up/docs'])
      for (const [, open] of opens)
        try {
          fs.closeSync(open(at(name)));
        } catch {
          // it was refused, which is tested above
        }
    assert.equal(count(), before);
  });
});
