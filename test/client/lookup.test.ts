/** Operands that name something in a snapshot, and how it is found. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { joinPath, lookUp, splitPath } from '../../src/client/lookup.ts';
import { parseSnapshot, parseTarget } from '../../src/client/operands.ts';
import { kindOf, describe as textOf } from '../../src/error.ts';
import { headerOf, ODD_NAME, plantTree, TestChunks } from './tree.ts';

describe('operands', () => {
  test('a colon parts the snapshot from the path, which may have more of them', () => {
    const target = parseTarget('cat', Buffer.from('99E5:/a:b'));
    assert.deepEqual([target.snapshot, String(target.path), target.shown], ['99e5', '/a:b', '99E5:/a:b']);
    assert.equal(parseTarget('ls', Buffer.from('latest')).path, undefined);
    assert.equal(parseTarget('ls', Buffer.from('latest:')).path?.length, 0);
  });

  test('what cannot name a snapshot is a usage error', () => {
    for (const operand of ['', 'home', '/etc', 'lat', '99e5x', `${'9'.repeat(37)}`, ':/x', '\x1b[2J'])
      assert.throws(
        () => parseTarget('ls', Buffer.from(operand)),
        (error) => kindOf(error) === 'usage',
      );
    assert.throws(() => parseSnapshot('rm', Buffer.from('latest:/x')), /rm latest:\/x/);
  });
});

test('paths are their names', () => {
  const names = (path: string) => splitPath(Buffer.from(path))?.map(String);
  assert.deepEqual(names(''), []);
  assert.deepEqual(names('/'), []);
  assert.deepEqual(names('//a/./b//'), ['a', 'b']);
  assert.deepEqual(names('a/...'), ['a', '...']);
  assert.equal(names('/a/../b'), undefined);
  assert.equal(String(joinPath([])), '/');
  assert.equal(String(joinPath([Buffer.from('a'), Buffer.from('b')])), '/a/b');
});

describe('finding', () => {
  const chunks = new TestChunks();
  const { root } = plantTree(chunks);
  const find = async (path: string | Buffer, paths = ['/bin']) => {
    const header = headerOf(root, { paths: paths.map((each) => Buffer.from(each)) });
    return lookUp(chunks, header, Buffer.from(path as string));
  };

  test('the root, files, and files below directories', async () => {
    assert.equal(String((await find(''))?.path), '/');
    assert.equal((await find('/sub/deep/x'))?.entry.size, 5);
    assert.equal(String((await find('sub//./deep'))?.path), '/sub/deep');
    const odd = await find(Buffer.concat([Buffer.from('/'), ODD_NAME]));
    assert.ok(odd?.entry.name().equals(ODD_NAME));
  });

  test("the source's own path may stand before", async () => {
    assert.equal(String((await find('/bin/sub/b.txt'))?.path), '/sub/b.txt');
    assert.equal(String((await find('/bin'))?.path), '/');
    assert.equal(String((await find('/sub', ['/sub']))?.path), '/sub', 'what is in the tree goes first');
    assert.equal(await find('/bin/sub', ['/bin', '/etc']), undefined);
    assert.equal(await find('/binsub'), undefined);
  });

  test('what is not there is undefined', async () => {
    for (const path of ['/nothing', '/a.txt/x', '/link/x', '/sub/../a.txt', '/lost/x', '/a.tx', '/a.txt0'])
      assert.equal(await find(path), undefined, path);
  });

  test('a symbolic link is found, and not followed', async () => {
    assert.equal(String((await find('/link'))?.entry.target()), 'a.txt');
  });

  test('damage on the way is said', async () => {
    const broken = new TestChunks();
    const planted = plantTree(broken);
    const sub = await lookUp(broken, headerOf(planted.root), Buffer.from('/sub'));
    broken.chunks.delete(sub?.entry.directory()?.id.toString('hex') ?? '');
    await assert.rejects(lookUp(broken, headerOf(planted.root), Buffer.from('/sub/b.txt')), (error) => {
      assert.equal(kindOf(error), 'damaged');
      return /missing/.test(textOf(error));
    });
  });
});
