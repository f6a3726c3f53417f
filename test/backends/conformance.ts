/** What src/backends/objects.ts promises, held against one backend. Each test gets an empty one. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import { type Backend, OBJECT_KINDS, type ObjectKind } from '../../src/backends/objects.ts';

/** A name that can be of `kind`. */
export function nameOf(kind: ObjectKind, digit = 'a'): string {
  const hex = (digits: number) => digit.repeat(digits);
  if (kind === 'config') return 'config';
  if (kind === 'keys') return hex(16);
  if (kind === 'snapshots') return [8, 4, 4, 4, 12].map(hex).join('-');
  return kind === 'log' ? `${hex(32)}-${hex(16)}` : hex(32);
}

const damaged = { name: 'Failure', kind: 'damaged' };

export function conformance(
  title: string,
  withBackend: (use: (backend: Backend) => Promise<void>) => Promise<void>,
): void {
  const check = (name: string, body: (backend: Backend) => Promise<void>) =>
    test(name, () => withBackend(body));

  describe(`${title}: objects`, () => {
    for (const kind of OBJECT_KINDS)
      check(`${kind}: put, get, stat, list, delete`, async (backend) => {
        const name = nameOf(kind);
        assert.equal(await backend.get(kind, name), undefined);
        assert.equal(await backend.stat(kind, name), undefined);
        assert.deepEqual(await backend.list(kind), []);
        assert.equal(await backend.delete(kind, name), false);
        assert.equal(
          await backend.put(kind, name, [Buffer.from('ab'), Buffer.alloc(0), Buffer.from('cd')]),
          true,
        );
        assert.deepEqual(await backend.get(kind, name), Buffer.from('abcd'));
        assert.equal(await backend.stat(kind, name), 4);
        assert.deepEqual(await backend.list(kind), [name]);
        assert.equal(await backend.delete(kind, name), true);
        assert.equal(await backend.get(kind, name), undefined);
        assert.deepEqual(await backend.list(kind), []);
      });

    check('kinds do not see each other', async (backend) => {
      await backend.put('packs', nameOf('packs'), [Buffer.from('pack')]);
      assert.equal(await backend.get('index', nameOf('index')), undefined);
      assert.deepEqual(await backend.list('leases'), []);
    });

    check('an empty object is not an absent one', async (backend) => {
      await backend.put('leases', nameOf('leases'), []);
      assert.deepEqual(await backend.get('leases', nameOf('leases')), Buffer.alloc(0));
      assert.equal(await backend.stat('leases', nameOf('leases')), 0);
    });

    check('ifAbsent lets the first win', async (backend) => {
      const put = (text: string) =>
        backend.put('index', nameOf('index'), [Buffer.from(text)], { ifAbsent: true });
      const won = await Promise.all(['a', 'b', 'c', 'd'].map(put));
      assert.equal(won.filter((first) => first).length, 1);
      assert.equal(await put('late'), false);
      const winner = ['a', 'b', 'c', 'd'][won.indexOf(true)];
      assert.equal((await backend.get('index', nameOf('index')))?.toString(), winner);
    });

    check('put without ifAbsent replaces', async (backend) => {
      await backend.put('leases', nameOf('leases'), [Buffer.from('old one')]);
      await backend.put('leases', nameOf('leases'), [Buffer.from('new')]);
      assert.equal((await backend.get('leases', nameOf('leases')))?.toString(), 'new');
    });

    check('many objects are all listed', async (backend) => {
      const names = Array.from({ length: 300 }, () => randomBytes(16).toString('hex'));
      for (const name of names) await backend.put('packs', name, [Buffer.from(name)]);
      assert.deepEqual((await backend.list('packs')).sort(), [...names].sort());
    });
  });

  describe(`${title}: ranges`, () => {
    check('give exactly what was asked for, or damage', async (backend) => {
      for (const kind of ['packs', 'index'] as const) {
        const name = nameOf(kind);
        const data = randomBytes(10_000);
        await backend.put(kind, name, [data]);
        for (const [offset, length] of [
          [0, 0],
          [0, 1],
          [9_999, 1],
          [5, 9_995],
          [10_000, 0],
        ] as const) {
          assert.deepEqual(
            await backend.get(kind, name, { offset, length }),
            data.subarray(offset, offset + length),
          );
          const out = Buffer.alloc(length);
          assert.equal(await backend.getInto(kind, name, offset, out), true);
          assert.deepEqual(out, data.subarray(offset, offset + length));
        }
        for (const [offset, length] of [
          [0, 10_001],
          [9_999, 2],
          [20_000, 1],
        ] as const) {
          await assert.rejects(backend.get(kind, name, { offset, length }), damaged);
          await assert.rejects(backend.getInto(kind, name, offset, Buffer.alloc(length)), damaged);
        }
        assert.equal(await backend.get(kind, nameOf(kind, 'b'), { offset: 0, length: 1 }), undefined);
        assert.equal(await backend.getInto(kind, nameOf(kind, 'b'), 0, Buffer.alloc(1)), false);
      }
    });

    check('an object that was read, removed and made again is the new one', async (backend) => {
      const name = nameOf('packs');
      await backend.put('packs', name, [Buffer.from('old')]);
      await backend.get('packs', name, { offset: 0, length: 3 });
      await backend.delete('packs', name);
      assert.equal(await backend.get('packs', name, { offset: 0, length: 3 }), undefined);
      await backend.put('packs', name, [Buffer.from('new')]);
      assert.equal((await backend.get('packs', name, { offset: 0, length: 3 }))?.toString(), 'new');
    });

    check('many packs are read at once', async (backend) => {
      const names = Array.from({ length: 40 }, () => randomBytes(16).toString('hex'));
      for (const name of names) await backend.put('packs', name, [Buffer.from(name)]);
      const reads = [...names, ...names, ...names].map(async (name) => {
        const out = Buffer.alloc(32);
        assert.equal(await backend.getInto('packs', name, 0, out), true);
        assert.equal(out.toString(), name);
      });
      await Promise.all(reads);
    });
  });

  describe(`${title}: writers`, () => {
    check('an object appears with its commit, whole', async (backend) => {
      const writer = backend.create('packs');
      const pieces = [1, 1_000_000, 0, 1 << 20, 12_345].map((bytes) => randomBytes(bytes));
      for (const piece of pieces) {
        const given = Buffer.from(piece);
        await writer.write(given);
        given.fill(0);
      }
      const whole = Buffer.concat(pieces);
      assert.equal(writer.sizeBytes, whole.length);
      assert.deepEqual(await backend.list('packs'), []);
      await writer.commit(nameOf('packs'));
      assert.deepEqual(await backend.get('packs', nameOf('packs')), whole);
    });

    check('an aborted one leaves nothing', async (backend) => {
      const writer = backend.create('packs');
      await writer.write(randomBytes(100));
      await writer.abort();
      assert.deepEqual(await backend.list('packs'), []);
      assert.deepEqual(await backend.leftovers(), []);
    });
  });

  describe(`${title}: names`, () => {
    for (const name of [
      '',
      '.',
      '..',
      '../x',
      'A'.repeat(32),
      'a'.repeat(31),
      `${'a'.repeat(32)}\n`,
      `${'a'.repeat(31)}/`,
      'config',
    ])
      check(`${JSON.stringify(name)} is refused as a pack`, async (backend) => {
        const refused = { name: 'Failure' };
        await assert.rejects(backend.get('packs', name), refused);
        await assert.rejects(backend.getInto('packs', name, 0, Buffer.alloc(1)), refused);
        await assert.rejects(backend.put('packs', name, []), refused);
        await assert.rejects(backend.stat('packs', name), refused);
        await assert.rejects(backend.delete('packs', name), refused);
        const writer = backend.create('packs');
        await assert.rejects(writer.commit(name), refused);
      });
  });
}
