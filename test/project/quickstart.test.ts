/** The quick start's configuration; npm start itself is what runs the rest. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pathsBelow, quickstartConfiguration, sourceName } from '../../scripts/configuration.ts';
import { formatError, parseFile } from '../../src/config/config.ts';

/** What plakard makes of the configuration for `directory`. */
function parsed(top: string, directory: string): ReturnType<typeof parseFile> {
  const bytes = Buffer.from(quickstartConfiguration(pathsBelow(top), directory));
  const files = {
    uid: 0,
    readFile: () => bytes,
    stat: () => ({ mode: 0o100600, uid: 0, size: bytes.length, dev: 1, ino: 1 }),
  };
  return parseFile('plakard.conf', { files, host: 'here', system: 'Linux' });
}

describe('the quick start', () => {
  test('has a configuration that plakard understands, odd paths and all', () => {
    for (const directory of ['/etc', '/', '/a "b" \\c/$d/{e}#']) {
      const { configuration, errors } = parsed('/work/$x/quickstart', directory);
      assert.deepEqual(errors.map(formatError), []);
      assert.deepEqual(configuration?.sources[0]?.paths, [directory]);
      assert.equal(configuration?.socket.path, '/work/$x/quickstart/plakard.sock');
      assert.equal(configuration?.users.storage, '52003');
    }
  });

  test('names a source after its directory, with characters that a name may hold', () => {
    assert.equal(sourceName('/etc'), 'etc');
    assert.equal(sourceName('/home/a/My Documents'), 'My_Documents');
    assert.equal(sourceName('/home/a/.config'), 'source.config');
    assert.equal(sourceName('/'), 'source');
  });

  test('leaves itself out where the source holds it, and only there', () => {
    const paths = pathsBelow('/work/plakard/quickstart');
    assert.match(quickstartConfiguration(paths, '/work'), /exclude \{ "\/work\/plakard\/quickstart" \}/);
    assert.match(quickstartConfiguration(paths, '/'), /exclude/);
    assert.doesNotMatch(quickstartConfiguration(paths, '/wo'), /exclude/);
  });

  test('quotes paths, and refuses those that no configuration can hold', () => {
    const paths = pathsBelow('/work/quickstart');
    assert.match(quickstartConfiguration(paths, '/a "b"\\c'), /path "\/a \\"b\\"\\\\c"\n/);
    assert.throws(() => quickstartConfiguration(paths, '/a\nb'), { kind: 'usage' });
  });

  test('says so where the socket would not fit', () => {
    const paths = pathsBelow(`/${'long/'.repeat(25)}quickstart`);
    assert.throws(() => quickstartConfiguration(paths, '/etc'), /plakard\.sock/);
  });
});
