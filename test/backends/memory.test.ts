import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryBackend } from '../../src/backends/memory.ts';
import { conformance, nameOf } from './conformance.ts';

conformance('memory', (use) => use(new MemoryBackend()));

describe('memory: faults', () => {
  const name = nameOf('index');

  test('a failure before a put leaves nothing, one after it loses only the answer', async () => {
    const backend = new MemoryBackend();
    const failing = (when: string) =>
      backend.setHook((operation) => {
        if (operation.call === 'put' && operation.when === when) throw new Error('connection reset');
      });
    failing('before');
    await assert.rejects(backend.put('index', name, [Buffer.from('a')]), { name: 'Failure' });
    assert.equal(await backend.get('index', name), undefined);
    failing('after');
    await assert.rejects(backend.put('index', name, [Buffer.from('a')]), { name: 'Failure' });
    backend.setHook(undefined);
    assert.equal(await backend.put('index', name, [Buffer.from('b')], { ifAbsent: true }), false);
    assert.equal((await backend.get('index', name))?.toString(), 'a');
  });

  test('a listing fails rather than being empty', async () => {
    const backend = new MemoryBackend(() => {
      throw new Error('page 2 is missing');
    });
    await assert.rejects(backend.list('packs'), { name: 'Failure' });
  });
});
