/** The quick start's configuration; npm start itself is what runs the rest. */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pathsBelow, quickstartConfiguration, sourceName } from '../../scripts/configuration.ts';

describe('the quick start', () => {
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
    assert.throws(() => quickstartConfiguration(paths, '/etc'), /quick start .*plakard\.sock/);
  });
});
